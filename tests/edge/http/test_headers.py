"""Twin of edge.http.headers: what passes on to the next hop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http import headers
from edge.http.parser import SectionMemo, parse_request_head, parse_response_head
from edge.settings import Limits

NOTHING: frozenset[bytes] = frozenset()


def section(*lines: bytes):
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return parse_request_head(raw, SectionMemo(), Limits())[0].section


def answer(*lines: bytes):
    raw = b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return parse_response_head(raw, b"GET", SectionMemo())[0].section


def test_end_to_end_fields_pass_in_order_with_repeats_and_case():
    lines = headers.request_lines(section(b"X-B:  2 ", b"accept: */*", b"X-B: 3"), NOTHING)
    assert lines == b"X-B: 2\r\naccept: */*\r\nX-B: 3\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: x",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: close",
        b"Proxy-Authorization: Basic x",
        b"TE: trailers",
        b"Trailer: Expires",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AA",
        b"Content-Length: 5",
        b"Expect: 100-continue",
        b"Forwarded: for=x",
        b"X-Forwarded-For: 1.1.1.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: x",
        b"X-Real-IP: 1.1.1.1",
        b"X-Original-URL: /admin",
        b"X-Rewrite-URL: /admin",
        b"X-Vantage-Principal: root",
        b"x-vantage-tenant: other",
        b"X_Vantage_Tenant: other",
        b"X-Forwarded-Port: 1",
        b"X-Forwarded-Server: x",
        b"X-Forwarded-Prefix: /evil",
        b"X-Forwarded-Scheme: http",
        b"X-Forwarded-Ssl: on",
        b"X-Forwarded-User: root",
        b"Proxy: http://evil.example",
    ],
)
def test_these_request_fields_never_pass(line):
    assert headers.request_lines(section(line), NOTHING) == b""


def test_host_never_passes_and_via_does():
    assert headers.request_lines(section(b"Via: 1.1 other"), NOTHING) == b"Via: 1.1 other\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Keep-Alive: 5",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 5",
        b"Upgrade: websocket",
        b"Trailer: A",
        b"Proxy-Authenticate: Basic",
        b"TE: x",
    ],
)
def test_these_response_fields_never_pass(line):
    assert headers.response_lines(answer(line), NOTHING) == b""


def test_what_connection_nominates_does_not_pass_in_either_direction():
    """RFC 9110 section 7.6.1: intermediaries MUST remove fields with the same name as a connection-option."""
    lines = (b"Connection: X-A, close", b"x-a: 1", b"X-B: 2")
    assert headers.request_lines(section(*lines), NOTHING) == b"X-B: 2\r\n"
    assert headers.response_lines(answer(*lines), NOTHING) == b"X-B: 2\r\n"


def test_connection_cannot_nominate_essentials():
    lines = (b"Connection: Authorization, Cache-Control", b"Connection: cookie", b"Authorization: x", b"Cookie: a=b")
    assert headers.request_lines(section(*lines), NOTHING) == b"Authorization: x\r\nCookie: a=b\r\n"


def test_the_caller_can_drop_more_and_each_choice_is_remembered_by_itself():
    shared = section(b"X-Api-Key: secret", b"A: b")
    dropped = headers.request_lines(shared, frozenset({b"x-api-key"}))
    assert dropped == b"A: b\r\n"
    assert headers.request_lines(shared, NOTHING) == b"X-Api-Key: secret\r\nA: b\r\n"
    assert headers.request_lines(shared, frozenset({b"x-api-key"})) is dropped
    assert headers.response_lines(shared, NOTHING).startswith(b"Host: a\r\n")


def test_date_comes_first_in_a_response_unless_dropped():
    given = answer(b"Server: x", b"DATE: Sun, 06 Nov 1994 08:49:37 GMT")
    assert headers.response_lines(given, NOTHING) == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: x\r\n"
    assert headers.response_lines(given, NOTHING) is headers.response_lines(given, NOTHING)
    assert headers.response_lines(given, frozenset({b"date"})) == b"Server: x\r\n"


# Names that some server takes for one of ours


@pytest.mark.parametrize(
    "name",
    [b"X.Vantage.Principal", b"X-Vantage.Tenant", b"x~vantage!identity", b"X-VANTAGE-IDENTITY", b"X.Forwarded.For",
     b"X-Real.IP", b"Transfer.Encoding", b"Proxy!Authorization"],
)  # fmt: skip
def test_a_name_that_a_server_may_read_as_one_of_ours_does_not_pass(name):
    """RFC 3875 section 4.1.18: in HTTP_*, "all occurrences of '-' [are] replaced with '_'"; some replace more."""
    assert headers.request_lines(section(name + b": forged"), NOTHING) == b""
    assert headers.trailers(answer(), name + b": forged\r\n") == b""


@pytest.mark.parametrize("name", [b"X-Vantage", b"X-Vantages-A", b"XVantage-A", b"X-A.B", b"!", b"Forwarded-For"])
def test_other_names_pass_as_they_are(name):
    assert headers.request_lines(section(name + b": 1"), NOTHING) == name + b": 1\r\n"


def test_what_is_dropped_by_name_is_dropped_under_its_look_alikes():
    given = section(b"X.Api.Key: secret", b"X-Api-Key: secret")
    assert headers.request_lines(given, frozenset({b"x-api-key"})) == b""


def test_a_nominated_name_with_other_octets_is_nominated():
    assert headers.request_lines(section(b"Connection: X.Hop", b"x.hOP: 1", b"X-Hop: 2"), NOTHING) == b"X-Hop: 2\r\n"


@pytest.mark.parametrize("name", [b"X-Vantage-Principal", b"x-vantage-anything", b"X_Vantage_Tenant"])
def test_an_origin_does_not_speak_in_our_name_either(name):
    assert headers.response_lines(answer(name + b": forged", b"A: b"), NOTHING) == b"A: b\r\n"


def test_what_belongs_to_the_way_here_an_origin_may_say():
    assert headers.response_lines(answer(b"X-Forwarded-For: 1"), NOTHING) == b"X-Forwarded-For: 1\r\n"


# Clerk's cookies


@pytest.mark.parametrize(
    ("value", "passes"),
    [
        (b"__session=eyJ", None),
        (b"a=1; __session=eyJ", b"a=1"),
        (b"__session=eyJ; a=1", b"a=1"),
        (b"a=1; __session_Ab3=eyJ;b=2", b"a=1;b=2"),
        (b"__client_uat=1; __clerk_db_jwt=x; __refresh_Ab3=y; __client=z", None),
        (b'a="x y" ;  b=\xff=;; __clerk_handshake=x; c', b'a="x y" ;  b=\xff=;; c'),
        (b"  ;\t__session=x", None),
        (b"x__session=1; _session=2; __Session=3", b"x__session=1; _session=2; __Session=3"),
        (b"my=__session", b"my=__session"),
        (b"a=1;", b"a=1;"),
        (b"__host=1", b"__host=1"),
    ],
)
def test_clerks_cookies_stay_here_and_all_others_pass_octet_for_octet(value, passes):
    """RFC 6265 section 4.2.1: cookie-string = cookie-pair *( ";" SP cookie-pair )."""
    given = section(b"A: b", b"Cookie: " + value, b"C: d")
    cookie = b"" if passes is None else b"Cookie: %b\r\n" % passes
    assert headers.request_lines(given, NOTHING) == b"A: b\r\n" + cookie + b"C: d\r\n"
    assert headers.has_cookies(given) is (passes is not None)


def test_each_cookie_line_is_looked_at_by_itself():
    given = section(b"cookie: __session=x", b"COOKIE: a=1", b"X: __session=x")
    assert headers.request_lines(given, NOTHING) == b"COOKIE: a=1\r\nX: __session=x\r\n"
    assert not headers.has_cookies(section(b"A: b"))


_VALUES = st.text(alphabet='ab=_"\\, \t', max_size=12).map(str.encode)
_PAIR = st.builds(lambda name, value: name + b"=" + value, st.sampled_from([b"a", b"__x", b"", b"_session"]), _VALUES)
_CLERKS = st.sampled_from([b"__session=1", b"__client_uat=0", b"__clerk_db_jwt", b"__refresh_x=a=b"])


@given(st.lists(st.tuples(st.booleans(), _PAIR, _CLERKS), min_size=1, max_size=8))
def test_what_is_left_of_a_cookie_is_what_would_have_been_sent_without_clerks(made):
    value = b"; ".join(clerks if is_clerks else pair for is_clerks, pair, clerks in made)
    without = b"; ".join(pair for is_clerks, pair, _ in made if not is_clerks)
    expected = without.strip(b" \t") if any(is_clerks for is_clerks, *_ in made) else value.strip(b" \t")
    lines = headers.request_lines(section(b"Cookie: " + value), NOTHING)
    assert lines == (b"Cookie: %b\r\n" % expected if expected or b"__" not in value else b"")


# Trailers


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ((b"TE: trailers",), True),
        ((b"te: gzip;q=0.5, Trailers",), True),
        ((b"TE: gzip", b"TE: trailers"), True),
        ((b"TE: deflate",), False),
        ((b"TE:",), False),
        ((), False),
    ],
)
def test_te_says_whether_trailers_are_welcome(lines, wanted):
    """RFC 9110 section 10.1.4: "trailers" indicates that the client will not discard trailer fields."""
    assert headers.wants_trailers(section(*lines)) is wanted


@pytest.mark.parametrize("name", [b"grpc-status", b"X-Checksum", b"Server-Timing", b"Content-Digest", b"ETag"])
def test_these_trailers_pass_written_anew(name):
    assert headers.trailers(answer(), name + b":\t a b \r\n") == name + b": a b\r\n"


@pytest.mark.parametrize(
    "name",
    [
        # framing and hop
        b"Content-Length", b"Transfer-Encoding", b"Trailer", b"Connection", b"TE", b"Upgrade", b"Keep-Alive",
        b"HTTP2-Settings",
        # routing
        b"Host", b"Via", b"Max-Forwards", b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-User", b"X-Real-IP",
        b"X-Original-URL", b"X-Rewrite-URL",
        # authentication
        b"Authorization", b"Proxy-Authorization", b"WWW-Authenticate", b"Proxy-Authenticate", b"Cookie", b"Set-Cookie",
        b"X-API-Key",
        # request modifiers
        b"Cache-Control", b"Expect", b"Pragma", b"Range", b"If-None-Match", b"If-Anything", b"Accept",
        b"Accept-Encoding", b"X-HTTP-Method-Override", b"Sec-Fetch-Site", b"Origin",
        # response controls
        b"Age", b"Date", b"Expires", b"Location", b"Retry-After", b"Vary", b"Warning", b"Access-Control-Allow-Origin",
        b"Content-Security-Policy", b"X-Accel-Redirect",
        # content
        b"Content-Encoding", b"Content-Type", b"Content-Range",
        # the gateway's own
        b"X-Vantage-Principal", b"X-Request-Id", b"RateLimit", b"X-RateLimit-Limit", b"X-Cache", b"Cache-Status",
        # look-alikes
        b"x_vantage_principal", b"x_checksum",
    ],
)  # fmt: skip
def test_these_never_pass_as_trailers(name):
    """RFC 9110 section 6.5.1: "many fields cannot be processed outside the header section"."""
    for written in (name, name.upper(), name.lower()):
        assert headers.trailers(section(), b"A: b\r\n" + written + b": x\r\nC: d\r\n") == b"A: b\r\nC: d\r\n"


def test_connection_nominates_trailers_too():
    assert headers.trailers(answer(b"Connection: x-hop"), b"X-Hop: 1\r\nA: b\r\n") == b"A: b\r\n"
    assert headers.trailers(answer(b"Connection: x-hop"), b"") == b""


def test_the_announcement_names_only_what_may_pass():
    announced = answer(b"Trailer: X-Sum, Content-Length", b"Trailer: X-Hop, grpc-status", b"Connection: x-hop")
    assert headers.trailer_line(announced) == b"Trailer: X-Sum, grpc-status\r\n"
    assert headers.trailer_line(answer(b"Trailer: Host")) == headers.trailer_line(answer()) == b""
