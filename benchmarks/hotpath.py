# SPDX-License-Identifier: MIT
"""Says where the time of one request goes: `nox -s bench -- --profile`. Compares with nobody.

Each figure comes from a run of its own, because what looks closely slows down what it looks at. A tool that
is not installed leaves its part out, and the report says so.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import processes
from cases import CASES
from measure import FAILURES, load, running
from readings import read_counts, read_perf, read_stacks, read_strace
from report import line, machine
from servers import BIN, SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cases import Case
    from readings import Counts, Function
    from servers import Server

SUBJECTS: Final = (
    ("hello-9-keepalive", "prefork"),
    ("hello-9-close", "prefork"),
    ("hello-9-close", "prefork-sync"),
    ("flask-hello", "prefork"),
)
"""Case and server."""
SECONDS: Final = 2.0
STRACE: Final = "strace -f -c -o {output} -p {pid}"
PERF: Final = "perf record -q -F 2000 -o {output} -p {pid}"
# To stop the worker for each sample makes its main thread, which waits with a timeout, look busy.
SPY: Final = "py-spy record --gil --nonblocking --full-filenames -F -r 500 -d 60 -f raw -o {output} -p {pid}"
MOST: Final = 30
"""Rows of a table."""
# Every allocation of Python goes to malloc with PYTHONMALLOC=malloc, and the C library's own is behind these.
COUNTING_MALLOC: Final = """
#include <stddef.h>
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
static unsigned long count;
unsigned long bench_allocations(void) { return count; }
static void more(void) { __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED); }
void *malloc(size_t size) { more(); return __libc_malloc(size); }
void *calloc(size_t number, size_t size) { more(); return __libc_calloc(number, size); }
void *realloc(void *old, size_t size) { more(); return __libc_realloc(old, size); }
"""


def watched(case: Case, server: Server, tool: str, output: Path, seconds: float = SECONDS) -> tuple[str, int]:
    """Load a server while a tool looks at its worker.

    Args:
        case: the load.
        server: whom.
        tool: its command line; `{pid}` and `{output}` are filled in.
        output: the file that it writes.
        seconds: of load.

    Returns:
        What it wrote, and how many requests there were; nothing and 0 when it is not installed.
    """
    name, *arguments = tool.split()
    path = shutil.which(name, path=f"{BIN}:{os.environ['PATH']}")
    if path is None:
        return "", 0
    with running(case, server, seconds, cores()) as run:
        run.generator.warm(0.5)
        worker = list(processes.tree(run.pid))[-1]
        command = [part.format(pid=worker, output=output) for part in arguments]
        watching = subprocess.Popen([path, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)  # until it is attached
        requests = run.generator.load(seconds).requests
        watching.send_signal(signal.SIGINT)
        watching.wait(10)
    return (output.read_text(errors="replace") if output.exists() else ""), requests


def count(case: Case, server: Server, environ: dict[str, str]) -> Counts:
    """Load a server that counts what it does."""
    counted = replace(case, application="counted:app")
    environ = {**environ, "BENCH_APPLICATION": case.application}
    with running(counted, server, SECONDS, cores(), environ) as run:
        run.generator.warm(0.5)
        ask_counts(run.generator.port)
        run.generator.load(SECONDS)
        return read_counts(ask_counts(run.generator.port))


def ask_counts(port: int) -> dict[str, Any]:
    """Return what was counted since this was last asked for."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/counted", headers={"Connection": "close"})
        found: dict[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return found


def counting_malloc(folder: Path) -> dict[str, str]:
    """Build the library that counts allocations; return what uses it, nothing without a compiler."""
    compiler, library = shutil.which("cc"), folder / "counting.so"
    if compiler is None or not sys.platform.startswith("linux"):
        return {}
    source = folder / "counting.c"
    source.write_text(COUNTING_MALLOC)
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return {"LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"}


def cores() -> list[int]:
    """Return the cores of the machine."""
    return sorted(os.sched_getaffinity(0))


# Writing it down


def rows(head: list[str], body: Iterable[list[str]]) -> str:
    """Return a Markdown table, its first column to the left."""
    return "\n".join(map(line, [head, ["---", *["--:"] * (len(head) - 1)], *body]))


def calls_table(found: dict[str, tuple[int, int]], requests: int) -> str:
    """Return the table of system calls, of those that at least one request in a thousand makes."""
    often = [(name, *numbers) for name, numbers in found.items() if numbers[0] >= requests / 1_000]
    return rows(
        ["system call", "per request", "of them failed"],
        (
            [name, f"{called / requests:.3f}", f"{failed / requests:.3f}"]
            for name, called, failed in sorted(often, key=lambda row: -row[1])
        ),
    )


def functions_table(counts: Counts, shares: dict[Function, float]) -> str:
    """Return the table of Python functions, those with most bytecode or most samples first."""
    total = sum(counts.instructions.values())
    weights = {
        function: max(counts.instructions.get(function, 0.0) / total, shares.get(function, 0.0))
        for function in {*counts.instructions, *shares}
    }
    return rows(
        ["function", "calls", "instructions", "% of the GIL's time"],
        (
            [
                f"`{function.name}` ({function.file})",
                f"{counts.calls.get(function, 0.0):.2f}",
                f"{counts.instructions.get(function, 0.0):.1f}",
                f"{100 * shares[function]:.1f}" if function in shares else "",
            ]
            for function in sorted(weights, key=lambda each: -weights[each])[:MOST]
        ),
    )


def profile(case: Case, server: Server, folder: Path) -> str:
    """Return the part of the report about one server in one case."""
    with running(case, server, SECONDS, cores()) as run:
        figures = load(run)
    traced, requests = watched(case, server, STRACE, folder / "strace")
    watched(case, server, PERF, data := folder / "perf")
    shown = ["perf", "report", "--stdio", "--sort", "sym", "-i", str(data)]
    sampled = data.exists() and subprocess.run(shown, capture_output=True, text=True, check=False).stdout
    symbols = read_perf(sampled or "")
    stacks, _ = watched(case, server, SPY, folder / "stacks", 3 * SECONDS)  # it misses most
    counts = count(case, server, {"BENCH_TRACE": "1"})
    malloc = counting_malloc(folder)
    allocated = count(case, server, malloc).allocations if malloc else None
    kernel = sum(share for (kind, _), share in symbols.items() if kind == "k")
    parts = [
        f"## {case.name}, {server.name}",
        f"{figures['cpu_us']:.1f} µs of CPU per request, {figures['system_us']:.1f} of it in the kernel; "
        f"{sum(counts.instructions.values()):,.0f} instructions of bytecode in "
        f"{sum(counts.calls.values()):,.1f} Python calls; "
        + (f"{allocated:,.1f} allocations." if allocated is not None else "allocations: no C compiler."),
        calls_table(read_strace(traced), requests) if requests else "System calls: no strace.",
        rows(
            ["machine code", "% of samples"],
            [["all of the kernel", f"{kernel:.1f}"]]
            + [
                [f"`{name}`{' (kernel)' * (kind == 'k')}", f"{share:.1f}"]
                for (kind, name), share in top(symbols)
            ],
        )
        if symbols
        else "Machine code: no perf, or it may not look.",
        functions_table(counts, read_stacks(stacks)),
        "" if stacks else "The GIL's time: no py-spy, or it may not look.",
    ]
    return "\n\n".join(part for part in parts if part)


def top(symbols: dict[tuple[str, str], float]) -> list[tuple[tuple[str, str], float]]:
    """Return the symbols with most samples."""
    return sorted(symbols.items(), key=lambda item: -item[1])[: MOST // 2]


def record(path: Path) -> bool:
    """Profile all subjects and write the report; return whether there was an answer to everything."""
    where = machine()
    about = (
        f"{where['cpu']}, {where['kernel']}, {where['python']}; one worker on one core, 16 clients on "
        f"another; load average {where['load']}. Calls, instructions and allocations are counted, "
        "percentages are of samples; what a function does in C counts as its own. Each part is from a run "
        "of its own. Counting slows the worker down, so what is done by the clock, as a change of the lead, "
        "is counted too often."
    )
    parts = ["# Where the time of one request goes", about]
    failed = 0
    for name, server in SUBJECTS:
        case = next(case for case in CASES if case.name == name)
        print(f"{name}, {server}", flush=True)
        try:
            with tempfile.TemporaryDirectory() as folder:
                parts.append(profile(case, next(s for s in SERVERS if s.name == server), Path(folder)))
        except FAILURES as error:
            failed += 1
            parts.append(f"## {name}, {server}\n\nNot profiled: {error!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n")
    print(path)
    return not failed
