"""Every record of the corpus through the parser and the decoders, whole and in pieces."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contracts.problems import PROBLEMS
from edge.http.parser import SectionMemo
from tests.edge.http.corpus import records
from tests.edge.http.corpus.records import Record
from tests.edge.http.readings import Reading, our_request, our_response

REQUESTS = records.requests()
RESPONSES = records.responses()
_FRAMINGS = ("length=", "chunked", "until-close")


def verdict_of(reading: Reading) -> tuple[str, ...]:
    """Say a reading in the words of a record; defaults are left out."""
    if reading.verdict == "wait":
        return ("wait",)
    if reading.slug == "body":
        return ("refuse", "body")
    if reading.verdict == "refuse":
        return ("refuse", str(PROBLEMS[reading.slug].status), reading.slug)
    head = reading.head
    assert head is not None
    request = hasattr(head, "target")
    words = ["accept", *((head.method.decode(), head.target.decode()) if request else (str(head.status),))]
    if request and head.host != b"a":
        words.append(f"host={head.host.decode()}")
    if head.version == 10:
        words.append("1.0")
    if head.chunked:
        words.append("chunked")
    elif head.content_length is None:
        words.append("until-close")
    elif head.content_length:
        words.append(f"length={head.content_length}")
    if request and head.expects_continue:
        words.append("continue")
    if not head.keep_alive:
        words.append("close")
    return tuple(words)


def expected(record: Record) -> tuple[str, ...]:
    """The record's verdict, its words in the order in which `verdict_of` says them."""
    words = record.verdict
    if words[0] != "accept":
        return words
    start = 2 if len(words) > 1 and words[1].isdigit() else 3
    order = ("host=", "1.0", *_FRAMINGS, "continue", "close")
    named = [records.octets(word).decode() for word in words[1:start]]
    return (
        "accept",
        *named,
        *sorted(words[start:], key=lambda word: [word.startswith(one) for one in order].index(True)),
    )


def check(record: Record, reading: Reading, read: Callable[[bytes], Reading]) -> None:
    assert verdict_of(reading) == expected(record), record.says
    if reading.verdict != "accept":
        return
    head = reading.head
    assert head is not None
    assert reading.body == (record.one("body") or b"")
    assert reading.left == (record.one("left") or b"")
    if (trailers := record.one("trailers")) is not None:
        assert reading.trailers == trailers
    for key in ("path", "query", "reason"):
        if (said := record.one(key)) is not None:
            assert getattr(head, key) == said
    for line in record.expected.get("field", ()):
        name, _, value = line.partition(":")
        assert head.section.get(name.encode()) == records.octets(value.removeprefix(" "))
    for name in record.expected.get("no-field", ()):
        assert head.section.get(name.encode()) is None
        assert name.encode() not in dict(reading.fields)
    left = reading.left
    for line in record.expected.get("then", ()):
        following = read(left)
        assert verdict_of(following) == expected(Record("", verdict=tuple(line.split(" "))))
        left = following.left


@pytest.mark.parametrize("record", REQUESTS, ids=lambda record: record.name)
def test_a_request_is_what_the_record_says(record):
    check(record, our_request(record.raw), our_request)


@pytest.mark.parametrize("record", RESPONSES, ids=lambda record: record.name)
def test_a_response_is_what_the_record_says(record):
    reading = our_response(record.raw, record.method, record.closed)
    check(record, reading, lambda raw: our_response(raw, record.method, record.closed))


@pytest.mark.parametrize("record", REQUESTS + RESPONSES, ids=lambda record: record.name)
def test_a_record_means_the_same_octet_by_octet(record):
    """Only around the places where something may change its mind: every octet would be quadratic for large heads."""
    size = len(record.raw)
    cuts = range(size) if size < 600 else [*range(60), *range(size // 2, size // 2 + 9), *range(size - 60, size)]
    if record in REQUESTS:
        assert_same(our_request(record.raw, cuts), our_request(record.raw))
    else:
        whole = our_response(record.raw, record.method, record.closed)
        assert_same(our_response(record.raw, record.method, record.closed, cuts), whole)


def assert_same(one: Reading, other: Reading) -> None:
    assert one._replace(head=None) == other._replace(head=None)


def test_one_memo_for_all_of_them_changes_no_verdict():
    """What was remembered of one record never answers for another, in any order."""
    memo, of_responses = SectionMemo(), SectionMemo()
    for record in [*REQUESTS, *reversed(REQUESTS), *REQUESTS]:
        assert_same(our_request(record.raw, memo=memo), our_request(record.raw))
    for record in [*RESPONSES, *reversed(RESPONSES), *RESPONSES]:
        asked = (record.method, record.closed)
        assert_same(our_response(record.raw, *asked, memo=of_responses), our_response(record.raw, *asked))


def test_the_corpus_is_large_and_no_record_is_said_twice():
    assert len(REQUESTS) >= 300
    assert len(RESPONSES) >= 100
    every = REQUESTS + RESPONSES
    assert len({record.name for record in every}) == len(every)
    for kind in (REQUESTS, RESPONSES):
        assert len({(record.raw, record.method, record.closed) for record in kind}) == len(kind)


@pytest.mark.parametrize(
    ("text", "octets"),
    [(r"a\r\n\t\\\x00\xff", b"a\r\n\t\\\x00\xff"), (r"\(ab\r\n*3)c", b"ab\r\nab\r\nab\r\nc"), ("", b"")],
)
def test_the_corpus_keeps_octets_exact(text, octets):
    assert records.octets(text) == octets


@pytest.mark.parametrize("text", ["\\q", "\\x0", "\\(a*)", "\\"])
def test_what_is_no_escape_is_an_error(text):
    with pytest.raises(ValueError, match="no escape"):
        records.octets(text)
