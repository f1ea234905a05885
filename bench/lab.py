"""Where gateways are started, asked and ended: processes pinned to their core, one folder, one store, one origin.

In:    nothing; of the machine, its cores and what is installed.
Out:   Lab, Ask; BenchError for a run that gives no figure, Absent for what is not on this machine.
Laws:  1. Everything listens on loopback and ends with the lab, or with us (devstack.leash). 2. Gateway on one core;
       load, origin and stores on another. 3. An answer is looked at for being right before its price is: status, body,
       and a wrong key refused.
Not here: the gateways (bench.peers), the rows (bench.rows).
"""

from __future__ import annotations

import http.client
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.origin import BODY
from devstack.child import end, free_port, last_lines, leashed
from devstack.valkey import Valkey

HOST = "bench.localhost"
GATEWAY_CORE, LOAD_CORE = 0, 1
"""The first and the second of the cores that are ours."""
_START_S = 30.0


class BenchError(Exception):
    """A run that gives no figure."""


class Absent(Exception):
    """What is not installed here, or not offered; the text says which and how to get it."""


@dataclass(frozen=True)
class Ask:
    """One thing that is asked of one gateway. `pid`: the process whose family does the work. `fields`: header lines.
    `refusal`: the header lines that must be answered by 401. `script`: a wrk script that makes the requests instead.
    """

    gateway: str
    what: str
    pid: int
    port: int
    path: str
    fields: tuple[str, ...]
    refusal: tuple[str, ...] = ()
    script: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"


def cores() -> set[int]:
    return os.sched_getaffinity(0)


def pinned(number: int) -> set[int]:
    """Give the core of that number among ours, or all of them where there are not so many."""
    return set(sorted(cores())[number : number + 1]) or cores()


def render(template: str, values: dict[str, object]) -> str:
    """Put values in place of @NAME@. Raises KeyError for a name without value, ValueError for a value without place."""
    parts = template.split("@")
    if len(parts) % 2 == 0:
        raise ValueError("an @ without its twin")
    names = set(parts[1::2])
    if unused := set(values) - names:
        raise ValueError(f"no place for {', '.join(sorted(unused))}")
    parts[1::2] = [str(values[name]) for name in parts[1::2]]
    return "".join(parts)


def program(name: str, package: str) -> str:
    """Find a program of the system. Raises Absent."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise Absent(f"{name} is not installed (apt-get install {package})")
    return found


def wheel_program(name: str, package: str) -> str:
    """Find a program that a wheel has put beside our Python. Raises Absent."""
    found = Path(sys.executable).parent / name
    if not found.exists():
        raise Absent(f"the wheel {package} is not installed (make bench installs it)")
    return str(found)


@dataclass
class Lab(AbstractContextManager["Lab"]):
    """One folder and what runs in it. `logs`: access logs, emptied now and then so that the disk does not fill."""

    stack: ExitStack = field(default_factory=ExitStack)
    logs: list[Path] = field(default_factory=list)
    folder: Path = field(init=False)
    valkey: Valkey = field(init=False)
    origin_port: int = field(init=False)
    origin_kind: str = field(init=False)

    def __enter__(self) -> Lab:
        # Thousands of connections at both ends: as many descriptors as we may have.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="ve-bench-")))
            self.folder.chmod(0o711)  # gateways that change their user must get through
            self.valkey = self.stack.enter_context(Valkey(self.folder / "valkey", aof=False))
            os.sched_setaffinity(self.valkey.pid, pinned(LOAD_CORE))
            self.origin_port, self.origin_kind = self._start_origin()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _start_origin(self) -> tuple[int, str]:
        """nginx where it is installed, since it is cheaper than what Python can be."""
        from bench.peers import nginx

        port = free_port()
        try:
            nginx.start_origin(self, port, BODY.decode())
        except Absent:
            self.spawn("origin", [sys.executable, "-m", "bench.origin", str(port)], port, LOAD_CORE)
            return port, "bench.origin"
        return port, "nginx"

    def spawn(
        self, name: str, argv: list[str], port: int, core: int | set[int] = GATEWAY_CORE,
        env: dict[str, str] | None = None, stdout: Path | None = None,
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """Start a program that ends with the lab and wait until it listens on `port`. Raises BenchError.

        `core`: one core, or the cores to choose from. `stdout`: a file of its own for what the program prints.
        """
        log = self.folder / f"{name}.log"
        pin = core if isinstance(core, set) else pinned(core)
        with log.open("ab") as errors, (stdout or log).open("ab") as out:
            process = subprocess.Popen(
                leashed(argv, signal.SIGTERM),
                stdout=out,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                env=env,
                preexec_fn=lambda: os.sched_setaffinity(0, pin),  # noqa: PLW1509 - single-threaded parent
            )
        self.stack.callback(self.end, process)
        self.await_port(port, process, log)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End a process now. Blocks until it is gone; one that was ended before is no error."""
        if process.poll() is None:
            end(process, signal.SIGTERM, patience_s=15.0)

    def await_port(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        until_mono = time.monotonic() + _START_S
        while time.monotonic() < until_mono and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return
            except OSError:
                time.sleep(0.02)
        raise BenchError(f"nothing listens on {port}: {last_lines(log)}")

    def access_log(self, name: str) -> Path:
        """Give the path of an access log that will be emptied between rounds."""
        path = self.folder / name
        self.logs.append(path)
        return path

    def empty_logs(self) -> None:
        """All writers append, so a file that is cut goes on from its new end."""
        for path in self.logs:
            if path.exists():
                os.truncate(path, 0)

    def data(self, name: str, template: str, values: dict[str, object]) -> Path:
        """Render a configuration of bench/peers into the folder."""
        text = (Path(__file__).parent / "peers" / template).read_text()
        path = self.folder / name
        path.write_text(render(text, values))
        return path


def verify(ask: Ask) -> None:
    """See once that the answer is right. Raises BenchError."""
    status, body = get(ask.port, ask.path, ask.fields)
    if status != 200 or body != BODY:
        raise BenchError(f"{ask.gateway}, {ask.what}: {status} {body[:300]!r} instead of 200 and the origin's body")
    if ask.refusal:
        status, _ = get(ask.port, ask.path, ask.refusal)
        if status != 401:
            raise BenchError(f"{ask.gateway}, {ask.what}: a wrong key was answered by {status} instead of 401")


def get(port: int, path: str, fields: tuple[str, ...]) -> tuple[int, bytes]:
    """One request on a connection of its own; gives the status and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest("GET", path, skip_host=any(line.lower().startswith("host:") for line in fields))
        for line in fields:
            name, _, value = line.partition(":")
            connection.putheader(name, value.strip())
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"port {port}: {error!r}") from None
    finally:
        connection.close()
