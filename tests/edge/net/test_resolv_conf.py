"""Twin of edge.net.resolv_conf: what the machine says about names."""

from __future__ import annotations

import os
import socket

import pytest

from edge.net.resolv_conf import Watched, parse_hosts, parse_resolv_conf


def test_servers_search_list_and_options_are_read():
    conf = parse_resolv_conf(
        "# made by hand\nnameserver 192.0.2.1\nnameserver [192.0.2.2]:5353\nnameserver 2001:db8::1\n"
        "search Svc.Cluster.Local. cluster.local\noptions ndots:5 timeout:1 attempts:3 rotate edns0\n"
    )
    assert conf.servers == (
        (socket.AF_INET, ("192.0.2.1", 53)),
        (socket.AF_INET, ("192.0.2.2", 5353)),
        (socket.AF_INET6, ("2001:db8::1", 53, 0, 0)),
    )
    assert (conf.search, conf.ndots, conf.timeout_s, conf.attempts) == (("svc.cluster.local", "cluster.local"), 5, 1, 3)


def test_what_is_not_understood_is_skipped_and_without_a_server_this_machine_is_asked():
    conf = parse_resolv_conf("nameserver\nnameserver not-an-address\noptions ndots:x timeout:99999\nsearch\n;x\n")
    assert conf.servers == ((socket.AF_INET, ("127.0.0.1", 53)),)
    assert (conf.search, conf.ndots, conf.timeout_s, conf.attempts) == ((), 1, 5, 2)


def test_the_bounds_of_the_file_hold():
    conf = parse_resolv_conf(
        "\n".join(f"nameserver 192.0.2.{n}" for n in range(1, 9)) + "\noptions ndots:99 timeout:0 attempts:99\n"
        "search " + " ".join(f"d{n}.test" for n in range(20))
    )
    assert (len(conf.servers), len(conf.search)) == (3, 6)
    assert (conf.ndots, conf.timeout_s, conf.attempts) == (15, 1, 5)


@pytest.mark.parametrize(
    ("host", "ndots", "expected"),
    [
        ("api.example.com", 1, ("api.example.com", "api.example.com.a.test", "api.example.com.b.test")),
        ("api.example.com", 5, ("api.example.com.a.test", "api.example.com.b.test", "api.example.com")),
        ("backend", 1, ("backend.a.test", "backend.b.test", "backend")),
    ],
)
def test_names_are_tried_in_the_order_of_the_c_library(host, ndots, expected):
    assert parse_resolv_conf(f"search a.test b.test\noptions ndots:{ndots}").candidates(host) == expected


def test_a_candidate_that_is_too_long_for_dns_is_left_out():
    assert parse_resolv_conf(f"search {'d' * 60}.test").candidates("a" * 200) == ("a" * 200,)


def test_hosts_are_read_with_all_their_addresses():
    hosts = parse_hosts(
        "127.0.0.1 localhost Box # ours\n::1 localhost\n127.0.0.1 localhost\nbad line\n# 1.1.1.1 no\n10.0.0.1\n"
    )
    assert hosts == {"localhost": ("127.0.0.1", "::1"), "box": ("127.0.0.1",)}


def test_a_file_that_changes_is_read_again_and_one_that_is_gone_counts_as_empty(tmp_path):
    now = 0.0
    path = tmp_path / "resolv.conf"
    path.write_text("search a.test")
    watched = Watched(path, parse_resolv_conf, lambda: now)
    assert watched.value.search == ("a.test",)
    path.write_text("search b.test")
    os.utime(path, ns=(1, 1))
    assert watched.value.search == ("a.test",)  # looked at once a second
    now = 1.0
    assert watched.value.search == ("b.test",)
    same = watched.value
    now = 2.0
    assert watched.value is same
    path.unlink()
    now = 3.0
    assert watched.value.search == ()
    now = 4.0
    assert watched.value.search == ()
    path.write_text("search c.test")
    now = 5.0
    assert watched.value.search == ("c.test",)
