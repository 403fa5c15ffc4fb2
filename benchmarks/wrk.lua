-- SPDX-License-Identifier: MIT
-- Prints wrk's summary as one line of JSON. `request` and `response` are not defined, so that wrk
-- sends one prepared request and spends nothing in Lua while it runs.
done = function(summary, latency, requests)
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d, ' ..
    '"p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, summary.errors.connect, summary.errors.read, summary.errors.write,
    summary.errors.timeout, summary.errors.status, latency:percentile(50), latency:percentile(99)))
end
