"""The patterns by themselves: what each ABNF production takes and what it does not."""

import time

import pytest

from edge.http import grammar as g


@pytest.mark.parametrize("text", [b"GET", b"x-1", b"!#$%&'*+-.^_`|~"])
def test_a_token_is_made_of_tchars(text):
    assert g.TOKEN.fullmatch(text)


@pytest.mark.parametrize("text", [b"", b"a b", b"a:", b"a\x00", b"\xe9", b"(a)", b'"a"', b"a/b"])
def test_nothing_else_is_a_token(text):
    assert not g.TOKEN.fullmatch(text)


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r\n", b"OPTIONS * HTTP/1.0\r\n", b"M http://h/?q HTTP/2.0\r\n"])
def test_a_request_line_has_three_parts_one_space_apart(line):
    assert g.REQUEST_LINE.fullmatch(line)


@pytest.mark.parametrize(
    "line",
    [
        b"GET  / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/11\r\n",
        b"GET /#f HTTP/1.1\r\n",
        b" GET / HTTP/1.1\r\n",
    ],
)
def test_a_request_line_bends_nowhere(line):
    assert not g.REQUEST_LINE.match(line)


@pytest.mark.parametrize("line", [b"a: b\r\n", b"a:\r\n", b"a:\t b \xe9\r\n"])
def test_a_field_line_ends_with_crlf(line):
    assert g.FIELD_LINE.fullmatch(line)


@pytest.mark.parametrize("line", [b"a : b\r\n", b" a: b\r\n", b": b\r\n", b"a: b\n", b"a: \x00\r\n", b"a: b\rc\r\n"])
def test_a_field_line_bends_nowhere(line):
    assert not g.FIELD_LINE.fullmatch(line)


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404\r\n", b"HTTP/1.1 503 \r\n"])
def test_a_status_line_may_lack_its_reason(line):
    assert g.STATUS_LINE.fullmatch(line)


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 99 x\r\n", b"HTTP/1.1 600 x\r\n", b"HTTP/2 200 OK\r\n", b"HTTP/1.1  200\r\n"]
)
def test_a_status_is_three_digits_from_1_to_5(line):
    assert not g.STATUS_LINE.fullmatch(line)


@pytest.mark.parametrize("line", [b"0", b"1aF", b"f" * 16, b"5;a=b", b'5 ; a = "q\\"x" ; c'])
def test_a_chunk_line_is_a_size_and_extensions(line):
    assert g.CHUNK_LINE.fullmatch(line)


@pytest.mark.parametrize("line", [b"", b"0x5", b"+5", b"f" * 17, b"5 ", b"5;", b'5;a="x', b"5 a"])
def test_a_chunk_line_bends_nowhere(line):
    assert not g.CHUNK_LINE.fullmatch(line)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (b"Example.COM", (b"example.com", b"")),
        (b"a.b.:8080", (b"a.b", b"8080")),
        (b"[::1]:80", (b"[::1]", b"80")),
        (b"h:", (b"h", b"")),
        (b"127.0.0.1", (b"127.0.0.1", b"")),
    ],
)
def test_an_authority_is_host_and_port(value, parts):
    assert g.split_authority(value) == parts


@pytest.mark.parametrize(
    "value", [b"", b".", b":80", b"a:99x", b"a:70000", b"[::1", b"[zz]", b"a%zz", b"u@h", b"a b", b"a,b:1:2", b"h/p"]
)
def test_a_malformed_authority_is_none(value):
    assert g.split_authority(value) is None


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (g.REQUEST_LINE, b"G" * 20_000 + b"\x00"),
        (g.FIELD_LINE, b"a" * 20_000 + b"\x00"),
        (g.CHUNK_LINE, b"5" + b";a=b" * 5_000 + b"\x00"),
        (g.ABSOLUTE_FORM, b"http://" + b"a" * 20_000 + b"@"),
    ],
)
def test_no_input_makes_a_pattern_backtrack(pattern, text):
    began = time.process_time()
    assert not pattern.fullmatch(text)
    assert time.process_time() - began < 0.5  # linear: microseconds; quadratic: many seconds
