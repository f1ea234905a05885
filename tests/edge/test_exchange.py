"""The one mutable object of a request (edge.exchange)."""

import pytest

from edge.exchange import NOTHING, Exchange
from tests.edge.fakes import NOW, Stage, a_head


def test_a_new_exchange_has_decided_nothing():
    exchange = Exchange(a_head("GET", "/x"), None, "192.0.2.7", b"http", b"id", NOW, 1.0)
    assert (exchange.tenant, exchange.route, exchange.principal, exchange.consumed) == (None, None, None, NOTHING)
    assert repr(exchange) == "<Exchange ? b'GET' b'/x' ->"


def test_a_finished_one_says_whose_it_was_and_how_it_ended():
    assert repr(Stage().get("/%78").exchange) == "<Exchange demo b'GET' b'/x' 200>"


def test_a_word_nobody_planned_for_has_no_place():
    exchange = Exchange(a_head(), None, "192.0.2.7", b"http", b"id", NOW, 1.0)
    with pytest.raises(AttributeError):
        exchange.anything = 1
