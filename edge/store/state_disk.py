"""The last good snapshots on disk, so that an edge that starts while Redis is away still serves.

In:    published snapshot bodies with the hosts they were asked for under.
Out:   the same, after a restart.
Laws:  1. A file is whole or absent (written aside, then renamed). 2. Only we can read it (0700, 0600). 3. What is
       read is checked like what comes from Redis: a damaged file is as good as none. 4. Never on the hub's time:
       reads and writes run in the thread pool.
Not here: deciding when a copy is used (tenants).
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Final

import gevent
import msgspec
from gevent.event import Event

_LOG: Final = logging.getLogger(__name__)
_TENANT_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")


class Copy(msgspec.Struct, frozen=True):
    """One tenant as it was published. `sha256` is of `body`."""

    tenant_id: str
    version: int
    sha256: str
    body: bytes


_DECODER: Final = msgspec.msgpack.Decoder(Copy)


class StateDisk:
    """`save` and `forget` only note what to do; one greenlet does it, the newest wish for a file wins."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wishes: dict[Path, bytes | None] = {}
        self._wake = Event()
        self._writer: gevent.Greenlet[[], None] | None = None
        self.errors_total = 0

    def start(self) -> None:
        self._writer = gevent.spawn(self._write_wishes)

    def stop(self) -> None:
        """Write what still waits, then end. Blocks on the disk."""
        if self._writer is not None:
            self._writer.kill()
            self._writer = None
        self._flush()

    def save(self, host: str, copy: Copy) -> None:
        """Keep a snapshot; `host` is a DNS name the caller has checked, or empty when only the snapshot is new."""
        if _TENANT_ID.fullmatch(copy.tenant_id):
            self._wishes[self._folder / "tenants" / copy.tenant_id] = msgspec.msgpack.encode(copy)
            if host:
                self._wishes[self._folder / "hosts" / host] = copy.tenant_id.encode()
            self._wake.set()

    def forget(self, tenant_id: str) -> None:
        if _TENANT_ID.fullmatch(tenant_id):
            self._wishes[self._folder / "tenants" / tenant_id] = None
            self._wake.set()

    def forget_host(self, host: str) -> None:
        self._wishes[self._folder / "hosts" / host] = None
        self._wake.set()

    def find(self, host: str) -> Copy | None:
        """Give the copy kept for a host, None when there is none that can be read. Blocks on the disk, not the hub."""
        copy: Copy | None = gevent.get_hub().threadpool.apply(self._read, (host,))
        return copy

    def _read(self, host: str) -> Copy | None:
        try:
            tenant_id = (self._folder / "hosts" / host).read_text("ascii")
            if not _TENANT_ID.fullmatch(tenant_id):
                return None
            return _DECODER.decode((self._folder / "tenants" / tenant_id).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _LOG.warning("cannot read the kept copy for a host: %s", error)
            return None

    def _write_wishes(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            gevent.get_hub().threadpool.apply(self._flush)

    def _flush(self) -> None:
        while self._wishes:
            path, content = self._wishes.popitem()
            try:
                if content is None:
                    path.unlink(missing_ok=True)
                else:
                    aside = path.with_name(f".{path.name}.{os.getpid()}")
                    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                        file.write(content)
                    aside.rename(path)
            except OSError as error:
                self.errors_total += 1
                _LOG.warning("cannot keep a copy in EDGE_STATE_DIR: %s", error)
