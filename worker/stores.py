"""The process's connections: settings, an application for the services, Redis. Each made once, at its first use.

Out:   settings(), flask_app(), store().
Laws:  1. Importing opens nothing. 2. Every socket has a timeout. 3. `store` is the product's Redis; the broker's
       connections belong to Celery.
Not here: transactions and their scopes (webapp.extensions).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import redis
from flask import Flask
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from contracts import store_url
from webapp import extensions, redis_store
from worker import settings as worker_settings
from worker.settings import WorkerSettings

_LUA = Path(__file__).parent / "lua"
Store = redis.Redis
"""Answers are bytes."""


@cache
def settings() -> WorkerSettings:
    """Raises SettingsError."""
    return worker_settings.from_environment()


@cache
def flask_app() -> Flask:
    """Give what webapp's services stand on: an application with stores and settings, and neither pages nor API."""
    made = Flask("webapp")
    extensions.init_app(made, settings().console)
    return made


@cache
def store() -> Store:
    return redis_store.connect(
        settings().console.redis_url,
        socket_timeout=5,
        socket_connect_timeout=2,
        socket_keepalive=True,
        health_check_interval=25,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2),
    )


def has_parts() -> bool:
    """Say whether the store is a cluster, of which a part may be away while the others work."""
    return store_url.is_cluster(settings().console.redis_url)


@cache
def _source(name: str) -> str:
    return (_LUA / f"{name}.lua").read_text(encoding="utf-8")


def run_script(client: Store, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
    """Run a Lua script of worker/lua. All keys are in one slot. A pipeline gives the answer when it is executed.

    It goes with its text: a server that never saw it needs no second way, and each node of a cluster is such a one.
    """
    return client.eval(_source(name), len(keys), *keys, *args)
