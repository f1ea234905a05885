"""Runs load against a gateway and reads what it cost from /proc.

In:    the pids of the gateway, what to ask.
Out:   CPU microseconds per request, user and system apart.
Laws:  1. Gateway on core 0; load generator, origin and stores on core 1. 2. A run with any answer that is not 2xx is an
       error, not a figure.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

GATEWAY_CORE = 0
LOAD_CORE = 1
CONNECTIONS = 64
_TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
_REQUESTS = re.compile(r"(\d+) requests in")


class BenchError(Exception):
    """A run that gives no figure."""


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU per request, and requests per second."""

    user_us: float
    system_us: float
    rate: float

    @property
    def total_us(self) -> float:
        return self.user_us + self.system_us


def spawn(argv: list[str], core: int, log: Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    cores = os.sched_getaffinity(0)
    pin = {core} if core in cores else cores
    with log.open("ab") as out:
        return subprocess.Popen(
            argv,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            env=env,
            preexec_fn=lambda: os.sched_setaffinity(0, pin),  # noqa: PLW1509 - single-threaded parent
        )


def family(pid: int) -> list[int]:
    """Give a process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _ticks(pids: list[int]) -> tuple[int, int]:
    user = system = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11])
        system += int(fields[12])
    return user, system


def load(url: str, seconds: float, fields: list[str]) -> int:
    """Ask for `seconds`; gives the number of answers. Raises BenchError when one was not 2xx."""
    wrk = shutil.which("wrk")
    if wrk:
        argv = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", *(p for f in fields for p in ("-H", f)), url]
    else:
        argv = [sys.executable, "-m", "bench.generator", url, str(CONNECTIONS), str(seconds), *fields]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE} & os.sched_getaffinity(0) or os.sched_getaffinity(0)),
    )
    if not wrk:
        result = json.loads(done.stdout)
        if result["errors"]:
            raise BenchError(f"{url}: {result['errors']} answers were not 2xx")
        return int(result["requests"])
    match = _REQUESTS.search(done.stdout)
    if match is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise BenchError(f"{url}: {done.stdout or done.stderr}")
    return int(match[1])


def cost(pid: int, url: str, seconds: float, fields: list[str]) -> Cost:
    """Measure one bounded run. Blocks for it."""
    pids = family(pid)
    user, system = _ticks(pids)
    requests = load(url, seconds, fields)
    user_after, system_after = _ticks(pids)
    per = _TICK_US / max(1, requests)
    return Cost((user_after - user) * per, (system_after - system) * per, requests / seconds)
