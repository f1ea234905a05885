"""Twin of edge.net.address: names, and what they may lead to."""

from __future__ import annotations

import gevent
import pytest

from contracts.addresses import parse_networks
from edge.errors import GatewayError, Retry
from edge.net.address import Resolver, checked
from edge.net.dns import Answer


class Dns:
    """A name server in a function: answers, errors and a clock to set."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.now = 0.0

    def __call__(self, host: str) -> Answer:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Answer) else Answer(answer, 30.0)

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

    def slow(host: str) -> Answer:
        asked.append(host)
        gevent.sleep(0.05)
        return Answer(("8.8.8.8",), 30.0)

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


def test_an_answer_holds_as_long_as_it_says_within_bounds():
    dns = Dns(Answer(("8.8.8.1",), 0), Answer(("8.8.8.2",), 40), Answer(("8.8.8.3",), 86_400), ("8.8.8.4",))
    resolver = dns.resolver()
    for dns.now, expected in ((0, 1), (0.9, 1), (1, 2), (40.9, 2), (41, 3), (340.9, 3), (341, 4)):
        assert resolver.addresses("a.test") == (f"8.8.8.{expected}",), dns.now


def test_a_name_that_does_not_exist_is_not_asked_for_again_at_once_nor_for_long_remembered():
    dns = Dns(Answer((), 0), Answer((), 3600), ("8.8.8.8",))
    resolver = dns.resolver()
    for dns.now, asked in ((0, 1), (0.9, 1), (1, 2), (30.9, 2)):
        assert resolver.addresses("a.test") == ()
        assert len(dns.asked) == asked, dns.now
    dns.now = 31
    assert resolver.addresses("a.test") == ("8.8.8.8",)


def test_when_dns_says_that_the_name_is_gone_the_last_good_answer_is_not_served():
    dns = Dns(("8.8.8.8",), Answer((), 10))
    resolver = dns.resolver()
    resolver.addresses("a.test")
    dns.now = 31
    assert resolver.addresses("a.test") == ()


def settled(resolver: Resolver, now: float) -> None:
    resolver.renew(now)
    gevent.idle()
    gevent.sleep(0.001)


def test_a_name_in_use_is_asked_for_before_its_answer_ends_so_that_nobody_waits():
    dns = Dns(*[Answer((f"8.8.8.{n}",), 30) for n in range(100)])
    resolver = dns.resolver()
    resolver.addresses("a.test")
    for dns.now in range(1, 120):
        settled(resolver, dns.now)
        before = len(dns.asked)
        assert resolver.addresses("a.test") == (f"8.8.8.{before - 1}",)
        assert len(dns.asked) == before  # the request itself never asked
    assert len(dns.asked) == 5


def test_a_name_that_nobody_uses_is_let_be():
    dns = Dns(Answer(("8.8.8.8",), 5))
    resolver = dns.resolver()
    resolver.addresses("a.test")
    for dns.now in range(600):
        settled(resolver, dns.now)
    assert len(dns.asked) == 16  # for a minute, every 4 s


def test_a_question_that_takes_long_does_not_hold_up_a_request_with_an_answer_at_hand():
    def lookup(host: str) -> Answer:
        if asked:
            gevent.sleep(10)
        asked.append(host)
        return Answer(("8.8.8.8",), 30)

    asked: list[str] = []
    now = [0.0]
    resolver = Resolver(lookup, lambda: now[0])
    resolver.addresses("a.test")
    now[0] = 25.0
    settled(resolver, 25.0)  # the question is on its way
    now[0] = 31.0
    with gevent.Timeout(0.2):
        assert resolver.addresses("a.test") == ("8.8.8.8",)


def test_one_who_leaves_does_not_end_the_question_of_the_others():
    def slow(host: str) -> Answer:
        gevent.sleep(0.05)
        return Answer(("8.8.8.8",), 30)

    resolver = Resolver(slow)
    first = gevent.spawn(resolver.addresses, "a.test")
    gevent.sleep(0.01)
    second = gevent.spawn(resolver.addresses, "a.test")
    gevent.sleep(0.01)
    first.kill()
    assert second.get(timeout=1) == ("8.8.8.8",)


def test_connections_are_kept_to_what_the_name_has_and_for_one_more_ttl_to_what_it_had():
    dns = Dns(Answer(("8.8.8.1", "8.8.8.2"), 30), Answer(("8.8.8.2", "8.8.8.1"), 30), Answer(("8.8.8.2",), 10))
    resolver = dns.resolver()
    assert resolver.kept("a.test") is None
    resolver.addresses("a.test")
    both = resolver.kept("a.test")
    assert both == {"8.8.8.1", "8.8.8.2"}
    dns.now = 31
    resolver.addresses("a.test")
    assert resolver.kept("a.test") is both  # another order is no change
    dns.now = 62
    resolver.addresses("a.test")
    dns.now = 71
    assert resolver.kept("a.test") == both
    dns.now = 72
    assert resolver.kept("a.test") == {"8.8.8.2"}


def test_while_dns_is_away_connections_are_kept():
    dns = Dns(("8.8.8.1",), OSError("away"))
    resolver = dns.resolver()
    resolver.addresses("a.test")
    dns.now = 1_000
    resolver.addresses("a.test")
    assert resolver.kept("a.test") == {"8.8.8.1"}
