import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.patterns import (
    Capture,
    Literal,
    PathError,
    PatternError,
    Rest,
    normalise_path,
    parse_pattern,
)


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("/", (Literal(""),)),
        ("/*", (Rest(),)),
        ("/api/users/*", (Literal("api"), Literal("users"), Rest())),
        ("/a/{id}/b", (Literal("a"), Capture("id"), Literal("b"))),
        ("/a/", (Literal("a"), Literal(""))),
        ("/a//b", (Literal("a"), Literal(""), Literal("b"))),
        ("/caf%c3%a9/%7Euser", (Literal("caf%C3%A9"), Literal("~user"))),
    ],
)
def test_a_pattern_is_taken_apart_into_segments(text, segments):
    assert parse_pattern(text).segments == segments


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("api", "must start with '/'"),
        ("", "must start with '/'"),
        ("/*/a", "only be the last"),
        ("/a*", "must stand alone"),
        ("/a/../b", "'.' or '..'"),
        ("/{}", "not a capture"),
        ("/{1a}", "not a capture"),
        ("/x{id}", "not a capture"),
        ("/{id}/{id}", "twice"),
        ("/a b", "percent-encoded"),
        ("/caf\u00e9", "percent-encoded"),
        ("/a%2", "percent-encoded"),
        ("/a%2Fb", "encoded slash"),
        ("/a%00", "encoded NUL"),
        ("/" + "a" * 2000, "at most 1024 characters"),
        ("/a" * 40, "at most 32 segments"),
    ],
)
def test_a_broken_pattern_says_what_is_wrong(text, complaint):
    with pytest.raises(PatternError, match=complaint.replace("'", ".").replace("*", ".")):
        parse_pattern(text)


def test_precedence_is_priority_then_literals_then_length_then_exact_then_age():
    def rank(text, priority=0, position=0):
        return parse_pattern(text).rank(priority, position)

    assert rank("/a/*", priority=1) < rank("/a/b/c", priority=0)
    assert rank("/a/b/*") < rank("/a/{x}/{y}")
    assert rank("/a/{x}/{y}") < rank("/a/{x}")
    assert rank("/a/{x}") < rank("/a/*")
    assert rank("/a/*", position=1) < rank("/a/*", position=2)


def test_what_a_pattern_tells_of_itself():
    pattern = parse_pattern("/a/{x}/b/{y}/*")
    assert (pattern.literals, pattern.has_rest, pattern.captures) == (2, True, ("x", "y"))
    assert pattern.text == "/a/{x}/b/{y}/*"
    assert not parse_pattern("/a").has_rest


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (b"/", b"/"),
        (b"/a/./b", b"/a/b"),
        (b"/a/../b", b"/b"),
        (b"/../a", b"/a"),
        (b"/a/b/..", b"/a/"),
        (b"/a/b/.", b"/a/b/"),
        (b"/..", b"/"),
        (b"/a//b", b"/a//b"),
        (b"/.hidden", b"/.hidden"),
        (b"/a/...", b"/a/..."),
        (b"/%61%2d%7E", b"/a-~"),
        (b"/%e2%82%ac", b"/%E2%82%AC"),
        (b"/%2e%2e/secret", b"/secret"),
        (b"/a[1]|{x}", b"/a%5B1%5D%7C%7Bx%7D"),
        (b"/%25", b"/%25"),
        (b"/%252e%252e/a", b"/%252e%252e/a"),
    ],
)
def test_a_path_has_one_normal_form(path, normal):
    assert normalise_path(path) == normal


UNSAFE = [b"", b"a", b"*", b"/a b", b"/a\x00", b"/a\x7f", b"/\xff", b"/a\\b", b"/a?b", b"/a#b"]
UNSAFE += [b"/%", b"/%4", b"/%zz", b"/%00", b"/a%2Fb", b"/a%5cb"]
UNSAFE += [b"/public/..;/admin", b"/public/%2e%2e;x/admin", b"/.;/admin"]


@pytest.mark.parametrize("path", UNSAFE)
def test_an_unsafe_path_is_refused(path):
    with pytest.raises(PathError):
        normalise_path(path)


def test_an_encoded_slash_stays_data_where_the_route_allows_it():
    assert normalise_path(b"/a%2fb", allow_encoded_slash=True) == b"/a%2Fb"


@given(st.text(alphabet="/.%aA2eEfF7~-_[|{", max_size=30))
def test_the_normal_form_is_a_fixed_point(text):
    try:
        once = normalise_path(b"/" + text.encode())
    except PathError:
        return
    assert normalise_path(once) == once
    assert b"/./" not in once
    assert b"/../" not in once
