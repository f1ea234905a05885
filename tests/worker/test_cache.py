import uuid

import pytest

from contracts import keyspace, tasks
from contracts.patterns import PathError
from webapp.services import cache
from worker.tasks.cache import fields


def test_a_purge_of_a_url_names_it_with_and_without_its_query():
    digest = keyspace.url_digest
    assert set(fields(None, "/a?x=1")) == {f"u:{digest(b'/a', b'x=1')}", f"u:{digest(b'/a', None)}"}
    assert fields(None, "/%61/./b") == [f"u:{digest(b'/a/b', None)}"]


def test_a_purge_without_route_or_url_is_of_everything():
    assert fields(None, None) == ["*"]
    assert fields("r1", None) == ["r:r1"]


@pytest.mark.parametrize("url", ["", "a", "http://host/a", "/é", "/%00", "/%zz"])
def test_a_url_that_no_client_could_send_is_refused(url):
    with pytest.raises(PathError):
        fields(None, url)


@pytest.mark.system
def test_a_purge_advances_generations_once_per_call_however_often_it_is_delivered(bench):
    bench.worker()
    call = str(uuid.uuid4())
    for _ in range(3):
        bench.send(tasks.CACHE_PURGE, bench.tenant_id, None, None, task_id=call)
    bench.wait(lambda: len(bench.changes("purge")) == 3, "three deliveries")
    with bench.redis() as client:
        assert client.hgetall(keyspace.cache_generations(bench.tenant_id)) == {b"*": b"1"}
    bench.send(tasks.CACHE_PURGE, bench.tenant_id, None, None)
    bench.send(tasks.CACHE_PURGE, bench.tenant_id, "r1", None)
    bench.wait(lambda: len(bench.changes("purge")) == 5, "two more")
    with bench.redis() as client:
        assert client.hgetall(keyspace.cache_generations(bench.tenant_id)) == {b"*": b"2", b"r:r1": b"1"}


@pytest.mark.system
def test_what_the_console_asks_for_is_what_is_purged(bench):
    bench.worker()
    with bench.app.app_context():
        cache.purge(bench.actor, cache.PurgeNew(url="/api/posts/1?page=2"))
    wanted = {name.encode(): b"1" for name in fields(None, "/api/posts/1?page=2")}
    with bench.redis() as client:
        bench.wait(lambda: client.hgetall(keyspace.cache_generations(bench.tenant_id)) == wanted, "the purge")
