"""What a shared cache may keep and for how long (edge.http.caching); quotes are RFC 9111's."""

import pytest

from edge.http.caching import (
    DELTA_S_MAX,
    delta_s,
    directives,
    freshness,
    refusal,
    request_directives,
    variant_value,
    varies_by,
)
from tests.edge.fakes import a_section

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
DATE = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
LATER = "Sun, 06 Nov 1994 08:50:37 GMT"


def lifetime(fields, ttl_s=0, status=200, now=NOW):
    section = a_section(fields)
    return freshness(status, section, directives(section), ttl_s, now)


def why_not(fields=(), status=200, keyed=()):
    section = a_section(fields)
    return refusal(status, section, directives(section), frozenset(keyed))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("max-age=60", {b"max-age": b"60"}),
        ('MAX-AGE="60", Private="a, b"', {b"max-age": b"60", b"private": b"a, b"}),
        ("no-store,,public", {b"no-store": b"", b"public": b""}),
        ("max-age=1, max-age=2", {b"max-age": b"1"}),
        ("max-age=", {b"max-age": b""}),
        ("=, no-store", {b"no-store": b""}),
    ],
)
def test_directives_are_read_with_names_lower_cased_and_the_first_of_each(value, expected):
    assert directives(a_section([("Cache-Control", value)])) == expected


def test_a_quotation_mark_without_end_hides_nothing_of_another_line():
    assert why_not([("Cache-Control", 'max-age=60, x="'), ("Cache-Control", "private")]) == "private"


def test_pragma_counts_only_without_cache_control():
    """Section 5.4: "no-cache" in Pragma is to be ignored when Cache-Control is also present."""
    assert request_directives(a_section([("Pragma", "no-cache")])) == {b"no-cache": b""}
    assert request_directives(a_section([("Pragma", "no-cache"), ("Cache-Control", "max-age=1")])) == {b"max-age": b"1"}
    assert request_directives(a_section([("Pragma", "x")])) == request_directives(a_section()) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), (b"0", 0), (b"60", 60), (b"-1", 0), (b"", 0), (b"1.5", 0), (b"9" * 15, DELTA_S_MAX), (b"9" * 30, 0)],
)
def test_seconds_that_cannot_be_read_count_as_none_left(value, expected):
    """Section 4.2.1: caches are encouraged to consider responses with invalid freshness information to be stale."""
    assert delta_s(value) == expected


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501])
def test_a_plain_answer_may_be_stored(status):
    assert why_not(status=status) is None


@pytest.mark.parametrize("status", [100, 206, 304, 400, 401, 403, 416, 429, 500, 502, 503])
def test_an_answer_that_hangs_on_this_one_request_is_not_stored(status):
    assert why_not(status=status) == "status"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([("Cache-Control", "no-store")], "no-store"),
        ([("Cache-Control", "private")], "private"),
        ([("Cache-Control", 'private="x-user"')], "private"),
        ([("Cache-Control", "no-cache")], "no-cache"),
        ([("Set-Cookie", "a=b")], "set-cookie"),
        ([("Vary", "User-Agent")], "vary"),
        ([("Vary", "*")], "vary"),
    ],
)
def test_the_origins_refusals_are_never_overridden(fields, reason):
    assert why_not(fields) == reason


def test_vary_on_what_the_key_holds_or_browsers_negotiate_by_may_be_stored():
    assert why_not([("Vary", "User-Agent, X-SHARD")], keyed=[b"user-agent", b"x-shard"]) is None
    assert why_not([("Vary", "User-Agent"), ("Vary", "Cookie")], keyed=[b"user-agent"]) == "vary"
    assert why_not([("Vary", "Origin, Accept-Encoding")]) is None
    assert varies_by(a_section([("Vary", "Origin, accept"), ("Vary", "Origin, X")]), frozenset({b"x"})) == (
        b"accept",
        b"origin",
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("gzip, deflate, br", b"br,deflate,gzip"),
        ("br;q=1.0, GZIP; q=0.5, deflate;q=0", b"br,gzip"),
        ("x-made-up-1, gzip;q=0.000", b""),
        ("*", b"*"),
    ],
)
def test_of_accept_encoding_the_set_of_known_codings_counts(value, expected):
    assert variant_value(a_section([("Accept-Encoding", value)]), b"accept-encoding") == (expected,)


def test_other_negotiated_fields_count_as_they_are_and_absent_is_not_empty():
    assert variant_value(a_section([("Accept", "a"), ("Accept", "b")]), b"accept") == (b"a", b"b")
    assert variant_value(a_section(), b"accept-encoding") == variant_value(a_section(), b"accept") == ()


def test_freshness_comes_from_ttl_then_s_maxage_then_max_age_then_expires():
    fields = [DATE, ("Cache-Control", "max-age=10, s-maxage=20"), ("Expires", LATER)]
    assert lifetime(fields, ttl_s=300) == (300.0, 0.0)
    assert lifetime(fields) == (20.0, 0.0)
    assert lifetime([DATE, ("Cache-Control", "max-age=10"), ("Expires", LATER)]) == (10.0, 0.0)
    assert lifetime([DATE, ("Expires", LATER)]) == (60.0, 0.0)
    assert lifetime([DATE]) == (0.0, 0.0)


@pytest.mark.parametrize("value", ["0", "-1", "yesterday"])
def test_an_unreadable_expires_is_in_the_past(value):
    """Section 5.3: a cache recipient MUST interpret invalid date formats, especially the value "0", as in the past."""
    assert lifetime([DATE, ("Expires", value)]) == (0.0, 0.0)


def test_expires_before_date_is_no_freshness():
    assert lifetime([("Date", LATER), ("Expires", DATE[1])])[0] == 0.0


def test_a_ttl_of_the_route_does_not_make_a_404_stay():
    assert lifetime([DATE], ttl_s=300, status=404) == (0.0, 0.0)
    assert lifetime([DATE, ("Cache-Control", "max-age=5")], ttl_s=300, status=404) == (5.0, 0.0)


def test_the_age_on_arrival_is_the_larger_of_age_and_date():
    assert lifetime([DATE, ("Cache-Control", "max-age=60"), ("Age", "7")], now=NOW + 5) == (60.0, 7.0)
    assert lifetime([DATE, ("Cache-Control", "max-age=60"), ("Age", "7")], now=NOW + 9) == (60.0, 9.0)
    assert lifetime([("Cache-Control", "max-age=60")]) == (60.0, 0.0)
    assert lifetime([("Date", "never"), ("Cache-Control", "max-age=60")]) == (60.0, 0.0)


def test_a_ttl_of_the_route_counts_from_now_whatever_the_age():
    life_s, age_s = lifetime([DATE, ("Age", "1000")], ttl_s=300)
    assert life_s - age_s == 300.0
