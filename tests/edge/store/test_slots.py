"""Slots of keys against a real cluster and the specification; maps of slots."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import keyspace
from edge.store.slots import SLOTS, key_of, read_map, slot_of


@pytest.mark.parametrize(
    ("key", "same_as"),
    [
        ("{user1000}.following", "user1000"),
        ("foo{bar}{zap}", "bar"),
        ("foo{{bar}}zap", "{bar"),
        (b"a{tag}b", b"tag"),
    ],
)
def test_what_stands_in_the_first_braces_decides(key, same_as):
    """Redis Cluster specification, Hash tags: "only the substring between { and } is hashed"."""
    assert slot_of(key) == slot_of(same_as)


def test_empty_braces_decide_nothing():
    """Redis Cluster specification: "foo{}{bar}" "the whole key will be hashed"."""
    assert slot_of("foo{}{bar}") != slot_of("bar")
    assert slot_of("foo{}{bar}") != slot_of("foo")


def test_the_check_value_of_the_specification():
    """Redis Cluster specification, Appendix A: "Output for "123456789": 31C3"."""
    assert slot_of("123456789") == 0x31C3 % SLOTS


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=40), st.text("{}ab:", max_size=12).map(str.encode)))
def test_a_real_node_says_the_same(shared_cluster, key):
    node = shared_cluster.primaries[0]
    if not hasattr(shared_cluster, "asker"):
        import redis

        shared_cluster.asker = redis.Redis.from_url(node.url)
    assert slot_of(key) == shared_cluster.asker.execute_command("CLUSTER", "KEYSLOT", key)


def test_all_keys_of_a_tenant_are_in_one_slot():
    tenant = "0197a000-0000-7000-8000-00000000de00"
    keys = [
        keyspace.config(tenant), keyspace.api_key(tenant, "ab"), keyspace.counter(tenant, "p", "i"),
        keyspace.cache_entry(tenant, "k"), keyspace.cache_generations(tenant), keyspace.origin_health(tenant),
        keyspace.purge_receipt(tenant, "c"),
    ]  # fmt: skip
    assert len({slot_of(key) for key in keys}) == 1


def test_a_script_goes_where_its_first_key_is():
    assert key_of(("EVALSHA", "sha", 2, "k1", "k2", "x")) == "k1"
    assert key_of(("EVAL", "text", 1, "k1")) == "k1"
    assert key_of(("HSET", "hash", "field", 1)) == "hash"


def test_a_map_names_primaries_and_leaves_out_what_is_unknown():
    """CLUSTER SLOTS: "NULL" or an empty endpoint is the host that was asked; "?" is unknown."""
    answer = [
        [5, 9, [b"10.0.0.2", 7001, b"id", []], [b"10.0.0.9", 7009, b"id", []]],
        [0, 4, [None, 7000, b"id"]],
        [10, 11, [b"", 7002, b"id"]],
        [12, 12, [b"?", 7003, b"id"]],
    ]
    assert read_map(answer, "asked") == ((0, 4, ("asked", 7000)), (5, 9, ("10.0.0.2", 7001)), (10, 11, ("asked", 7002)))


@pytest.mark.parametrize("answer", [None, b"text", [[1, 2]], [[0, 16384, [b"h", 1]]], [[5, 4, [b"h", 1]]], [[0, 1, 7]]])
def test_what_is_no_map_is_refused(answer):
    with pytest.raises(ValueError):
        read_map(answer, "asked")
