"""Twin of edge.http.parser: what is a head, what is none, and how the client is told.

Longer than 400 lines because a module has one twin, and the table of refusals belongs beside what is taken.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import GatewayError, Retry, Source
from edge.http.parser import RESPONSE_HEAD_BYTES_MAX, SectionMemo, parse_request_head, parse_response_head
from edge.settings import Limits

LIMITS = Limits()
HOST = b"Host: demo.localhost\r\n"


def request(raw: bytes, memo: SectionMemo | None = None):
    return parse_request_head(raw, SectionMemo() if memo is None else memo, LIMITS)


def head_of(raw: bytes):
    parsed = request(raw)
    assert parsed is not None
    head, used = parsed
    assert used == len(raw)
    return head


def refused(raw: bytes) -> str:
    with pytest.raises(GatewayError) as caught:
        request(raw)
    assert caught.value.close
    assert caught.value.source is Source.DOWNSTREAM
    return caught.value.problem.slug


def get(lines: bytes, target: bytes = b"/", version: bytes = b"1.1") -> bytes:
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + lines + b"\r\n"


def test_a_request_is_read_into_its_parts():
    head = head_of(
        b"POST /a/b?x=1&y HTTP/1.1\r\nHost: Demo.LOCALHOST.:8000\r\nContent-Length: 12\r\nX-A: 1\r\nx-a: 2 \r\n\r\n"
    )
    assert (head.method, head.target, head.path, head.query) == (b"POST", b"/a/b?x=1&y", b"/a/b", b"x=1&y")
    assert (head.version, head.host, head.content_length, head.chunked) == (11, b"demo.localhost", 12, False)
    assert head.keep_alive and not head.expects_continue and head.has_body
    assert head.section.get(b"x-a") == b"1, 2"
    assert head.section.get(b"absent") is None
    assert head.section.fields[1] == (b"Content-Length", b"12")


def test_no_question_mark_and_an_empty_query_differ():
    assert head_of(get(HOST, b"/a")).query is None
    assert head_of(get(HOST, b"/a?")).query == b""


def test_without_a_body_the_length_is_zero_and_chunked_has_none():
    assert head_of(get(HOST)).content_length == 0
    head = head_of(get(HOST + b"Transfer-Encoding: Chunked\r\n"))
    assert head.content_length is None and head.chunked and head.has_body


def test_equal_blocks_share_one_section_and_other_blocks_do_not():
    memo = SectionMemo()
    first, _ = request(get(HOST), memo)
    second, _ = request(get(HOST, b"/other"), memo)
    third, _ = request(get(HOST + b"A: b\r\n"), memo)
    assert first.section is second.section
    assert first.section is not third.section


@pytest.mark.parametrize(
    ("lines", "version", "keep_alive"),
    [
        (b"", b"1.1", True),
        (b"Connection: close\r\n", b"1.1", False),
        (b"Connection: x, CLOSE\r\n", b"1.1", False),
        (b"Connection: keep-alive\r\nConnection: close\r\n", b"1.1", False),
        (b"", b"1.0", False),
        (b"Connection: Keep-Alive\r\n", b"1.0", True),
        (b"Connection: keep-alive, close\r\n", b"1.0", False),
    ],
)
def test_connection_persists_as_rfc_9112_section_9_3_says(lines, version, keep_alive):
    assert head_of(get(HOST + lines, version=version)).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("target", "lines", "host", "path", "query"),
    [
        (b"http://demo.localhost/a?b", HOST, b"demo.localhost", b"/a", b"b"),
        (b"HTTP://DEMO.localhost", HOST, b"demo.localhost", b"/", None),
        (b"http://demo.localhost?b", HOST, b"demo.localhost", b"/", b"b"),
        (b"http://demo.localhost:80/", HOST, b"demo.localhost", b"/", None),
        (b"https://demo.localhost:443/", HOST, b"demo.localhost", b"/", None),
        (b"http://[::1]:8000/", b"Host: [::1]:8000\r\n", b"[::1]", b"/", None),
    ],
)
def test_absolute_form_names_the_host(target, lines, host, path, query):
    head = head_of(get(lines, target))
    assert (head.host, head.path, head.query) == (host, path, query)


def test_http_1_0_may_name_the_host_in_the_target_alone():
    assert head_of(get(b"", b"http://demo.localhost/", b"1.0")).host == b"demo.localhost"


def test_asterisk_form_is_for_options_alone():
    assert head_of(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n").path == b"*"
    assert refused(get(HOST, b"*")) == "request-malformed"
    assert refused(b"OPTIONS * HTTP/1.0\r\n\r\n") == "host-invalid"


REFUSED = {
    # RFC 9112 section 6.1: both "ought to be handled as an error"
    "both lengths": (get(HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), "request-malformed"),
    "differing lengths": (get(HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n"), "request-malformed"),
    "repeated length": (get(HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n"), "request-malformed"),
    "listed length": (get(HOST + b"Content-Length: 1, 1\r\n"), "request-malformed"),
    "plus sign": (get(HOST + b"Content-Length: +1\r\n"), "request-malformed"),
    "minus sign": (get(HOST + b"Content-Length: -1\r\n"), "request-malformed"),
    "hex length": (get(HOST + b"Content-Length: 0x1\r\n"), "request-malformed"),
    "spaced length": (get(HOST + b"Content-Length: 1 1\r\n"), "request-malformed"),
    "empty length": (get(HOST + b"Content-Length: \r\n"), "request-malformed"),
    "length beyond 64 bits": (get(HOST + b"Content-Length: 9999999999999999999\r\n"), "request-malformed"),
    "two codings": (get(HOST + b"Transfer-Encoding: gzip, chunked\r\n"), "request-malformed"),
    "chunked twice": (get(HOST + b"Transfer-Encoding: chunked, chunked\r\n"), "request-malformed"),
    "chunked in two lines": (
        get(HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        "request-malformed",
    ),
    "identity": (get(HOST + b"Transfer-Encoding: identity\r\n"), "request-malformed"),
    "vertical tab coding": (get(HOST + b"Transfer-Encoding: \x0bchunked\r\n"), "request-malformed"),
    "quoted coding": (get(HOST + b'Transfer-Encoding: "chunked"\r\n'), "request-malformed"),
    "empty coding": (get(HOST + b"Transfer-Encoding: \r\n"), "request-malformed"),
    "coding in 1.0": (get(HOST + b"Transfer-Encoding: chunked\r\n", version=b"1.0"), "request-malformed"),
    # RFC 9112 section 5.1: "No whitespace is allowed between the field name and colon"
    "space before colon": (get(HOST + b"A : b\r\n"), "request-malformed"),
    "tab before colon": (get(HOST + b"A\t: b\r\n"), "request-malformed"),
    # RFC 9112 section 5.2
    "folded line": (get(HOST + b"A: b\r\n c\r\n"), "request-malformed"),
    "first line folded": (get(b" A: b\r\n" + HOST), "request-malformed"),
    "empty name": (get(HOST + b": b\r\n"), "request-malformed"),
    "no colon": (get(HOST + b"Ab\r\n"), "request-malformed"),
    "bad name": (get(HOST + b"A(: b\r\n"), "request-malformed"),
    "non-ascii name": (get(HOST + b"\xc3\xa4: b\r\n"), "request-malformed"),
    "nul in value": (get(HOST + b"A: b\x00c\r\n"), "request-malformed"),
    "escape in value": (get(HOST + b"A: b\x1bc\r\n"), "request-malformed"),
    "delete in value": (get(HOST + b"A: b\x7fc\r\n"), "request-malformed"),
    "bare cr in value": (get(HOST + b"A: b\rc\r\n"), "request-malformed"),
    "bare lf": (get(HOST + b"A: b\nB: c\r\n"), "request-malformed"),
    "no host": (get(b""), "host-invalid"),
    "two hosts": (get(HOST + HOST), "host-invalid"),
    "empty host": (get(b"Host: \r\n"), "host-invalid"),
    "no host in 1.0": (get(b"", version=b"1.0"), "host-invalid"),
    "no host beside absolute form": (get(b"", b"http://demo.localhost/"), "host-invalid"),
    "other host in target": (get(HOST, b"http://other.localhost/"), "host-invalid"),
    "other port in target": (get(HOST, b"http://demo.localhost:81/"), "host-invalid"),
    "userinfo in target": (get(HOST, b"http://a@demo.localhost/"), "request-malformed"),
    "malformed host in target": (get(HOST, b"http://demo_[/"), "host-invalid"),
    "other scheme": (get(HOST, b"ftp://demo.localhost/"), "request-malformed"),
    "relative target": (get(HOST, b"a/b"), "request-malformed"),
    "fragment": (get(HOST, b"/a#b"), "request-malformed"),
    "non-ascii target": (get(HOST, b"/\xc3\xa4"), "request-malformed"),
    "space in target": (get(HOST, b"/a b"), "request-malformed"),
    "two spaces": (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", "request-malformed"),
    "tab for space": (b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", "request-malformed"),
    "space behind version": (b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", "request-malformed"),
    "space before method": (b" GET / HTTP/1.1\r\n" + HOST + b"\r\n", "request-malformed"),
    "bad method": (b"GE(T / HTTP/1.1\r\n" + HOST + b"\r\n", "request-malformed"),
    "lower-case version": (b"GET / http/1.1\r\n" + HOST + b"\r\n", "request-malformed"),
    "long version": (b"GET / HTTP/1.10\r\n" + HOST + b"\r\n", "request-malformed"),
    "http/0.9": (b"GET /\r\n", "request-malformed"),
    "two empty lines first": (b"\r\n\r\n" + get(HOST), "request-malformed"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00", "request-malformed"),
    "version 1.2": (get(HOST, version=b"1.2"), "version-unsupported"),
    "version 2.0": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "version-unsupported"),
    "version 0.9": (get(HOST, version=b"0.9"), "version-unsupported"),
    "trace": (b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", "method-unsupported"),
    "connect": (b"CONNECT demo.localhost:443 HTTP/1.1\r\n" + HOST + b"\r\n", "method-unsupported"),
    "other expectation": (get(HOST + b"Expect: 200-ok\r\n"), "expectation-failed"),
    "long line": (get(HOST, b"/" + b"a" * 8192), "target-too-long"),
    "long malformed line": (b"GET /" + b" " * 8192 + b"\r\n\r\n", "target-too-long"),
    "long line without end": (b"GET /" + b"a" * 8200, "target-too-long"),
    "long method": (b"A" * 9000 + b" / HTTP/1.1\r\n\r\n", "request-malformed"),
    "method without end": (b"A" * 9000, "request-malformed"),
    "two empty lines and a long one": (b"\r\n\r\nGET /" + b"a" * 9000 + b"\r\n\r\n", "request-malformed"),
    "large head": (get(HOST + b"A: " + b"a" * 32_768 + b"\r\n"), "head-too-large"),
    "large head without end": (b"GET / HTTP/1.1\r\nA: " + b"a" * 32_768, "head-too-large"),
    "many fields": (get(HOST + b"A: b\r\n" * 100), "head-too-large"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    raw, slug = REFUSED[case]
    assert refused(raw) == slug


@pytest.mark.parametrize(
    "host",
    [
        b":99x",
        b"[::1",
        b"a%zz",
        b"a b",
        b"a:b:c",
        b"a:65536",
        b"[::g]",
        b"[1.2.3.4]",
        b"user@a",
        b"a/b",
        b"a?b",
        b"a#b",
        b"[fe80::1%25eth0]",
        b"[]",
        b".",
        b"a\\b",
        b"a,b:1:2",
        b"\xc3\xa4",
        b":80",
    ],
)
def test_a_malformed_host_is_refused(host):
    assert refused(get(b"Host: " + host + b"\r\n")) == "host-invalid"


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        (b"a", b"a"),
        (b"A.b:", b"a.b"),
        (b"a.:8000", b"a"),
        (b"127.0.0.1:1", b"127.0.0.1"),
        (b"[2001:DB8::1]:1", b"[2001:db8::1]"),
        (b"a%41", b"a%41"),
        (b"a:65535", b"a"),
        (b"xn--bcher-kva.x", b"xn--bcher-kva.x"),
    ],
)
def test_a_host_is_compared_lower_cased_without_port_and_trailing_dot(host, meant):
    assert head_of(get(b"Host: " + host + b"\r\n")).host == meant


def test_why_a_head_is_malformed_is_said():
    def why(lines: bytes) -> str:
        with pytest.raises(GatewayError) as caught:
            request(get(HOST + lines))
        return caught.value.detail

    assert "folded" in why(b"A: b\r\n c\r\n")
    assert "before the colon" in why(b"A : b\r\n")
    assert "control" in why(b"A: \x01\r\n")
    assert "CRLF" in why(b"A: b\nB: c\r\n")
    assert "malformed" in why(b"Ab\r\n")


def test_one_empty_line_before_a_request_is_skipped():
    """RFC 9112 section 2.2: a server SHOULD ignore at least one empty line received prior to the request-line."""
    raw = b"\r\n" + get(HOST)
    head, used = request(raw)
    assert used == len(raw) and head.path == b"/"
    assert request(b"\r\nGET / HTTP/1.1\r\n") is None
    assert request(b"\r\n") is None


def test_names_with_underscore_are_seen_by_nobody():
    head = head_of(get(HOST + b"Content_Length: 5\r\nTransfer_Encoding: chunked\r\nX_A: 1\r\nX-B: a_b\r\n"))
    assert set(head.section.index) == {b"host", b"x-b"}
    assert len(head.section.fields) == 2
    assert head.content_length == 0 and not head.chunked


def test_expect_is_known_in_1_1_and_ignored_in_1_0():
    """RFC 9110 section 10.1.1: a server that receives 100-continue in an HTTP/1.0 request MUST ignore it."""
    lines = HOST + b"Expect: 100-Continue\r\n"
    assert head_of(get(lines)).expects_continue
    assert not head_of(get(lines, version=b"1.0")).expects_continue
    assert not head_of(get(HOST + b"Expect: other\r\n", version=b"1.0")).expects_continue


def test_a_hundred_fields_are_allowed():
    assert len(head_of(get(HOST + b"A: b\r\n" * 99)).section.fields) == 100


def test_what_follows_a_head_is_not_touched():
    raw = get(HOST)
    _, used = request(raw + b"body\x00\r\n\r\n")
    assert used == len(raw)


SOUND = [
    get(HOST),
    get(HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\n", b"/a?b=c"),
    b"\r\n" + get(HOST + b"A:\r\nB:   c  \r\n"),
    get(HOST, b"http://demo.localhost/x", b"1.0"),
]


def outcome(raw: bytes, cuts: list[int]):
    """Feed the bytes as a connection would: at each cut what has come so far."""
    memo = SectionMemo()
    for end in [*sorted(cuts), len(raw)]:
        try:
            parsed = request(raw[:end], memo)
        except GatewayError as error:
            return error.problem.status
        if parsed is not None:
            head, used = parsed
            return used, head.method, head.target, head.host, head.version, head.content_length, head.section.fields
    return None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_split_of_the_bytes_gives_the_same_result(data):
    raw = data.draw(st.sampled_from(SOUND + [raw for raw, slug in REFUSED.values() if len(raw) < 300]))
    cuts = data.draw(st.lists(st.integers(1, len(raw)), max_size=6))
    assert outcome(raw, cuts) == outcome(raw, [])


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(SOUND), st.integers(0, 60))
def test_no_bytes_crash_the_parser(noise, sound, at):
    for raw in (noise, sound[:at] + noise + sound[at:]):
        try:
            parsed = request(raw)
        except GatewayError:
            continue
        assert parsed is None or 0 < parsed[1] <= len(raw)


# Responses


def response(raw: bytes, method: bytes = b"GET"):
    return parse_response_head(raw, method, SectionMemo())


def bad_response(raw: bytes) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        response(raw)
    assert caught.value.problem.slug == "origin-invalid-response"
    assert caught.value.source is Source.UPSTREAM
    return caught.value


def test_a_response_is_read_into_its_parts():
    raw = b"HTTP/1.1 200 Very fine\r\nContent-Length: 3\r\nX_a: 1\r\n\r\n"
    head, used = response(raw + b"abc")
    assert used == len(raw)
    assert (head.status, head.reason, head.version, head.content_length) == (200, b"Very fine", 11, 3)
    assert head.keep_alive and not head.chunked and head.announced_length == 3
    assert head.section.get(b"x_a") == b"1"


def test_a_response_may_lack_reason_and_its_space():
    assert response(b"HTTP/1.1 204\r\n\r\n")[0].reason == b""
    assert response(b"HTTP/1.1 204 \r\n\r\n")[0].reason == b""


@pytest.mark.parametrize(
    ("raw", "method", "expected"),
    [  # (content_length, chunked, keep_alive, announced_length); RFC 9112 section 6.3
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"GET", (None, True, True, None)),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"GET", (None, False, False, None)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"HEAD", (0, False, True, 9)),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"HEAD", (0, False, True, None)),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"GET", (0, False, True, 9)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"GET", (0, False, True, None)),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"GET", (0, False, True, None)),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", b"GET", (1, False, False, 1)),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", b"GET", (1, False, True, 1)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n", b"GET", (1, False, False, 1)),
    ],
)
def test_a_response_is_framed_by_its_request_status_and_fields(raw, method, expected):
    memo = SectionMemo()
    for _ in range(2):  # the second answer comes from memory
        head, _ = parse_response_head(raw, method, memo)
        assert (head.content_length, head.chunked, head.keep_alive, head.announced_length) == expected


def test_what_was_remembered_for_head_is_not_mistaken_for_bytes_that_look_like_it():
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    memo = SectionMemo()
    parse_response_head(raw, b"HEAD", memo)
    for lie in (b"HEAD " + raw, raw[:-4] + b"HEAD\r\n\r\n"):
        with pytest.raises(GatewayError):
            parse_response_head(lie, b"GET", memo)


def test_what_was_remembered_for_head_is_not_used_for_get():
    memo = SectionMemo()
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    assert parse_response_head(raw, b"HEAD", memo)[0].content_length == 0
    assert parse_response_head(raw, b"GET", memo)[0].content_length == 9
    assert parse_response_head(raw, b"HEAD", memo)[0].content_length == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\n\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"garbage",
        b"ICY 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * RESPONSE_HEAD_BYTES_MAX + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * RESPONSE_HEAD_BYTES_MAX,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 201 + b"\r\n",
    ],
)
def test_a_bad_response_is_the_origins_fault(raw):
    error = bad_response(raw)
    assert error.retry is Retry.IF_IDEMPOTENT
    assert error.internal


@pytest.mark.parametrize("raw", [b"", b"H", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nA: b\r\n"])
def test_an_incomplete_response_is_waited_for(raw):
    assert response(raw) is None


# The memo


def test_the_memo_forgets_the_oldest_blocks_and_keeps_those_in_use():
    memo = SectionMemo(entries_max=10)
    wanted = get(HOST + b"Wanted: 1\r\n")
    section = request(wanted, memo)[0].section
    for number in range(200):
        request(get(HOST + b"N: %d\r\n" % number), memo)
        assert request(wanted, memo)[0].section is section
        assert len(memo) <= 20
    assert repr(memo) == f"<SectionMemo {len(memo)} blocks, {len(memo.heads)} heads>"


def test_equal_requests_share_one_head_from_the_third_on_and_new_urls_push_no_block_out():
    memo = SectionMemo(entries_max=10)
    heads = [request(get(HOST), memo)[0] for _ in range(4)]
    assert heads[1] is heads[2] is heads[3] and heads[0] is not heads[1]
    section = heads[0].section
    for number in range(200):
        head, _ = request(get(HOST, b"/%d" % number), memo)
        assert head.section is section and head.path == b"/%d" % number
    assert len(memo) == 1 and len(memo.heads) <= 20


def test_a_remembered_head_says_how_much_of_the_buffer_it_was():
    memo = SectionMemo()
    for _ in range(4):
        assert request(get(HOST) + b"next", memo)[1] == len(get(HOST))
        assert request(b"\r\n" + get(HOST), memo)[1] == len(get(HOST)) + 2


def test_the_memo_is_bounded_in_octets_and_takes_no_giants():
    memo = SectionMemo(bytes_max=1000)
    for number in range(50):
        request(get(HOST + b"N: %d%s\r\n" % (number, b"a" * 300)), memo)
    assert len(memo) <= 6
    giants = SectionMemo()
    request(get(HOST + b"N: " + b"a" * 9000 + b"\r\n"), giants)
    assert len(giants) == 0


def test_values_lose_the_space_around_them():
    head = head_of(get(HOST + b"A: \t b c \t\r\nB:d\t\r\n"))
    assert head.section.index[b"a"] == (b"b c",) and head.section.index[b"b"] == (b"d",)
    assert repr(head.section).startswith("<FieldSection 3 fields")
    assert repr(head) == "<RequestHead b'GET' b'demo.localhost' b'/'>"


def test_what_is_asked_for_from_the_old_generation_becomes_young_again():
    memo = SectionMemo(entries_max=2)
    wanted = get(HOST + b"Wanted: 1\r\n")
    section = request(wanted, memo)[0].section
    for number in range(2):
        request(get(HOST + b"N: %d\r\n" % number), memo)  # fills the young generation: ours is in the old one
    for number in range(2, 4):
        assert request(wanted, memo)[0].section is section
        request(get(HOST + b"N: %d\r\n" % number), memo)
