-- SPDX-License-Identifier: MIT
-- Prints wrk's summary as one line of JSON. What is asked for comes from the environment: BENCH_BODY is the length
-- of an upload, BENCH_VARY asks for requests of which no two are alike.
local length = tonumber(os.getenv("BENCH_BODY") or "0")
if length > 0 then
  wrk.method = "POST"
  wrk.body = string.rep("u", length)
  wrk.headers["Content-Type"] = "application/octet-stream"
end

-- `request` is defined only where it is needed: without it wrk sends one prepared request and spends nothing in Lua.
if os.getenv("BENCH_VARY") then
  local prepared, last, hex = {}, 0, "0123456789abcdef"
  local function token(digits)
    local letters = {}
    for place = 1, digits do
      local digit = math.random(16)
      letters[place] = hex:sub(digit, digit)
    end
    return table.concat(letters)
  end
  -- Made before the clock runs, and so many that a server which remembers fields has forgotten one before it returns.
  function init(args)
    math.randomseed(os.time())
    for place = 1, 20000 do
      local headers = {}
      for name, value in pairs(wrk.headers) do headers[name] = value end
      headers["Cookie"] = "sessionid=" .. token(32) .. "; theme=dark"
      headers["traceparent"] = "00-" .. token(32) .. "-" .. token(16) .. "-01"
      prepared[place] = wrk.format(nil, nil, headers)
    end
  end
  function request()
    last = last % 20000 + 1
    return prepared[last]
  end
end

done = function(summary, latency, requests)
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d, ' ..
    '"p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, summary.errors.connect, summary.errors.read, summary.errors.write,
    summary.errors.timeout, summary.errors.status, latency:percentile(50), latency:percentile(99)))
end
