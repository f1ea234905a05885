"""What workers counted outlives them: the files in which they leave their numbers, and the one the dead share.

In:    dumps of workers, the pids of those that died.
Out:   files, each whole or absent.
Laws:  1. No gevent: the parent, which has no hub, folds what the dead left. 2. A pid folded once is named in the shared
       file, so that nobody counts it twice while its own file is being removed. 3. While a host is being replaced two
       parents bury: one at a time.
Not here: who reads them at a scrape (exporter).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.telemetry import metrics
from edge.telemetry.metrics import Dump

_LOG: Final = logging.getLogger(__name__)
GRAVES: Final = "dead.dump"
_PIDS_MAX: Final = 1_000


def read(path: Path) -> Dump | None:
    try:
        return metrics.decode(path.read_bytes())
    except OSError:
        return None


def write_whole(path: Path, body: bytes) -> None:
    """Raises OSError."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(body)
    aside.rename(path)


def bury(folder: Path, pid: int) -> None:
    """Fold what a dead worker left into the shared file. Never raises."""
    left = folder / f"{pid}.dump"
    try:
        (folder / f"{pid}.sock").unlink(missing_ok=True)
        with _alone(folder):
            dump = read(left)
            if dump is not None:
                dump.dead = [pid]
                total = metrics.merge([read(folder / GRAVES) or Dump(), dump], counters_only=True)
                total.dead = total.dead[-_PIDS_MAX:]
                write_whole(folder / GRAVES, metrics.encode(total))
            left.unlink(missing_ok=True)
    except OSError as error:
        _LOG.warning("metrics of worker %d are lost: %s", pid, error)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "burying").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
