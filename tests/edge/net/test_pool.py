"""Twin of edge.net.pool: the books alone."""

from __future__ import annotations

from edge.net.pool import Books


def books(connections_max: int = 4, idle_max: int = 2, idle_timeout_s: float = 10.0) -> Books[str]:
    return Books(connections_max, idle_max, idle_timeout_s)


def test_the_connection_that_came_back_last_is_used_first():
    kept = books()
    assert kept.open() and kept.open()
    assert kept.give_back("a", 1.0) and kept.give_back("b", 2.0)
    assert (kept.take(), kept.take(), kept.take()) == ("b", "a", None)
    assert (kept.in_use, kept.idle) == (2, 0)


def test_no_more_than_the_maximum_is_open_idle_ones_included():
    kept = books(connections_max=2)
    assert kept.open() and kept.open() and not kept.open()
    kept.give_back("a", 1.0)
    assert not kept.open()
    kept.lost()
    assert kept.open()
    assert repr(kept) == "<Books 1 in use, 1 idle of 2>"


def test_enough_idle_ones_is_enough():
    kept = books(idle_max=1)
    kept.open(), kept.open()
    assert kept.give_back("a", 1.0)
    assert not kept.give_back("b", 1.0)
    assert (kept.in_use, kept.idle) == (0, 1)


def test_what_was_idle_too_long_expires_oldest_first():
    kept = books(idle_max=3)
    for at, name in enumerate("abc"):
        kept.open()
        kept.give_back(name, float(at))
    assert kept.expired(10.5) == ["a"]
    assert kept.expired(10.5) == []
    assert kept.expired(100.0) == ["b", "c"]


def test_an_idle_one_that_ended_is_forgotten():
    kept = books()
    kept.open(), kept.open()
    kept.give_back("a", 1.0), kept.give_back("b", 1.0)
    kept.forget("a")
    assert (kept.take(), kept.take()) == ("b", None)
