"""A client of the session's Valkey, and a publisher into it."""

from __future__ import annotations

import time

import gevent
import pytest

from edge.settings import parse_redis_url
from edge.store.client import Client
from tests.edge.publishing import Publisher


@pytest.fixture
def publisher(shared_valkey):
    publisher = Publisher(shared_valkey.url)
    yield publisher
    publisher.close()


@pytest.fixture
def address(shared_valkey):
    return parse_redis_url(shared_valkey.url)


@pytest.fixture
def client(address):
    client = Client(address)
    client.start()
    yield client
    client.stop()


@pytest.fixture
def eventually():
    """Wait until something is true, letting the hub turn."""

    def wait(condition, timeout_s: float = 5.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, "it did not become true in time"
            gevent.sleep(0.005)

    return wait
