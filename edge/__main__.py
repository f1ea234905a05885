"""Starts the edge of one host: reads the settings, takes the ports or takes them over, keeps the workers alive.

In:    the environment.
Out:   exit code 0 after a drain; 2 and one line per mistake when a setting, a port or a folder is wrong; 3 when no
       worker could boot.
Laws:  1. The standard library is monkey-patched here only, and only in workers: the parent stays an ordinary process
       whose signals and waits are the system's. 2. The folder of the workers' numbers belongs to all parents of a host;
       the last one removes it.
Not here: restarts and crashes (edge.parent), what a worker is made of (edge.server).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge.parent import ENDS, Application, Parent
from edge.settings import Settings, SettingsError, load
from edge.sockets import VARIABLE, Place, Sockets, StartError, inherit

_DOTENV: Final = Path(".env")


def _after_fork(arbiter: Any, worker: Any) -> None:
    for number in ENDS:  # a worker that does not serve yet may simply die of them
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
    from gevent import monkey

    with warnings.catch_warnings():
        # gunicorn and pyjwt imported ssl before; neither opens a TLS connection in a worker.
        warnings.filterwarnings("ignore", category=monkey.MonkeyPatchWarning)
        monkey.patch_all()


def _places(settings: Settings) -> tuple[Place, ...]:
    """Every port of a host, by the setting that names it."""
    places = (
        Place("EDGE_PORT", settings.bind, settings.port, spread=True),
        Place("EDGE_METRICS_PORT", settings.bind, settings.metrics_port, spread=False),
    )
    if settings.tls is None:
        return places
    return (*places, Place("EDGE_TLS_PORT", settings.bind, settings.tls.port, spread=True))


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


def _check_certificates(settings: Settings) -> None:
    """Load them once, to say at the start what is wrong. Raises StartError naming the setting."""
    if settings.tls is None:
        return
    from edge.net.certificates import CertificateError, Certificates, DefaultMissing

    try:
        Certificates(settings.tls.folder, settings.tls.default).check()
    except CertificateError as error:
        name = "EDGE_TLS_DEFAULT" if isinstance(error, DefaultMissing) else "EDGE_TLS_CERTIFICATES"
        raise StartError(f"{name}: {error}") from None


def _read() -> Settings:
    """Raises SettingsError, StartError."""
    settings = load(os.environ, _DOTENV)
    _prepare(settings)
    _check_certificates(settings)
    return settings


def _reread(sockets: Sockets) -> Settings:
    """Read the settings again for workers on the same sockets. Raises SettingsError, StartError."""
    settings = _read()
    places = _places(settings)
    changed = {place.setting for place in {*sockets.places} ^ {*places}}
    if places[0].address != sockets.places[0].address:
        changed = {"EDGE_BIND"}
    if changed:
        raise StartError(f"{', '.join(sorted(changed))} changed; that takes SIGUSR2")
    return settings


def _allow_descriptors() -> None:
    """A worker needs one per connection on both sides; the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems say "unlimited" and mean less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _shared(folder: Path) -> Iterator[None]:
    """Hold a folder together with the other parents of this host; the last one to leave removes it."""
    parent = os.getpid()
    with (folder / "parents").open("ab") as mark:
        fcntl.flock(mark, fcntl.LOCK_SH)
        try:
            yield
        finally:
            if os.getpid() == parent:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    # DNS by c-ares on the hub, not by threads; read when gevent is first imported, in the workers.
    os.environ.setdefault("GEVENT_RESOLVER", "ares")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    left = os.environ.pop(VARIABLE, "")
    try:
        inherited = inherit(left) if left else None
        settings = _read()
        sockets = Sockets(_places(settings), settings.workers, inherited)
    except (SettingsError, StartError) as error:
        for line in str(error).splitlines():
            print(f"edge: {line}", file=sys.stderr)
        return 2
    # short: paths of Unix sockets have 107 bytes
    folder = inherited.folder if inherited else Path(tempfile.mkdtemp(prefix="vantageedge-"))
    _allow_descriptors()
    with _shared(folder):
        Parent(Application(settings, _after_fork, folder), settings, lambda: _reread(sockets), sockets, folder).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
