"""Twin of contracts.web_origins: only what browsers send, and only what was allowed."""

from __future__ import annotations

import pytest

from contracts.web_origins import OriginError, WebOrigins, check_rule


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "https://app.example.com",
        "http://localhost:3000",
        "https://192.0.2.1:8443",
        "http://[2001:db8::1]:8080",
        "https://*.example.com",
        "https://*.example.com:8443",
        "capacitor://localhost",
        "https://xn--bcher-kva.example",
        "https://my_app.example.com",
    ],
)
def test_a_rule_is_given_back_as_it_is(text: str) -> None:
    assert check_rule(text) == text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("https://App.example.com", "as browsers send it: https://app.example.com"),
        ("HTTPS://app.example.com", "as browsers send it: https://app.example.com"),
        ("https://app.example.com/", "as browsers send it: https://app.example.com"),
        ("https://app.example.com:443", "as browsers send it: https://app.example.com"),
        ("http://app.example.com:0080", "as browsers send it: http://app.example.com"),
        ("https://app.example.com:08443", "as browsers send it: https://app.example.com:8443"),
        ("https://[2001:DB8:0::1]", r"as browsers send it: https://\[2001:db8::1\]"),
        ("https://app.example.com/path?x#y", "as browsers send it"),
        ("https://me@app.example.com", "as browsers send it"),
        ("https://app.example.com:99999", "65535"),
        ("https://[::g]", "DNS name"),
        ("https://[1::2::3]", "malformed"),
        ("https://", "DNS name"),
        ("https://a..example.com", "DNS name"),
        ("https://-a.example.com", "DNS name"),
        ("https://*", "DNS name"),
        ("https://*example.com", "DNS name"),
        ("https://a.*.example.com", "DNS name"),
        ("https://*.*.example.com", "DNS name"),
        ("https://*.com", "at least two labels"),
        ("https://*.1.2.3", "at least two labels"),
        ("app.example.com", "like https"),
        ("", "like https"),
        ("NULL", "like https"),
        ("https://b\u00fccher.example", "like https"),
        ("https://" + "a." * 150 + "example", "like https"),
    ],
)
def test_a_rule_that_no_browser_would_ever_send_is_refused(text: str, word: str) -> None:
    with pytest.raises(OriginError, match=word):
        check_rule(text)


def test_an_exact_origin_matches_itself_to_the_letter() -> None:
    origins = WebOrigins(["https://app.example.com", "http://localhost:3000"])
    assert origins.allow(b"https://app.example.com")
    assert origins.allow(b"http://localhost:3000")
    for other in (
        b"http://app.example.com",
        b"https://APP.example.com",
        b"https://app.example.com:443",
        b"https://app.example.com.evil.example",
        b"https://evil-app.example.com",
        b"https://app.example.com ",
        b"",
        b"null",
        b"*",
    ):
        assert not origins.allow(other), other
    assert repr(origins) == "<WebOrigins 2>"


def test_a_star_in_a_host_stands_for_one_label() -> None:
    origins = WebOrigins(["https://*.example.com", "http://*.dev.test:8080"])
    assert origins.allow(b"https://a.example.com")
    assert origins.allow(b"https://pr-17.example.com")
    assert origins.allow(b"http://x.dev.test:8080")
    for other in (
        b"https://example.com",
        b"https://.example.com",
        b"https://a.b.example.com",
        b"http://a.example.com",
        b"https://a.example.com:8443",
        b"https://evil.example/.example.com",
        b"https://evil.example#.example.com",
        b"https://evil@.example.com",
        b"https://A.example.com",
        b"https://*.example.com",
        b"https://aexample.com",
        b"http://x.dev.test",
        b"https://" + b"a" * 64 + b".example.com",
    ):
        assert not origins.allow(other), other


def test_null_is_allowed_only_where_it_is_written_out() -> None:
    assert WebOrigins(["null"]).allow(b"null")
    assert not WebOrigins(["https://a.example"]).allow(b"null")


def test_a_star_alone_is_everybody() -> None:
    origins = WebOrigins(["*"])
    assert origins.any
    assert origins.allow(b"https://anything.example")
    assert repr(origins) == "<WebOrigins *>"
    assert not WebOrigins(["null"]).any
