"""A client of the session's Valkey, one server or a cluster of three, and a publisher into it."""

from __future__ import annotations

import time

import gevent
import pytest

from edge.settings import parse_redis_url
from edge.store.cluster import client_for
from tests.edge.publishing import Publisher


@pytest.fixture(params=["one server", "a cluster"])
def store_url(request):
    """Every test of a store runs over both."""
    return request.getfixturevalue("shared_valkey" if request.param == "one server" else "shared_cluster").url


@pytest.fixture
def publisher(store_url):
    publisher = Publisher(store_url)
    yield publisher
    publisher.close()


@pytest.fixture
def address(store_url):
    return parse_redis_url(store_url)


@pytest.fixture
def client(address):
    client = client_for(address)
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
