"""What the worker and the beat read from the environment, beyond the console's own settings.

In:    environment variables; in development also `.env`.
Out:   WorkerSettings; SettingsError naming the variable.
Laws:  1. A wrong value is an error at start, never a silent default. 2. The broker is one server or a Sentinel group:
       Celery's transport speaks no cluster, so a cluster's URL is refused here and a cluster's node at start.
Not here: what the console reads too (webapp.settings), the beat table (worker.schedule).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from webapp import settings as console
from webapp.settings import SettingsError

_CLUSTER: Final = re.compile(r"[a-z+-]*cluster[a-z+-]*://", re.IGNORECASE)
_NO_CLUSTER: Final = "must name a single server or a Sentinel group: Celery cannot use a Redis Cluster as its broker"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    console: console.Settings
    metrics_port: int = 0
    """0: no metrics are served."""
    metrics_bind: str = "127.0.0.1"
    probe_shards: int = 2
    probe_interval_s: float = 10.0
    visibility_timeout_s: int = 120
    """A job whose worker died comes back after this; no job may run longer."""
    reconcile_deep: int = 60
    """Each reconcile compares every key record of one tenant in so many; the next run, of the next ones."""
    identity_key_days: int = 30
    """So long an identity key signs before its successor is published."""
    log_level: str = "INFO"


def from_environment() -> WorkerSettings:
    """Read the process's environment. Raises SettingsError."""
    refuse_cluster("CELERY_BROKER_URL", os.environ.get("CELERY_BROKER_URL", ""))
    return load(console.from_environment(), _environment())


def _environment() -> Mapping[str, str]:
    given = dict(os.environ)
    dotenv = Path(".env")
    if given.get("VANTAGEEDGE_ENV") == "development" and dotenv.is_file():
        return {**console._read_dotenv(dotenv), **given}  # noqa: SLF001 - one reader of .env for both programs
    return given


def load(shared: console.Settings, environ: Mapping[str, str]) -> WorkerSettings:
    """Check the worker's own variables. Raises SettingsError for the first one that is wrong."""
    refuse_cluster("CELERY_BROKER_URL", shared.celery_broker_url)
    level = environ.get("WORKER_LOG_LEVEL", "").strip().upper() or "INFO"
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise SettingsError("WORKER_LOG_LEVEL", "must be DEBUG, INFO, WARNING or ERROR")
    return WorkerSettings(
        console=shared,
        metrics_port=int(_number(environ, "WORKER_METRICS_PORT", 0, 0, 65_535, whole=True)),
        metrics_bind=environ.get("WORKER_METRICS_BIND", "").strip() or "127.0.0.1",
        probe_shards=int(_number(environ, "WORKER_PROBE_SHARDS", 2, 1, 256, whole=True)),
        probe_interval_s=_number(environ, "WORKER_PROBE_INTERVAL_S", 10.0, 0.1, 3_600),
        visibility_timeout_s=int(_number(environ, "WORKER_VISIBILITY_TIMEOUT_S", 120, 2, 3_600, whole=True)),
        reconcile_deep=int(_number(environ, "WORKER_RECONCILE_DEEP", 60, 1, 10_000, whole=True)),
        identity_key_days=int(_number(environ, "IDENTITY_KEY_DAYS", 30, 1, 3_650, whole=True)),
        log_level=level,
    )


def refuse_cluster(variable: str, url: str) -> None:
    """Raise SettingsError when a broker's URL names a cluster, by its scheme or by several servers."""
    several = url.startswith(("redis://", "rediss://")) and "," in urlsplit(url).netloc.rpartition("@")[2]
    if _CLUSTER.match(url) or several:
        raise SettingsError(variable, _NO_CLUSTER)


def _number(
    environ: Mapping[str, str], variable: str, default: float, low: float, high: float, *, whole: bool = False
) -> float:
    text = environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise SettingsError(variable, f"must be {kind} from {low:g} to {high:g}")
    return value
