"""Twin of edge.net.dns, against a name server on loopback."""

from __future__ import annotations

import time
from pathlib import Path

import dns.message
import dns.rrset
import gevent
import pytest

from edge.net import dns as client
from edge.net.dns import Answer, DnsClient
from tests.origins.name_server import SERVFAIL, SILENT, NameServer, Reply, a, none, nxdomain


@pytest.fixture
def server(tmp_path: Path):
    with NameServer(tmp_path) as running:
        yield running


def asking(server: NameServer, *more: NameServer, options: str = "") -> DnsClient:
    text = "".join(each.conf.read_text() for each in (server, *more)) + options
    conf = server.conf.with_name("all.conf")
    conf.write_text(text)
    return DnsClient(conf, server.hosts)


def test_both_families_are_asked_and_the_shorter_ttl_holds(server):
    server.names("a.test", a("192.0.2.1", "192.0.2.2", ttl=70), a("2001:db8::1", ttl=40))
    answer = asking(server)("a.test")
    assert set(answer.addresses) == {"2001:db8::1", "192.0.2.1", "192.0.2.2"}
    assert answer.ttl_s == 40
    assert sorted(server.asked) == [("a.test", "A", "udp"), ("a.test", "AAAA", "udp")]


def test_a_family_without_addresses_says_nothing_about_the_other(server):
    server.names("a.test", a("192.0.2.1", ttl=70), none(5, 5))
    assert asking(server)("a.test") == Answer(("192.0.2.1",), 70)


def test_a_name_that_does_not_exist_is_an_answer_that_lives_as_long_as_the_soa_says(server):
    """RFC 2308 section 5: the TTL is the minimum of the SOA.MINIMUM field and the SOA's TTL."""
    server.names("a.test", nxdomain(90, 20), nxdomain(90, 20))
    assert asking(server)("a.test") == Answer((), 20)
    server.names("b.test", none(15, 3600), none(15, 3600))
    assert asking(server)("b.test") == Answer((), 15)


def test_aliases_are_followed_and_their_ttl_counts(server):
    chain = [("", 9, "CNAME", "b.test."), ("b.test", 60, "CNAME", "c.test."), ("c.test", 60, "A", "192.0.2.3")]
    server.names("a.test", Reply(chain))
    assert asking(server)("a.test") == Answer(("192.0.2.3",), 9)


def test_an_alias_whose_end_the_server_left_out_is_asked_for(server):
    server.names("a.test", Reply([("", 9, "CNAME", "b.test.")]))
    server.names("b.test", a("192.0.2.3"))
    assert asking(server)("a.test") == Answer(("192.0.2.3",), 9)


@pytest.mark.parametrize("whole", [True, False], ids=["in one answer", "one by one"])
def test_a_chain_of_aliases_is_bounded(server, whole):
    links = [(f"n{n}.test", 60, "CNAME", f"n{n + 1}.test.") for n in range(12)]
    end = ("n12.test", 60, "A", "192.0.2.3")
    if whole:
        server.names("n0.test", Reply([*links, end]))
    else:
        for n, link in enumerate(links):
            server.names(f"n{n}.test", Reply([link]))
    with pytest.raises(OSError, match="too many aliases"):
        asking(server)("n0.test")


def test_aliases_that_lead_in_a_circle_are_no_answer(server):
    server.names("a.test", Reply([("", 9, "CNAME", "b.test."), ("b.test", 9, "CNAME", "a.test.")]))
    with pytest.raises(OSError):
        asking(server)("a.test")


def test_a_truncated_answer_is_asked_for_again_over_tcp(server):
    many = [f"192.0.2.{n}" for n in range(200)]
    server.names("a.test", Reply(truncated=True))
    server.over_tcp["a.test", "A"] = a(*many)
    assert set(asking(server)("a.test").addresses) == set(many)
    assert ("a.test", "A", "tcp") in server.asked


def test_a_giant_answer_is_refused(server):
    server.names("a.test", Reply(truncated=True))
    server.over_tcp["a.test", "A"] = a(*[f"10.{n // 250}.{n % 250}.1" for n in range(1500)])
    with pytest.raises(OSError, match="octets"):
        asking(server)("a.test")
    server.over_tcp["a.test", "A"] = a(*[f"10.0.{n // 250}.{n % 250}" for n in range(300)])
    with pytest.raises(OSError, match="300 addresses"):
        asking(server)("a.test")


def test_the_next_server_is_asked_when_one_fails_or_is_silent(server, tmp_path):
    with NameServer(tmp_path) as second:
        second.names("a.test", a("192.0.2.1"))
        second.names("b.test", a("192.0.2.2"))
        server.names("a.test", SERVFAIL, SERVFAIL)
        server.names("b.test", SILENT, SILENT)
        ask = asking(server, second, options="options timeout:1\n")
        assert ask("a.test").addresses == ("192.0.2.1",)
        server.asked.clear()
        assert ask("a.test").addresses == ("192.0.2.1",)
        assert server.asked == []  # who answered last is asked first
        ask = asking(server, second, options="options timeout:1\n")
        began = time.monotonic()
        assert ask("b.test").addresses == ("192.0.2.2",)
        assert 0.9 < time.monotonic() - began < 2.5


def test_a_server_that_is_not_there_costs_nothing(server, tmp_path):
    with NameServer(tmp_path) as gone:
        pass
    server.names("a.test", a("192.0.2.1"))
    began = time.monotonic()
    assert asking(gone, server)("a.test").addresses == ("192.0.2.1",)
    assert time.monotonic() - began < 1.5  # a silent one would cost seconds


