"""What the kernel knows of a gateway's processes: CPU time, memory, descendants.

In:    process ids.
Out:   seconds and MiB; what the cores did altogether.
Laws:  1. A gateway is a process and all its descendants; what a descendant that ended has used counts too. 2. A process
       that ends while it is looked at is no error: its parent has its time.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MEMORY = re.compile(r"^(VmHWM|VmRSS):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class CpuTime:
    """Seconds since the processes began."""

    user_s: float
    system_s: float

    def __add__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.user_s + other.user_s, self.system_s + other.system_s)

    def __sub__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.user_s - other.user_s, self.system_s - other.system_s)


@dataclass(frozen=True)
class Memory:
    """MiB. `peak`: the most since the process began or since `forget_peak`."""

    rss: float
    peak: float


def family(pid: int, proc: Path = PROC) -> list[int]:
    """Give a process and all its living descendants, parents first."""
    found = [pid]
    for parent in found:
        for task in _tasks(proc / str(parent)):
            found += [int(child) for child in _read(task / "children").split()]
    return found


def cpu_time(pid: int, proc: Path = PROC) -> CpuTime:
    """Give the time of a process, all its threads and descendants, those that ended and were collected included."""
    total = CpuTime(0.0, 0.0)
    for member in family(pid, proc):
        text = _read(proc / str(member) / "stat")
        if text:
            total += parse_stat(text)
    return total


def parse_stat(text: str) -> CpuTime:
    """Read /proc/<pid>/stat (proc(5)): fields 14 to 17 are utime, stime, cutime, cstime, in ticks; the second field is
    the program's name in parentheses and may itself hold spaces and parentheses.
    """
    fields = text.rpartition(")")[2].split()
    utime, stime, cutime, cstime = (int(fields[number]) for number in (11, 12, 13, 14))
    return CpuTime((utime + cutime) / _TICKS_PER_S, (stime + cstime) / _TICKS_PER_S)


def memory(pid: int, proc: Path = PROC) -> Memory:
    """Give the memory of one process. Raises OSError when it is gone."""
    found = {name: int(kib) / 1024 for name, kib in _MEMORY.findall((proc / str(pid) / "status").read_text())}
    return Memory(rss=found["VmRSS"], peak=found["VmHWM"])


def forget_peak(pid: int) -> None:
    """Let the peak begin again at what is held now (proc(5), clear_refs). Raises OSError."""
    (PROC / str(pid) / "clear_refs").write_text("5")


def busy_s(proc: Path = PROC) -> float:
    """Give the seconds that all cores together have worked since boot (proc(5), stat): all but idle and iowait; guest
    time is in user time already.
    """
    fields = [int(text) for text in (proc / "stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


class Others:
    """How much of the cores others take, from its making on."""

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._began = time.monotonic(), busy_s(), cpu_time(os.getpid())

    def share(self) -> float:
        """Give the share of all cores, 0 to 1, that neither we nor our children have used."""
        began_mono, busy, used = self._began
        ours = cpu_time(os.getpid()) - used
        by_others = busy_s() - busy - ours.user_s - ours.system_s
        return min(1.0, max(0.0, by_others / ((time.monotonic() - began_mono) * self._cores)))


def _tasks(process: Path) -> list[Path]:
    try:
        return sorted((process / "task").iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
