"""Structured fields, the part that is read (edge.http.structured): RFC 9651."""

import base64
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.structured import (
    FIELD_BYTES_MAX,
    ITEMS_MAX,
    MEMBERS_MAX,
    PARAMETERS_MAX,
    InnerList,
    Item,
    StructuredError,
    Token,
    dictionary,
    serialise,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", {}),
        (b"   ", {}),
        (b'a="x"', {"a": Item("x", {})}),
        (b'a="\\"\\\\"', {"a": Item('"\\', {})}),
        (b"a=1, b=-15", {"a": Item(1, {}), "b": Item(-15, {})}),
        (b"a=007", {"a": Item(7, {})}),
        (b"a", {"a": Item(True, {})}),
        (b"a;x;y=?0", {"a": Item(True, {"x": True, "y": False})}),
        (b"a=?1 \t, \tb=?0", {"a": Item(True, {}), "b": Item(False, {})}),
        (b"a=tok/en:*", {"a": Item(Token("tok/en:*"), {})}),
        (b"*x=:YQ==:", {"*x": Item(b"a", {})}),
        (b"a=::", {"a": Item(b"", {})}),
        (b"a=()", {"a": InnerList((), {})}),
        (b'a=( "x"   y;p=1 );q', {"a": InnerList((Item("x", {}), Item(Token("y"), {"p": 1})), {"q": True})}),
        (b"a=1; x=2;  y=3", {"a": Item(1, {"x": 2, "y": 3})}),
    ],
)
def test_what_is_read(text, expected):
    assert dictionary(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"=1", b"A=1", b"a=", b"a=1,", b",a=1", b"a=1,,b=2", b"a=1 b=2", b"a=1;", b"a=1;=2", b"a=1;X=2", b"a= 1",
        b"a =1", b"a=1 ;x", b'a="x', b'a="\\x"', b'a="\x7f"', b'a="\xc3\xa4"', b"a=\x001", b"a=1\x00", b"a=1\t",
        b"a=--1", b"a=-", b"a=1234567890123456", b"a=1.5", b"a=1.", b"a=@1700000000", b'a=%"x"', b"a=?2", b"a=?",
        b"a=:YQ==", b"a=:YQ=:", b"a=:YQ:", b"a=:YR==:", b"a=:Y Q==:", b"a=:YQ==YQ==:", b"a=:-_-_:", b"a=(", b"a=(1",
        b"a=(1 ", b"a=(1)2", b"a=(1)(2)", b"a=(1,2)", b"a=((1))", b"a=(1\t2)", b"a=)", b'a=("x""y")', b"a=1,a=2",
        b"a=1;x=1;x=2", b"a=(1);x;x", b"\xe4=1",
    ],
)  # fmt: skip
def test_what_is_refused_whole(text):
    """RFC 9651 section 4.2: if parsing fails, the entire field value MUST be ignored."""
    with pytest.raises(StructuredError):
        dictionary(text)


def test_length_members_items_and_parameters_are_bounded():
    def many(count, one, joined):
        return joined.join(one % number for number in range(count))

    assert len(dictionary(many(MEMBERS_MAX, b"a%d=1", b","))) == MEMBERS_MAX
    assert len(dictionary(b"a=1;" + many(PARAMETERS_MAX, b"a%d", b";"))["a"].parameters) == PARAMETERS_MAX
    assert len(dictionary(b"a=(" + many(ITEMS_MAX, b"%d", b" ") + b")")["a"].items) == ITEMS_MAX
    assert dictionary(b'a="' + b"x" * (FIELD_BYTES_MAX - 4) + b'"')
    for text in (
        many(MEMBERS_MAX + 1, b"a%d=1", b","),
        b"a=1;" + many(PARAMETERS_MAX + 1, b"a%d", b";"),
        b"a=(" + many(ITEMS_MAX + 1, b"%d", b" ") + b")",
        b'a="' + b"x" * (FIELD_BYTES_MAX - 3) + b'"',
    ):
        with pytest.raises(StructuredError, match="too"):
            dictionary(text)


keys = st.from_regex(re.compile(r"[a-z*][a-z0-9_\-.*]{0,8}"), fullmatch=True)
strings = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
tokens = st.from_regex(re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]{0,8}"), fullmatch=True).map(Token)
bares = st.one_of(st.booleans(), st.integers(-(10**15) + 1, 10**15 - 1), strings, tokens, st.binary(max_size=12))
parameters = st.dictionaries(keys, bares, max_size=4)
items = st.builds(Item, bares, parameters)
lists = st.builds(InnerList, st.lists(items, max_size=4).map(tuple), parameters)


def written(value):
    """RFC 9651 section 4.1 once more, by a writer that shares nothing with the one under test."""
    if isinstance(value, InnerList):
        return "(" + " ".join(map(written, value.items)) + ")" + said(value.parameters)
    if isinstance(value, Item):
        return written(value.value) + said(value.parameters)
    if isinstance(value, bool):
        return f"?{int(value)}"
    if isinstance(value, bytes):
        return ":" + base64.b64encode(value).decode() + ":"
    if isinstance(value, str) and not isinstance(value, Token):
        return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
    return str(value)


def said(named):
    return "".join(f";{key}" if value is True else f";{key}={written(value)}" for key, value in named.items())


def same(left, right):
    """Equality that tells a string from a token and a number from a boolean."""
    return repr(left) == repr(right) and type(left) is type(right)


@given(st.dictionaries(keys, st.one_of(items, lists), max_size=5))
def test_what_another_writer_wrote_is_read_as_it_was_meant(members):
    text = ", ".join(f"{key}={written(member)}" for key, member in members.items()).encode()
    assert same(dictionary(text), members)


@given(lists)
def test_an_inner_list_is_written_in_its_one_form(members):
    assert serialise(members) == written(members).encode()
    assert same(dictionary(b"a=" + serialise(members))["a"], members)


@given(st.binary(max_size=60) | st.text('abz*"\\:;=,()?01 \t-._@%', max_size=60).map(str.encode))
def test_any_octets_are_read_or_refused_and_nothing_else(text):
    try:
        members = dictionary(text)
    except StructuredError:
        return
    again = ", ".join(f"{key}={written(member)}" for key, member in members.items()).encode()
    assert same(dictionary(again), members)


@pytest.mark.parametrize("piece", [b'"', b'\\"', b"a", b"(", b" ", b";a", b":", b"=", b",", b"?", b"1", b"a=(1 "])
def test_no_octets_cost_more_than_a_moment(piece):
    began = time.monotonic()
    for start in (b"", b'a="', b"a=(", b"a=:", b"a="):
        with pytest.raises(StructuredError):
            dictionary((start + piece * FIELD_BYTES_MAX)[: FIELD_BYTES_MAX - 1] + b"\x00")
    assert time.monotonic() - began < 1.0