@pytest.mark.parametrize("says", [SERVFAIL, Reply(rcode="REFUSED"), Reply(raw=b"\x81\x80\0\1\0\1\0\0\0\0garbage")])
def test_a_server_that_cannot_say_is_not_taken_for_one_that_says_no(server, says, monkeypatch):
    monkeypatch.setattr(client, "LOOKUP_S", 0.6)
    server.names("a.test", says, says)
    with pytest.raises(OSError):
        asking(server)("a.test")


def test_a_look_up_ends_in_time_when_everybody_is_silent(server, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "LOOKUP_S", 0.8)
    with NameServer(tmp_path) as second:
        for each in (server, second):
            each.names("a.test", SILENT, SILENT)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            asking(server, second)("a.test")
        assert time.monotonic() - began < 1.5
        assert server.count("a.test") == 2 == second.count("a.test")


def test_a_family_that_is_silent_does_not_hold_up_the_other_and_shortens_its_life(server):
    server.names("a.test", a("192.0.2.1", ttl=300), SILENT)
    began = time.monotonic()
    assert asking(server)("a.test") == Answer(("192.0.2.1",), 30)
    assert time.monotonic() - began < 1.0


def test_one_family_s_failure_is_not_a_no(server):
    server.names("a.test", SERVFAIL, none())
    with pytest.raises(OSError):
        asking(server)("a.test")


def test_what_is_not_the_answer_to_the_question_is_ignored(server):
    """RFC 5452 section 9.1: an answer must match the question's id, name, class, type and the server's address."""
    forged = dns.rrset.from_text("a.test.", 60, "IN", "A", "192.0.2.66")

    def mangle(query: bytes, answer: bytes) -> list[bytes]:
        other = dns.message.make_response(dns.message.make_query("evil.test", "A", id=int.from_bytes(query[:2], "big")))
        other.answer.append(forged)
        lie = dns.message.make_response(dns.message.from_wire(query))
        lie.answer.append(forged)
        guess = bytes([query[0] ^ 1, query[1]]) + lie.to_wire()[2:]
        return [b"", b"\0", guess, query, other.to_wire(), answer]

    server.names("a.test", a("192.0.2.1"))
    server.mangle = mangle
    assert asking(server)("a.test").addresses == ("192.0.2.1",)


def test_a_server_that_knows_no_edns_is_asked_without(server):
    """RFC 6891 section 7: responders that do not implement EDNS(0) answer FORMERR."""
    server.names("a.test", lambda query: Reply(rcode="FORMERR") if query.edns >= 0 else a("192.0.2.1"))
    assert asking(server)("a.test").addresses == ("192.0.2.1",)


def test_the_search_list_is_walked_until_a_name_exists(server):
    server.names("backend.b.test", a("192.0.2.1"))
    assert asking(server, options="search a.test b.test\n")("backend").addresses == ("192.0.2.1",)
    assert [asked[0] for asked in server.asked if asked[1] == "A"] == ["backend.a.test", "backend.b.test"]


def test_a_name_of_the_search_list_that_cannot_be_asked_for_ends_the_look_up(server):
    """The next candidate, here the public api.dev, may be somebody else's."""
    server.names("api.dev.cluster.test", SERVFAIL, SERVFAIL)
    server.names("api.dev", a("192.0.2.66"))
    with pytest.raises(OSError, match="SERVFAIL"):
        asking(server, options="search cluster.test\noptions ndots:5\n")("api.dev")


def test_the_hosts_file_and_localhost_are_not_asked_for(server):
    server.hosts.write_text("192.0.2.7 box.test box\n192.0.2.8 Box.Test\n")
    ask = asking(server)
    assert ask("box.test") == Answer(("192.0.2.7", "192.0.2.8"), 5)
    assert ask("localhost").addresses == ask("x.localhost").addresses == ("127.0.0.1", "::1")
    assert server.asked == []
    assert repr(ask) == "<DnsClient 1 servers>"


def test_a_changed_resolv_conf_is_followed(server, tmp_path):
    with NameServer(tmp_path) as second:
        server.names("a.test", a("192.0.2.1"))
        second.names("a.test", a("192.0.2.2"))
        now = [0.0]
        conf = tmp_path / "resolv.conf"
        conf.write_text(server.conf.read_text())
        ask = DnsClient(conf, server.hosts, lambda: time.monotonic() + now[0])
        assert ask("a.test").addresses == ("192.0.2.1",)
        conf.write_text(second.conf.read_text() + "# changed\n")
        now[0] = 2.0
        assert ask("a.test").addresses == ("192.0.2.2",)


def test_the_hub_goes_on_while_a_server_is_silent(server, monkeypatch):
    monkeypatch.setattr(client, "LOOKUP_S", 0.5)
    server.names("a.test", SILENT, SILENT)

    def ask() -> None:
        with pytest.raises(TimeoutError):
            asking(server)("a.test")

    asked = gevent.spawn(ask)
    ticks = 0
    while not asked.ready():
        gevent.sleep(0.01)
        ticks += 1
    asked.get()
    assert ticks > 10


def test_a_host_that_is_no_dns_name_is_an_error_and_is_not_asked_for(server):
    with pytest.raises(OSError, match="not a DNS name"):
        asking(server)("a..test")
    assert server.asked == []
