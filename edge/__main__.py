"""Starts the edge of one host: reads the settings, takes the ports, keeps the workers alive.

In:    the environment.
Out:   exit code 0 after a drain; 2 and one line per mistake when a setting, a port or a folder is wrong.
Laws:  1. The standard library is monkey-patched here only, and only in workers: the parent stays an ordinary process
       whose signals and waits are the system's. 2. The parent holds one listening socket per worker on the one port
       (SO_REUSEPORT): the kernel spreads connections, and those that wait for a crashed worker get its successor.
Not here: what a worker is made of (edge.server).
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from edge.server import EdgeWorker, Inheritance
from edge.settings import Settings, SettingsError, load
from edge.telemetry import graveyard

_BACKLOG: Final = 2_048
_GRACE_S: Final = 5
"""What the parent waits beyond the drain before it kills."""


class StartError(Exception):
    """The edge cannot start; the text is one line that names the setting."""


class Application(BaseApplication):  # type: ignore[misc]
    """gunicorn's configuration, taken from Settings alone: no file, no arguments, no environment."""

    def __init__(self, settings: Settings, sockets: list[socket.socket], folder: Path) -> None:
        self._settings = settings
        self._sockets = sockets
        self._folder = folder
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        shared_memory = Path("/dev/shm")  # noqa: S108 - a folder to make nameless files in, as gunicorn advises
        for name, value in {
            "bind": f"[{settings.bind}]:{settings.port}",
            "workers": settings.workers,
            "worker_class": EdgeWorker,
            "timeout": settings.heartbeat_timeout_s,
            "graceful_timeout": int(settings.limits.drain_timeout_s) + _GRACE_S,
            "control_socket_disable": True,
            "loglevel": "warning",
            "worker_tmp_dir": str(shared_memory) if os.access(shared_memory, os.W_OK) else None,
            "proc_name": "vantageedge-edge",
            "pre_fork": self._before_fork,
            "post_fork": _after_fork,
            "child_exit": self._after_death,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> None:
        """There is no WSGI application."""

    def run(self) -> None:
        arbiter = Arbiter(self)
        arbiter.LISTENERS = self._sockets
        arbiter.run()

    def _before_fork(self, arbiter: Any, worker: Any) -> None:
        taken = [living.slot for living in arbiter.WORKERS.values()]
        worker.slot = min(range(len(self._sockets)), key=taken.count)

    def _after_death(self, arbiter: Any, worker: Any) -> None:
        graveyard.bury(self._folder, worker.pid)


def _after_fork(arbiter: Any, worker: Any) -> None:
    from gevent import monkey

    with warnings.catch_warnings():
        # gunicorn and pyjwt imported ssl before; neither opens a TLS connection in a worker.
        warnings.filterwarnings("ignore", category=monkey.MonkeyPatchWarning)
        monkey.patch_all()


def _listen(address: str, port: int, setting: str, copies: int) -> list[socket.socket]:
    """Take a port. Raises StartError naming the setting."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    shared = copies > 1
    try:
        if shared:  # SO_REUSEPORT would quietly share the port with another edge of the same user
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
        return [_bound(family, address, port, shared) for _ in range(copies)]
    except OSError as error:
        raise StartError(f"{setting}: cannot listen on {address} port {port}: {error.strerror}") from None


def _bound(family: int, address: str, port: int, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address, port))
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock


def _prepare(settings: Settings) -> None:
    """Prove that what must be written can be. Raises StartError naming the setting."""
    try:
        for folder in (settings.state_dir, settings.state_dir / "tenants", settings.state_dir / "hosts"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        probe = settings.state_dir / f".probe-{os.getpid()}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        raise StartError(f"EDGE_STATE_DIR: cannot write in {settings.state_dir}: {error.strerror}") from None
    if settings.access_log != "-":
        try:
            os.close(os.open(settings.access_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640))
        except OSError as error:
            raise StartError(f"EDGE_ACCESS_LOG: cannot write {settings.access_log}: {error.strerror}") from None


def main() -> int:
    # DNS by c-ares on the hub, not by threads; read when gevent is first imported, in the workers.
    os.environ.setdefault("GEVENT_RESOLVER", "ares")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    try:
        settings = load(os.environ, Path(".env"))
        _prepare(settings)
        sockets = _listen(settings.bind, settings.port, "EDGE_PORT", settings.workers)
        (metrics_socket,) = _listen(settings.bind, settings.metrics_port, "EDGE_METRICS_PORT", 1)
    except (SettingsError, StartError) as error:
        for line in str(error).splitlines():
            print(f"edge: {line}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="vantageedge-"))  # short: paths of Unix sockets have 107 bytes
    parent = os.getpid()
    EdgeWorker.inherited = Inheritance(settings, sockets[0], metrics_socket, folder)
    try:
        Application(settings, sockets, folder).run()
    finally:
        if os.getpid() == parent:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
