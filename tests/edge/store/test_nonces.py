from __future__ import annotations

import gevent
import pytest

from contracts import keyspace
from edge.errors import GatewayError
from edge.http.signatures import CREATED_SKEW_S
from edge.store.client import Client
from edge.store.nonces import KEPT_S, NonceStore
from tests.edge.publishing import DEMO
from tests.stored import everything_in

OTHER = "0197a000-0000-7000-8000-0000000000c4"
NONCE = "0123456789abcdef"


@pytest.fixture
def nonces(client):
    return NonceStore(client)


def test_a_nonce_is_new_once_for_each_service_of_each_tenant(nonces):
    assert nonces.take(DEMO, "svc_1", NONCE)
    assert not nonces.take(DEMO, "svc_1", NONCE)
    assert nonces.take(DEMO, "svc_2", NONCE)
    assert nonces.take(OTHER, "svc_1", NONCE)
    assert nonces.take(DEMO, "svc_1", NONCE + "0")
    assert nonces.take(DEMO, "svc_", "1" + NONCE), "key id and nonce do not run into one another"


def test_of_two_workers_that_see_it_at_once_one_wins(nonces, address):
    second = Client(address)
    second.start()
    try:
        greenlets = [gevent.spawn(store.take, DEMO, "svc_1", NONCE) for store in (nonces, NonceStore(second)) * 10]
        gevent.joinall(greenlets, timeout=5)
        assert sorted(greenlet.value for greenlet in greenlets) == [False] * 19 + [True]
    finally:
        second.stop()


def test_it_is_kept_longer_than_any_signature_is_believed_and_in_clear_nowhere(nonces, publisher):
    """A signature of the future is believed until its `created` is as far in the past."""
    nonces.take(DEMO, "svc_1", NONCE)
    (key,) = publisher.redis.keys("*")
    assert key.decode().startswith(keyspace.nonce(DEMO, ""))
    assert 2 * CREATED_SKEW_S < KEPT_S - 1 <= publisher.redis.ttl(key) <= KEPT_S
    assert NONCE.encode() not in everything_in(publisher.redis)


def test_without_the_store_no_nonce_is_taken_and_it_is_counted(nonces, client):
    client.stop()
    with pytest.raises(GatewayError) as caught:
        nonces.take(DEMO, "svc_1", NONCE)
    error = caught.value
    assert (error.problem.slug, error.problem.status) == ("identity-unavailable", 503)
    assert error.fields == ((b"Retry-After", b"1"),)
    assert nonces.errors_total == 1
    assert NONCE not in error.internal
