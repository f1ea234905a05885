"""Twin of edge.http.cors: the fields of the CORS protocol, and what a page that is not allowed learns (nothing)."""

import pytest

from contracts.snapshot import CorsConfig
from edge.http.cors import CorsPlan, asked_method
from tests.edge.fakes import a_section

APP = "https://app.example.com"
METHODS = (b"GET", b"POST")


def a_plan(*origins, **fields):
    return CorsPlan(CorsConfig(origins=origins or (APP,), **fields), METHODS)


def origin(*values):
    return a_section([("Origin", value) for value in values])


def test_an_allowed_origin_is_echoed_and_a_cache_is_told():
    lines = a_plan(credentials=True, expose=("x-request-id", "ratelimit")).answer_lines(origin(APP))
    assert lines == (
        b"Access-Control-Allow-Origin: https://app.example.com\r\nAccess-Control-Allow-Credentials: true\r\n"
        b"Access-Control-Expose-Headers: x-request-id, ratelimit\r\nVary: Origin\r\n"
    )
    assert a_plan().answer_lines(origin(APP)) == (
        b"Access-Control-Allow-Origin: https://app.example.com\r\nVary: Origin\r\n"
    )


@pytest.mark.parametrize(
    "section",
    [
        a_section(),
        origin("https://evil.example"),
        origin("null"),
        origin(""),
        origin(APP, APP),
        origin(APP, "https://evil.example"),
        origin(f"{APP}, {APP}"),
        origin(f"{APP} https://evil.example"),
        origin("https://app.example.com\u00ff"),
    ],
)
def test_any_other_origin_is_told_nothing_but_a_cache_is(section):
    plan = a_plan(credentials=True, expose=("x-a",))
    assert plan.answer_lines(section) == b"Vary: Origin\r\n"
    assert plan.preflight_lines(section) == (
        b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
    )


def test_null_is_allowed_only_where_it_is_written_out():
    assert b"Allow-Origin: null\r\n" in a_plan("null").answer_lines(origin("null"))


def test_a_star_is_said_to_everybody_and_varies_by_nothing():
    """Fetch, "CORS protocol and HTTP caches": where the field is `*`, always send it and do not use Vary."""
    plan = a_plan("*", expose=("*",))
    for section in (a_section(), origin(APP), origin("null"), origin(APP, APP)):
        assert plan.answer_lines(section) == (b"Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n")


def test_a_star_never_goes_with_credentials_whatever_is_configured():
    """Fetch, "CORS protocol and credentials": `*` cannot be used for requests that include credentials."""
    plan = a_plan("*", credentials=True)
    assert b"Credentials" not in plan.answer_lines(origin(APP)) + plan.preflight_lines(origin(APP))


def test_a_preflight_is_told_methods_headers_and_for_how_long():
    plan = a_plan(headers=("content-type", "x-api-key"), credentials=True, max_age_s=60)
    assert plan.preflight_lines(origin(APP)) == (
        b"Access-Control-Allow-Origin: https://app.example.com\r\nAccess-Control-Allow-Credentials: true\r\n"
        b"Access-Control-Allow-Methods: GET, POST\r\nAccess-Control-Allow-Headers: content-type, x-api-key\r\n"
        b"Access-Control-Max-Age: 60\r\n"
        b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
    )
    assert b"Allow-Headers" not in a_plan().preflight_lines(origin(APP))


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (["Authorization, X-A", "x-a"], b"Access-Control-Allow-Headers: authorization, x-a\r\n"),
        ([], b""),
        ([""], b""),
        (["x-a, x b"], b""),
        (["x-a, \u00e4"], b""),
        (['x-a, "x-b"'], b""),
    ],
)
def test_any_header_means_those_that_are_asked_for_and_only_names_are_echoed(asked, allowed):
    fields = [("Access-Control-Request-Headers", value) for value in asked]
    lines = a_plan(headers=("*",)).preflight_lines(a_section([("Origin", APP), *fields]))
    assert (allowed in lines) if allowed else (b"Allow-Headers" not in lines)


def test_a_private_network_is_not_opened_by_a_field():
    section = a_section([("Origin", APP), ("Access-Control-Request-Private-Network", "true")])
    assert b"private" not in a_plan().preflight_lines(section).lower()


def test_a_preflight_is_an_origin_and_a_method():
    asked = ("Access-Control-Request-Method", "PUT")
    assert asked_method(a_section([("Origin", APP), asked])) == b"PUT"
    assert asked_method(a_section([("Origin", APP), ("Origin", APP), asked])) == b"PUT"
    for other in ([asked], [("Origin", APP)], [("Origin", APP), asked, asked], [("Origin", APP), (asked[0], "P T")]):
        assert asked_method(a_section(other)) is None, other


def test_equal_fields_are_judged_once_per_plan():
    section, plan = origin(APP), a_plan()
    assert plan.answer_lines(section) is plan.answer_lines(section)
    assert a_plan("https://other.example").answer_lines(section) == b"Vary: Origin\r\n"
    assert repr(plan) == "<CorsPlan <WebOrigins 1>>"
