"""Twin of edge.http.fields: lists, quoted strings, dates."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.fields import http_date, members, token_or_quoted, tokens


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (b"", []),
        (b" , ,", []),
        (b"a", [b"a"]),
        (b"a, b ,c", [b"a", b"b", b"c"]),
        (b'a;x="1,2", b', [b'a;x="1,2"', b"b"]),
        (b'"a\\",b",c', [b'"a\\",b"', b"c"]),
        (b'"open, a', [b'"open, a']),
    ],
)
def test_a_list_is_split_at_commas_outside_of_quotes(value, parts):
    assert members(value) == parts


def test_tokens_are_compared_lower_cased():
    assert tokens(b"Close, X-A") == {b"close", b"x-a"}


def test_a_stray_quote_hides_no_token():
    """RFC 9110 section 7.6.1: Connection = #connection-option, connection-option = token."""
    assert tokens(b'"x, Close,,\t"y') == {b'"x', b"close", b'"y'}


def test_a_value_is_quoted_only_where_it_must_be():
    assert token_or_quoted(b"abc") == b"abc"
    assert token_or_quoted(b'a"b\\c') == b'"a\\"b\\\\c"'


@given(st.integers(0, 253_402_300_799))
def test_a_date_is_the_standard_librarys(seconds):
    assert http_date(seconds + 0.9).decode() == formatdate(seconds, usegmt=True)
