"""Part of edge.server that needs no running worker: the ids of requests."""

from __future__ import annotations

import time
import uuid

import pytest

from edge.server import Uuid7


def test_request_ids_are_of_version_7_and_say_when():
    began_ms = int(time.time() * 1000)
    made = uuid.UUID(Uuid7().request_id().decode("ascii"))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert began_ms <= made.int >> 80 <= time.time() * 1000


def test_request_ids_of_one_millisecond_count_up_and_none_comes_twice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edge.server.time.time", lambda: 1_700_000_000.123)
    ids = Uuid7()
    few = [ids.request_id() for _ in range(1_000)]
    assert few == sorted(few)
    many = few + [ids.request_id() for _ in range(20_000)]
    assert len(set(many)) == len(many)
    assert {uuid.UUID(one.decode("ascii")).version for one in many} == {7}


def test_two_workers_make_different_ids(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edge.server.time.time", lambda: 1_700_000_000.123)
    here, there = Uuid7(), Uuid7()
    assert not {here.request_id() for _ in range(2_000)} & {there.request_id() for _ in range(2_000)}
