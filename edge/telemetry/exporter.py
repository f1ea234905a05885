"""Answers /metrics, /livez and /readyz for a whole edge host, whichever worker happens to accept the question.

In:    a shared listening socket; this worker's numbers; those of its siblings, through a folder all of them share.
Out:   Prometheus text over all workers, the dead included; 200 or 503 for the probes.
Laws:  1. A scrape asks every living sibling over its Unix socket; one that does not answer in time counts with what it
       last left in its file. 2. What the dead counted stays (graveyard). What
       a killed worker counted in its last second is lost. 3. Proxying comes first: all of this yields often.
Not here: counting (metrics).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import gevent
import gevent.socket
from gevent.server import StreamServer

from edge.telemetry import graveyard, metrics
from edge.telemetry.metrics import Dump

_LOG: Final = logging.getLogger(__name__)
_SIBLING_TIMEOUT_S: Final = 0.5
_CLIENT_TIMEOUT_S: Final = 5.0
_FILE_EVERY_S: Final = 1.0
_HEAD_BYTES_MAX: Final = 8_192


class Exporter:
    """One per worker. `collect` gives this worker's Dump; `ready` gives None or the reason why not."""

    def __init__(
        self,
        listening: socket.socket,
        folder: Path,
        collect: Callable[[], Dump],
        ready: Callable[[], str | None],
    ) -> None:
        self._folder = folder
        self._collect = collect
        self._ready = ready
        self._pid = os.getpid()
        self._own = folder / f"{self._pid}.sock"
        # gevent needs a socket of its own kind; the number is shared, the object is not.
        shared = gevent.socket.socket(listening.family, listening.type, fileno=os.dup(listening.fileno()))
        self._public = StreamServer(shared, self._serve, spawn=100)
        private = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        private.bind(str(self._own))
        private.listen(16)
        self._private = StreamServer(private, self._tell_sibling)
        self._filer: gevent.Greenlet[[], None] | None = None

    def start(self) -> None:
        """Tell siblings our numbers; who asks on the port waits for `take_port`."""
        self._private.start()
        self._filer = gevent.spawn(self._file_forever)

    def take_port(self) -> None:
        self._public.start()

    def leave_port(self) -> None:
        """Let others answer on the shared port from now on; siblings are still told our numbers."""
        self._public.close()

    def stop(self) -> None:
        """Leave the last numbers behind and end. Blocks on the disk."""
        if self._filer is not None:
            self._filer.kill()
        self._public.stop(timeout=1.0)
        self._private.stop(timeout=1.0)
        self._own.unlink(missing_ok=True)
        self._leave(metrics.encode(self._collect()))

    # ---- between workers

    def _tell_sibling(self, sock: Any, address: object) -> None:
        try:
            sock.settimeout(_CLIENT_TIMEOUT_S)
            sock.sendall(metrics.encode(self._collect()))
        except OSError:
            return
        finally:
            sock.close()

    def _ask_sibling(self, path: Path) -> Dump | None:
        sock = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        pieces = []
        try:
            with gevent.Timeout(_SIBLING_TIMEOUT_S, TimeoutError("no answer")):
                sock.connect(str(path))
                while piece := sock.recv(1 << 18):
                    pieces.append(piece)
        except OSError:
            return None
        finally:
            sock.close()
        return metrics.decode(b"".join(pieces))

    def _file_forever(self) -> None:
        before = b""
        while True:
            gevent.sleep(_FILE_EVERY_S)
            body = metrics.encode(self._collect())
            if body != before:
                gevent.get_hub().threadpool.apply(self._leave, (body,))
                before = body

    def _leave(self, body: bytes) -> None:
        try:
            graveyard.write_whole(self._folder / f"{self._pid}.dump", body)
        except OSError as error:
            _LOG.warning("metrics of this worker cannot be left for its siblings: %s", error)

    def gather(self) -> Dump:
        """Give the sum over this worker, its siblings and the dead. Blocks on the siblings."""
        own = self._collect()
        dead = graveyard.read(self._folder / graveyard.GRAVES) or Dump()
        dumps = []
        pids = {path.stem for kind in ("*.sock", "*.dump") for path in self._folder.glob(kind)}
        for pid in sorted(pids):
            if not pid.isdigit() or int(pid) == self._pid or int(pid) in dead.dead:
                continue
            path = self._folder / f"{pid}.dump"
            live = self._ask_sibling(path.with_suffix(".sock"))
            left = graveyard.read(path) if live is None else None
            if live is not None:
                dumps.append(live)
            elif left is not None:
                dumps.append(metrics.merge([left], counters_only=True))
        return metrics.merge([own, *dumps, metrics.merge([dead], counters_only=True)])

    # ---- the port

    def _serve(self, sock: Any, address: object) -> None:
        try:
            sock.settimeout(_CLIENT_TIMEOUT_S)
            head = b""
            while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES_MAX:
                piece = sock.recv(4_096)
                if not piece:
                    return
                head += piece
            sock.sendall(self._answer(head))
        except OSError:
            return
        finally:
            sock.close()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.split(b" ", 1)[0].split(b"?", 1)[0]
        if method not in (b"GET", b"HEAD"):
            return _reply(b"405 Method Not Allowed", b"only GET\n", b"Allow: GET, HEAD\r\n")
        if path == b"/metrics":
            text = metrics.render(self.gather(), lambda: gevent.sleep(0))
            return _reply(b"200 OK", text, content_type=b"text/plain; version=0.0.4; charset=utf-8")
        if path == b"/livez":
            return _reply(b"200 OK", b"alive\n")
        if path == b"/readyz":
            reason = self._ready()
            if reason is None:
                return _reply(b"200 OK", b"ready\n")
            return _reply(b"503 Service Unavailable", reason.encode() + b"\n")
        return _reply(b"404 Not Found", b"try /metrics, /livez or /readyz\n")


_PLAIN: Final = b"text/plain; charset=utf-8"


def _reply(status: bytes, body: bytes, fields: bytes = b"", content_type: bytes = _PLAIN) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n%b\r\n%b" % (
        status, content_type, len(body), fields, body,
    )  # fmt: skip
