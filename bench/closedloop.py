"""Runs closed-loop load against one ask and reads what it cost: wrk where it is installed, else our own generator.

In:    an Ask, how long.
Out:   Cost: microseconds of CPU per request, user and system apart, and requests a second.
Laws:  1. A run with any answer that is not 2xx is an error, not a figure. 2. The first moments, in which connections
       are opened, are part of the run and the same for all.
Not here: latency (bench.openloop): a closed loop waits with a slow server and does not see the wait.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.lab import LOAD_CORE, Absent, Ask, BenchError, pinned
from bench.procfs import cpu_time

CONNECTIONS = 64
_REQUESTS = re.compile(r"(\d+) requests in")


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU per request, and requests per second."""

    user_us: float
    system_us: float
    rate: float

    @property
    def total_us(self) -> float:
        return self.user_us + self.system_us


def cost(pid: int, drive: Callable[[], int]) -> Cost:
    """Measure a family of processes over one call of `drive`, which gives how many requests it made."""
    before = cpu_time(pid)
    began_mono = time.monotonic()
    requests = drive()
    took_s = time.monotonic() - began_mono
    used = cpu_time(pid) - before
    if requests <= 0:
        raise BenchError("no request was answered")
    return Cost(used.user_s * 1e6 / requests, used.system_s * 1e6 / requests, requests / took_s)


def http_cost(ask: Ask, seconds: float) -> Cost:
    """Blocks for the run. Raises BenchError."""
    return cost(ask.pid, lambda: load(ask, seconds))


def load(ask: Ask, seconds: float, cores: set[int] | None = None, connections: int = CONNECTIONS) -> int:
    """Ask for `seconds`; gives the number of answers. Raises BenchError when one was not 2xx."""
    wrk = shutil.which("wrk")
    if wrk:
        fields = [part for line in ask.fields for part in ("-H", line)]
        script = ["-s", ask.script] if ask.script else []
        # wrk takes whole seconds only.
        argv = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", *fields, *script, ask.url]
    else:
        needs_wrk(ask)
        argv = [sys.executable, "-m", "bench.generator", ask.url, str(connections), str(seconds), *ask.fields]
    pin = pinned(LOAD_CORE) if cores is None else cores
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
        preexec_fn=lambda: os.sched_setaffinity(0, pin),
    )
    return read_wrk(done.stdout, ask) if wrk else _read_own(done.stdout or done.stderr, ask)


def needs_wrk(ask: Ask) -> None:
    """Raises Absent where an ask can only be made by wrk and there is none."""
    if ask.script and not shutil.which("wrk"):
        raise Absent("its paths are varied by wrk, which is not installed (apt-get install wrk)")


def read_wrk(printed: str, ask: Ask) -> int:
    """Read wrk's report. Raises BenchError for refused, broken or unanswered requests."""
    match = _REQUESTS.search(printed)
    if match is None or "Non-2xx" in printed or "Socket errors" in printed:
        raise BenchError(f"{ask.gateway}, {ask.what}: {printed[-600:] or 'wrk said nothing'}")
    return int(match[1])


def _read_own(printed: str, ask: Ask) -> int:
    try:
        result = json.loads(printed)
    except ValueError:
        raise BenchError(f"{ask.gateway}, {ask.what}: {printed[-600:]}") from None
    if result["errors"]:
        raise BenchError(f"{ask.gateway}, {ask.what}: {result['errors']} answers were not 2xx")
    return int(result["requests"])
