"""Twin of edge.net.address: names, and what they may lead to."""

from __future__ import annotations

import gevent
import pytest

from contracts.addresses import parse_networks
from edge.errors import GatewayError, Retry
from edge.net.address import Resolver, checked


class Dns:
    """A name server in a function: answers, errors and a clock to set."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.now = 0.0

    def __call__(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    def resolver(self) -> Resolver:
        return Resolver(self, lambda: self.now)


def test_a_literal_address_needs_no_question():
    dns = Dns(OSError())
    assert dns.resolver().addresses("192.0.2.1") == ("192.0.2.1",)
    assert dns.resolver().addresses("2001:db8::1") == ("2001:db8::1",)
    assert dns.asked == []


def test_an_answer_is_kept_for_a_while():
    dns = Dns(("8.8.8.8",), ("8.8.4.4",))
    resolver = dns.resolver()
    assert resolver.addresses("a.test") == resolver.addresses("a.test") == ("8.8.8.8",)
    dns.now = 31.0
    assert resolver.addresses("a.test") == ("8.8.4.4",)
    assert len(dns.asked) == 2
    assert repr(resolver) == "<Resolver 1 names>"


def test_while_dns_is_away_the_last_good_answer_serves_on_for_an_hour():
    dns = Dns(("8.8.8.8",), OSError("away"))
    resolver = dns.resolver()
    resolver.addresses("a.test")
    for dns.now in (40.0, 1000.0, 3000.0):
        assert resolver.addresses("a.test") == ("8.8.8.8",)
    dns.now = 9000.0
    assert resolver.addresses("a.test") == ()


def test_a_failure_is_remembered_for_moments_only():
    dns = Dns(OSError(), ("8.8.8.8",))
    resolver = dns.resolver()
    assert resolver.addresses("a.test") == () == resolver.addresses("a.test")
    assert len(dns.asked) == 1
    dns.now = 3.0
    assert resolver.addresses("a.test") == ("8.8.8.8",)


def test_a_name_is_asked_once_by_all_who_wait_for_it():
    asked = []

    def slow(host: str) -> tuple[str, ...]:
        asked.append(host)
        gevent.sleep(0.05)
        return ("8.8.8.8",)

    resolver = Resolver(slow)
    waiting = [gevent.spawn(resolver.addresses, "a.test") for _ in range(10)]
    gevent.joinall(waiting, raise_error=True)
    assert [greenlet.value for greenlet in waiting] == [("8.8.8.8",)] * 10
    assert asked == ["a.test"]


def test_the_names_kept_are_bounded():
    resolver = Dns(("8.8.8.8",)).resolver()
    for number in range(5000):
        resolver.addresses(f"n{number}.test")
    assert repr(resolver) == "<Resolver 4096 names>"


def test_localhost_is_resolved_by_the_machine():
    assert "127.0.0.1" in Resolver().addresses("localhost")


def test_one_forbidden_address_spoils_the_whole_answer():
    resolver = Dns(("8.8.8.8", "169.254.169.254")).resolver()
    with pytest.raises(GatewayError) as caught:
        checked(resolver, "a.test", ())
    assert caught.value.problem.slug == "origin-forbidden"
    assert caught.value.retry is Retry.NEVER
    assert "169.254.169.254" in caught.value.internal
    assert "169" not in caught.value.detail


def test_an_address_is_checked_again_when_the_name_changes_its_mind():
    """DNS rebinding: public when the origin was written, private when it is connected to."""
    dns = Dns(("8.8.8.8",), ("10.0.0.1",))
    resolver = dns.resolver()
    assert checked(resolver, "a.test", ()) == ("8.8.8.8",)
    dns.now = 31.0
    with pytest.raises(GatewayError):
        checked(resolver, "a.test", ())
    assert checked(resolver, "a.test", parse_networks("10.0.0.0/8")) == ("10.0.0.1",)


def test_a_name_without_address_is_unreachable_and_nothing_was_sent():
    with pytest.raises(GatewayError) as caught:
        checked(Dns(()).resolver(), "a.test", ())
    assert (caught.value.problem.slug, caught.value.retry, caught.value.proxy_error) == (
        "origin-unreachable",
        Retry.NOTHING_SENT,
        "dns_error",
    )


def test_a_name_that_is_asked_for_all_the_time_is_not_served_without_dns_for_ever():
    dns = Dns(("8.8.8.8",), OSError("away"))
    resolver = dns.resolver()
    for dns.now in range(0, 4_000, 10):
        resolver.addresses("a.test")
    assert resolver.addresses("a.test") == ()
