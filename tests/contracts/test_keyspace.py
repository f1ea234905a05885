import re
from pathlib import Path

from contracts import keyspace, tasks

ROOT = Path(__file__).parents[2]
TENANT = "0b7e4a52-0000-4000-8000-000000000001"


def test_all_keys_of_a_tenant_live_in_one_slot():
    keys = [
        keyspace.config(TENANT),
        keyspace.api_key(TENANT, "v1:00"),
        keyspace.counter(TENANT, "p", "d"),
        keyspace.slots(TENANT, "p", "d"),
        keyspace.cache_entry(TENANT, "d"),
        keyspace.cache_generations(TENANT),
        keyspace.origin_health(TENANT),
        keyspace.purge_receipt(TENANT, "c"),
        keyspace.key_uses(TENANT),
        keyspace.key_renewals(TENANT),
        keyspace.nonce(TENANT, "d"),
    ]
    assert {re.search(r"\{(.*?)\}", key)[1] for key in keys} == {TENANT}
    assert len(set(keys)) == len(keys)
    assert set(keyspace.of_a_tenant(TENANT)) < set(keys)
    assert all(key.startswith("ve:1:") for key in keys)


def test_keys_that_belong_to_no_tenant_have_a_slot_of_their_own():
    keys = [
        keyspace.host("demo.localhost"),
        keyspace.probe_due(3),
        keyspace.probe_plan(3),
        keyspace.probe_state(3),
        keyspace.denied_session("sess_1"),
    ]
    assert keys == [
        "ve:1:host:{demo.localhost}",
        "ve:1:probe:{3}:due",
        "ve:1:probe:{3}:plan",
        "ve:1:probe:{3}:state",
        "ve:1:denied:{sess_1}",
    ]


def test_only_the_keyspace_spells_a_redis_key():
    offenders = [
        str(path.relative_to(ROOT))
        for package in ("contracts", "edge", "webapp", "worker")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".lua") and path.name != "keyspace.py" and "ve:1:" in path.read_text()
    ]
    assert offenders == []


def test_every_task_names_a_room_and_an_act():
    names = [tasks.PUBLISH, tasks.RECONCILE, tasks.HEALTH_SWEEP, tasks.HEALTH_CHECK, tasks.CACHE_PURGE]
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", name) for name in names)
    assert len(set(tasks.QUEUES)) == 4
