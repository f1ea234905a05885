"""The demo's processes: read from the Procfile, started, watched, restarted, ended; their warnings shown.

In:    commands and an environment.
Out:   processes in sessions of their own, one log file each.
Laws:  1. All of a process's family ends with it: the whole process group is signalled. 2. The screen shows warnings
       only, each with its process's name; the log has everything.
Not here: which processes there are and in which order (launcher).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from devstack.child import DevstackError, last_lines, spawn

_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):\s*(\S.*)")
_WARNING = re.compile(
    r"\b(?:WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b|\"level\": ?\"(?:warning|error|critical)\"|^Traceback"
)
_SCREEN_CHARS_MAX = 400
_BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)


def read_procfile(path: Path) -> dict[str, str]:
    """Give name -> command. Raises DevstackError naming a wrong line."""
    commands: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DevstackError(f"{path} is missing; restore it from the repository") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise DevstackError(f"{path.name} line {number} is not 'name: command'")
        commands[match[1]] = match[2]
    return commands


class Process:
    """One command of the demo, run by /bin/sh in a process group of its own."""

    def __init__(self, name: str, command: str, environ: Mapping[str, str], log: Path, cwd: Path) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environ = environ
        self._cwd = cwd
        self._running: subprocess.Popen[bytes] | None = None
        self._shown_bytes = 0
        self._ends = 0
        self._again_mono = 0.0
        self._started_mono = 0.0

    def __repr__(self) -> str:
        return f"<Process {self.name} {self.pid or 'ended'}>"

    @property
    def pid(self) -> int | None:
        return self._running.pid if self._running is not None and self._running.poll() is None else None

    def start(self) -> None:
        self.log.touch(mode=0o600)
        self._running = spawn(
            ["/bin/sh", "-c", self._command],
            log=self.log,
            ends_with=signal.SIGTERM,
            env=self._environ,
            cwd=self._cwd,
        )
        self._shown_bytes = self.log.stat().st_size if self._ends == 0 else self._shown_bytes
        self._started_mono = time.monotonic()

    def ended(self) -> str | None:
        """Say how it ended, with the last lines of its log; None while it runs or was never started."""
        status = None if self._running is None else self._running.poll()
        if status is None:
            return None
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        said = last_lines(self.log)
        return f"{self.name} ended ({how}){': ' + said if said else ''}"

    def mend(self, now_mono: float) -> str | None:
        """If it has ended, start it again after a pause that grows; give a line to show when the pause begins."""
        how = self.ended()
        if how is None:
            return None
        if self._again_mono == 0.0:
            lived = now_mono - self._started_mono > 60
            self._ends = 0 if lived else self._ends
            pause_s = _BACKOFF_S[min(self._ends, len(_BACKOFF_S) - 1)]
            self._ends += 1
            self._again_mono = now_mono + pause_s
            return f"{how}; starting it again in {pause_s:.0f} s"
        if now_mono >= self._again_mono:
            self._again_mono = 0.0
            self.start()
        return None

    def warnings(self) -> list[str]:
        """Give the warnings it has logged since the last call, shortened."""
        try:
            with self.log.open("rb") as file:
                if self.log.stat().st_size < self._shown_bytes:
                    self._shown_bytes = 0
                file.seek(self._shown_bytes)
                new = file.read(1_000_000)
        except OSError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self._shown_bytes += len(whole)
        lines = whole.decode("utf-8", "replace").splitlines()
        return [line[:_SCREEN_CHARS_MAX] for line in lines if _WARNING.search(line)]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the first process, which tells its children."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, deadline_mono: float) -> None:
        """Wait for its end until the deadline, then kill the whole group; collect it."""
        if self._running is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._running.wait(max(0.0, deadline_mono - time.monotonic()))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._running.pid, signal.SIGKILL)
        self._running.wait()
        self._running = None


def end_all(processes: list[Process], patience_s: float) -> None:
    """End processes together. Blocks until every one is gone, at most a little longer than `patience_s`."""
    for process in processes:
        process.signal(signal.SIGTERM)
    deadline_mono = time.monotonic() + patience_s
    for process in processes:
        process.wait(deadline_mono)
