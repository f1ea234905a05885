"""Start, watch and end a server of the development stack; say in one line why it could not be.

In:    a program, its arguments, its log file.
Out:   a process in a session of its own, leashed to us (devstack.leash).
Laws:  1. No process outlives its launcher, however the launcher ends. 2. DevstackError is one line: cause, then cure.
       3. A process id from a file is believed only if that process works in the folder we expect.
Not here: what is special to one server (devstack.postgres, devstack.valkey).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Literal

Drop = Literal["keep", "namespace", "account"]
LOG_BYTES_MAX = 4_000_000
_LEASH = Path(__file__).with_name("leash.py")


class DevstackError(RuntimeError):
    """Something a developer can mend; the text is one line that names the cause and the cure."""


def leashed(argv: Sequence[str], ends_with: signal.Signals, drop: Drop = "keep") -> list[str]:
    """Give the command line that runs `argv` so that it gets `ends_with` when this process dies."""
    leash = [sys.executable, "-I", "-S", str(_LEASH)]
    return [*leash, str(os.getpid()), str(int(ends_with)), drop, *argv]


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    ends_with: signal.Signals,
    drop: Drop = "keep",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in its own session, its output appended to `log`. argv[0] must be a full path."""
    with open_log(log) as output:
        return subprocess.Popen(
            leashed(argv, ends_with, drop),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


def open_log(path: Path) -> IO[bytes]:
    """Open a log for appending, readable by us alone; one that has grown too long begins again."""
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_suffix(path.suffix + ".old"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


def last_lines(path: Path, count: int = 3) -> str:
    """Give the end of a log as one line."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8_192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return " | ".join([line.strip() for line in lines if line.strip()][-count:])[-800:]


def end(process: subprocess.Popen[bytes], polite: signal.Signals, patience_s: float = 10.0) -> None:
    """End a process and collect it. Blocks until it is gone: politely for `patience_s`, then by SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(polite)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def lock(path: Path, what: str) -> IO[str]:
    """Hold a lock for as long as the file stays open. Raises DevstackError when another process holds it."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read().strip() or "unknown"
        file.close()
        raise DevstackError(f"{what} is already in use by process {holder}; end that one first") from None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def end_orphan(pid: int, works_in: Path, polite: signal.Signals, patience_s: float = 15.0) -> None:
    """End a server that an earlier launcher left behind, if `pid` really is one that works in that folder."""
    if not _works_in(pid, works_in):
        return
    for number, wait_s in ((polite, patience_s), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
        deadline_mono = time.monotonic() + wait_s
        while time.monotonic() < deadline_mono:
            if not _works_in(pid, works_in):
                return
            time.sleep(0.02)
    raise DevstackError(f"process {pid} still uses {works_in} and cannot be ended; end it, then start again")


def _works_in(pid: int, folder: Path) -> bool:
    if pid <= 1:
        return False
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder.resolve()
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    except OSError:
        return False
    try:  # no /proc here: believe the number
        os.kill(pid, 0)
    except OSError:
        return False
    return True


_given: Final[set[int]] = set()


def free_port() -> int:
    """Give a TCP port of 127.0.0.1 that was free a moment ago, below those that the system gives to clients: one of
    these may become a connection's before a server is there. Each once, until most were given.
    """
    if len(_given) > 5_000:
        _given.clear()
    while True:
        port = 20_000 + secrets.randbelow(7_000)  # none that an origin or a browser is refused
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


def loopback_listener(port: int) -> socket.socket:
    """Listen on 127.0.0.1; answers leave at once (TCP_NODELAY, which accepted sockets inherit)."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(512)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def require_port(port: int, what: str, setting: str) -> None:
    """Raise DevstackError unless `port` of 127.0.0.1 can be bound now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            message = f"port {port} for {what} {reason}; free it or choose another with {setting}"
            raise DevstackError(message) from None
