"""The one mutable object of a request (edge.exchange)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import GatewayError
from edge.exchange import INTRODUCTION_BYTES_MAX, NOTHING, Exchange, Principal, introduced, introduction
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


# --- What an origin is told of a caller ------------------------------------------------------------------------------


def test_a_principal_is_told_as_compact_ascii_json():
    value = introduced(introduction(Principal("user", "user_ä\r\n", ("a b",), "org_1", "org:admin")))
    assert json.loads(value) == {
        "v": 1, "kind": "user", "sub": "user_ä\r\n", "scopes": ["a b"], "org": "org_1", "role": "org:admin",
    }  # fmt: skip
    assert value.isascii()
    assert b"\r" not in value
    assert introduced(introduction(Principal("key", "key-1"))) == b'{"v":1,"kind":"key","sub":"key-1"}'
    assert introduction(None) == {"v": 1, "kind": "anonymous"}


def test_everything_that_is_known_of_a_principal_is_told():
    principal = Principal(
        "oauth", "u", ("a",), "org_1", "org:admin", ("org:a:b",), "client_1", "https://issuer.example"
    )
    assert introduction(principal) == {
        "v": 1, "kind": "oauth", "sub": "u", "scopes": ("a",), "org": "org_1", "role": "org:admin",
        "permissions": ("org:a:b",), "client_id": "client_1", "issuer": "https://issuer.example",
    }  # fmt: skip


MANY = tuple(f"org:feature{number}:read" for number in range(300))


@pytest.mark.parametrize(
    ("scopes", "permissions", "omitted", "kept"),
    [
        (("a",), MANY, ["permissions"], {"scopes": ("a",)}),
        (MANY, ("a",), ["permissions", "scopes"], {}),
        (MANY, (), ["scopes"], {}),
        (MANY, MANY, ["permissions", "scopes"], {}),
    ],
)
def test_what_is_too_long_loses_whole_lists_and_says_which(scopes, permissions, omitted, kept):
    told = introduction(Principal("user", "u", scopes, permissions=permissions))
    assert len(introduced(told)) <= INTRODUCTION_BYTES_MAX
    assert told == {"v": 1, "kind": "user", "sub": "u", "omitted": omitted} | kept


@given(
    st.text(max_size=300), st.lists(st.text(max_size=60), max_size=80).map(tuple),
    st.lists(st.text(max_size=60), max_size=80).map(tuple),
)  # fmt: skip
def test_whatever_a_principal_is_its_introduction_is_bounded_and_true(subject, scopes, permissions):
    told = json.loads(introduced(introduction(Principal("user", subject, scopes, permissions=permissions))))
    assert len(introduced(told)) <= INTRODUCTION_BYTES_MAX
    assert told["sub"] == subject
    for name, whole in (("scopes", scopes), ("permissions", permissions)):
        assert told.get(name, []) == ([] if name in told.get("omitted", ()) else list(whole))


def test_half_a_subject_is_nobodys():
    with pytest.raises(GatewayError) as refused:
        introduction(Principal("user", "u" * INTRODUCTION_BYTES_MAX, MANY))
    assert refused.value.problem.slug == "head-too-large"
