"""What is looked at before the demo starts its processes, so that a mistake is one line and not a log to read.

In:    the environment of the demo.
Out:   nothing, or DevstackError that names the variable, never a password.
Not here: ports (devstack.child), folders (devstack.postgres, devstack.valkey).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

import psycopg
import redis

from contracts import keyspace
from devstack.child import DevstackError
from devstack.environment import ROOT


def check_settings(environ: Mapping[str, str]) -> None:
    """Read the environment as the programs will. Raises DevstackError for the first variable that is wrong."""
    from edge import settings as edge
    from webapp import settings as console

    try:
        console.load(environ)
        edge.load(environ)
    except (console.SettingsError, edge.SettingsError) as error:
        raise DevstackError(str(error).splitlines()[0]) from None


def check_database(variable: str, url: str) -> None:
    """Raises DevstackError when nobody can be reached there; never shows the password."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgres", "postgresql"):
        raise DevstackError(f"{variable} must be a URL that starts with postgresql://")
    try:
        psycopg.connect(f"postgresql://{rest}", connect_timeout=5).close()
    except (psycopg.Error, ValueError) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        shown = reason[0]
        with contextlib.suppress(ValueError):
            password = urlsplit(url).password
            shown = shown.replace(password, "***") if password else shown
        cure = "start that PostgreSQL, mend the URL, or unset it to use the demo's own"
        raise DevstackError(f"{variable} cannot be used: {shown}; {cure}") from None


def schema_is_newest(environ: Mapping[str, str]) -> bool:
    """Say whether the database needs no migration: a second instead of the whole console's start."""
    from alembic.script import ScriptDirectory

    url = environ.get("MIGRATION_DATABASE_URL") or environ["DATABASE_URL"]
    heads = ScriptDirectory(str(ROOT / "migrations")).get_heads()
    try:
        with psycopg.connect("postgresql://" + url.partition("://")[2], connect_timeout=5) as connection:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except psycopg.Error:
        return False
    return sorted(row[0] for row in rows) == sorted(heads)


def check_redis(url: str) -> None:
    """Raises DevstackError when nobody can be reached there."""
    cure = "start that Redis, mend the URL, or unset it to use the demo's own"
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except ValueError:
        raise DevstackError("REDIS_URL must be a URL that starts with redis:// or rediss://") from None
    except redis.RedisError as error:
        raise DevstackError(f"REDIS_URL cannot be used: {str(error).splitlines()[0]}; {cure}") from None


def a_worker_takes_jobs(url: str, since_at: float) -> bool:
    """Whether a job worker that was started after `since_at` (wall time) has said in Redis that it lives."""
    with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
        try:
            entries: list[bytes] = client.hvals(keyspace.WORKERS)
        except redis.RedisError:
            return False
    return any(json.loads(entry)["started_at"] >= since_at for entry in entries)
