"""Preconditions and dates (edge.http.conditional)."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.conditional import is_conditional, line_value, not_modified, not_modified_lines, parse_date
from edge.http.fields import http_date
from tests.edge.fakes import a_section

LINES = (
    b'ETag: "abc"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n'
    b"Cache-Control: max-age=60\r\n"
)


@pytest.mark.parametrize(
    "text", [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"]
)
def test_all_three_forms_of_a_date_are_read(text):
    """RFC 9110 section 5.6.7: a recipient that parses a timestamp value MUST accept all three HTTP-date formats."""
    assert parse_date(text) == 784_111_777


def test_two_digit_years_below_70_are_of_this_century():
    assert parse_date(b"Sunday, 06-Nov-33 08:49:37 GMT") == int(
        datetime(2033, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()
    )


@given(st.integers(0, 4_102_444_799))
def test_a_date_we_write_is_read_back_and_agrees_with_the_standard_library(seconds):
    text = http_date(seconds)
    assert text.decode() == format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)
    assert parse_date(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        b"", b"0", b"yesterday", b"Sun, 06 Nov 1994 08:49:37 CET", b"Sun, 06 Xxx 1994 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT", b"Sun, 32 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 24:49:37 GMT",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
    ],
)  # fmt: skip
def test_what_is_no_date_is_none(text):
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], False),
        ([("If-None-Match", '"abc"')], True),
        ([("If-None-Match", 'W/"abc"')], True),
        ([("If-None-Match", '"x", "abc"')], True),
        ([("If-None-Match", '"x"'), ("If-None-Match", '"abc"')], True),
        ([("If-None-Match", "*")], True),
        ([("If-None-Match", '"x"')], False),
        ([("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")], True),
        ([("If-Modified-Since", "Sun, 06 Nov 1994 08:49:36 GMT")], False),
        ([("If-Modified-Since", "yesterday")], False),
        ([("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")] * 2, False),
        # section 13.1.3: ignored when the request contains If-None-Match
        ([("If-None-Match", '"x"'), ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")], False),
    ],
)
def test_what_the_client_holds_is_compared_with_what_we_hold(fields, expected):
    section = a_section(fields)
    assert not_modified(section, LINES) is expected
    assert is_conditional(section) is bool(fields)


def test_without_a_validator_nothing_is_known_to_be_unmodified():
    assert not not_modified(a_section([("If-None-Match", '"abc"')]), b"Age: 1\r\n")
    assert not not_modified(a_section([("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")]), b"Age: 1\r\n")
    unreadable = b"Last-Modified: yesterday\r\n"
    assert not not_modified(a_section([("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")]), unreadable)


def test_names_of_lines_compare_without_case_and_whole():
    assert line_value(b"X-ETag: no\r\netag:\t yes \r\n", b"ETag") == b"yes"
    assert line_value(b"X-ETag: no\r\n", b"ETag") is None


def test_a_304_keeps_validators_and_freshness_and_leaves_out_what_describes_content():
    assert not_modified_lines(LINES) == b'ETag: "abc"\r\nCache-Control: max-age=60\r\n'
