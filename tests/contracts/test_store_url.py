from __future__ import annotations

import pytest

from contracts.store_url import StoreUrl, is_cluster, parse


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://cache.test", StoreUrl((("cache.test", 6379),), False, False)),
        (
            "rediss://u%40x:p%3Aw@cache.test:6380/0?ssl_cert_reqs=none",
            StoreUrl((("cache.test", 6380),), False, True, False, "u@x", "p:w"),
        ),
        ("redis+cluster://one.test", StoreUrl((("one.test", 6379),), True, False)),
        (
            "rediss+cluster://:secret@one.test:7000,two.test,[::1]:7002/",
            StoreUrl((("one.test", 7000), ("two.test", 6379), ("::1", 7002)), True, True, True, "", "secret"),
        ),
    ],
)
def test_an_address_is_read(text, url):
    assert parse(text) == url
    assert is_cluster(text) == url.is_cluster


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://cache.test", "must start with redis://"),
        ("redis-cluster://one.test", "must start with redis://"),
        ("redis://cache.test/1", "must use database 0"),
        ("redis+cluster://one.test/3", "must use database 0"),
        ("redis://cache.test?db=3", "may carry no parameter"),
        ("redis://one.test,two.test", "several make a cluster"),
        ("redis:///0", "must name a host"),
        ("redis+cluster://one.test,,two.test", "must name a host"),
        ("redis://cache.test:port", "is not a URL"),
        ("redis+cluster://one.test:70000", "is not a URL"),
        ("redis://[::1", "is not a URL"),
    ],
)
def test_a_refusal_says_what_is_wrong(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_a_password_is_in_no_refusal_and_no_repr():
    with pytest.raises(ValueError) as refused:
        parse("redis://user:hunter2@host:bad")
    assert "hunter2" not in str(refused.value) + repr(parse("redis://user:hunter2@host"))
