# SPDX-License-Identifier: MIT
"""Another application, of which it is counted what its worker does for a request.

`BENCH_APPLICATION` names it. `/counted` answers what was counted since that was last asked for. The worker is
many times slower meanwhile.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType
    from wsgiref.types import StartResponse, WSGIEnvironment

MODULE, _, NAME = os.environ["BENCH_APPLICATION"].partition(":")
APPLICATION: Final = getattr(importlib.import_module(MODULE), NAME)
# Keyed by id: the hash of a code object is that of all its parts.
codes: Final[dict[int, CodeType]] = {}
calls: Final[Counter[int]] = Counter()
instructions: Final[Counter[int]] = Counter()
requests: Final[Counter[str]] = Counter()


def trace(frame: FrameType, event: str, _argument: Any) -> Any:
    """Count a call, or an instruction of bytecode. Source: sys.settrace."""
    code = frame.f_code
    if event == "opcode":
        instructions[id(code)] += 1
    elif event == "call":
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        codes[id(code)] = code
        calls[id(code)] += 1
    return trace


def allocations() -> int:
    """Return how often memory was allocated, which only the library that `hotpath` preloads knows; else 0."""
    count = getattr(ctypes.CDLL(None), "bench_allocations", None)
    return int(count()) if count is not None else 0


def counted() -> bytes:
    """Return all counts, and begin again."""
    found = {
        "requests": requests["here"],
        "allocations": allocations() - requests["allocated"],
        "functions": [
            [code.co_qualname, code.co_filename, calls[key], instructions[key]]
            for key, code in list(codes.items())
        ],
    }
    for each in (calls, instructions, requests):
        each.clear()
    body = json.dumps(found).encode()
    requests["allocated"] = allocations()
    return body


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve the application."""
    if environ["PATH_INFO"] == "/counted":
        body = counted()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
    requests["here"] += 1
    answer: Iterable[bytes] = APPLICATION(environ, start_response)
    return answer


if os.environ.get("BENCH_TRACE"):
    sys.settrace(trace)  # the thread of a sync worker
    threading.settrace(trace)  # those that will be started
