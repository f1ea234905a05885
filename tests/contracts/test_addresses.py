"""Twin of contracts.addresses: where a tenant may send us."""

from __future__ import annotations

import ipaddress

import pytest

from contracts.addresses import (
    AddressError,
    OriginUrl,
    check_url,
    parse_document_url,
    parse_networks,
    parse_origin_url,
    parse_server_name,
    refusal,
)

LOOPBACK = parse_networks("127.0.0.0/8, ::1/128")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://api.example.com", OriginUrl("https", "api.example.com", 443, "")),
        ("HTTP://API.Example.com:8080/Base/", OriginUrl("http", "api.example.com", 8080, "/Base")),
        ("http://127.0.0.1:8082", OriginUrl("http", "127.0.0.1", 8082, "")),
        ("http://[2001:4860:4860:0::8888]/", OriginUrl("http", "2001:4860:4860::8888", 80, "")),
        ("https://a_b.example.com/v%2F1", OriginUrl("https", "a_b.example.com", 443, "/v%2F1")),
        ("https://x.example.com:443", OriginUrl("https", "x.example.com", 443, "")),
    ],
)
def test_a_good_url_has_one_canonical_form(text: str, expected: OriginUrl) -> None:
    assert parse_origin_url(text) == expected
    assert parse_origin_url(str(expected)) == expected


def test_the_authority_leaves_out_a_default_port_and_brackets_ipv6() -> None:
    assert parse_origin_url("https://x.example.com:443/").authority == "x.example.com"
    assert parse_origin_url("http://x.example.com:443/").authority == "x.example.com:443"
    assert parse_origin_url("http://[2001:4860::1]:8080").authority == "[2001:4860::1]:8080"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "http://"),
        ("ftp://example.com", "http://"),
        ("//example.com", "http://"),
        ("javascript:alert(1)", "http://"),
        ("https://user:pw@example.com", "user name"),
        ("https://@example.com", "user name"),
        ("https://example.com?x=1", "query"),
        ("https://example.com#", "fragment"),
        ("https://", "host"),
        ("https://:443", "host"),
        ("https://example.com:", "malformed"),
        ("https://example.com:99999", "65535"),
        ("https://example.com:+80", "malformed"),
        ("http://[::1]evil.example", "malformed"),
        ("http://[::1]:", "malformed"),
        ("http://[]", "IPv6"),
        ("https://example.com:x", "malformed"),
        ("https://example.com:0", "at least 1024"),
        ("https://example.com:25", "at least 1024"),
        ("https://example.com:6379", "6379"),
        ("https://exa mple.com", "spaces"),
        ("https://example.com\n", "spaces"),
        ("https://exämple.com", "xn--"),
        ("https://example.com\\@evil.example", "backslash"),
        ("https://-bad.example.com", "DNS name"),
        ("https://a..b.example.com", "DNS name"),
        ("https://example.com.", "DNS name"),
        ("https://ex%61mple.com", "DNS name"),
        (f"https://{'a' * 64}.example.com", "DNS name"),
        (f"https://{'.'.join(['a' * 60] * 5)}.com", "DNS name"),
        ("http://2130706433", "four decimal"),
        ("http://0x7f.1", "four decimal"),
        ("http://127.1", "four decimal"),
        ("http://0177.0.0.1", "four decimal"),
        ("http://1.2.3.0x7f", "four decimal"),
        ("http://[::1", "malformed"),
        ("http://[fe80::1%25eth0]", "malformed"),
        ("http://[fe80::1%eth0]", "malformed"),
        ("http://127.0.0.1.", "DNS name"),
        ("http://localhost.", "DNS name"),
        ("http://017700000001", "four decimal"),
        ("http://0x7f000001", "four decimal"),
        ("http://0X7F.0.0.1", "four decimal"),
        ("http://127.0.1", "four decimal"),
        ("http://00000177.0.0.1", "four decimal"),
        ("http://127.0.0.1.1", "four decimal"),
        ("http://１２７.0.0.1", "xn--"),
        ("http://127。0。0。1", "xn--"),
        ("http://[::ffff:127.0.0.1", "malformed"),
        ("http://[0:0:0:0:0:ffff:7f00:1:]", "IPv6"),
        ("http://[zz]", "malformed"),
        ("http://[:::]", "IPv6"),
        ("https://example.com/a b", "spaces"),
        ("https://example.com/<x>", "percent-encoded"),
        ("https://example.com/%zz", "percent-encoded"),
        ("https://example.com/a/%2E%2e/b", "dot segments"),
        ("https://example.com/" + "a" * 2048, "2048"),
    ],
)
def test_a_bad_url_is_refused_and_the_reason_says_what_to_mend(text: str, word: str) -> None:
    with pytest.raises(AddressError, match=word):
        parse_origin_url(text)


@pytest.mark.parametrize(
    "ip",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.31.255.255",
        "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.9",
        "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::a00:1",
        "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1",
        "2001:0:5ef5:79fb:0:0:80ff:fffe", "100::1", "2001:db8::1", "3fff::1", "2001:2::1", "5f00::1",
        "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "fe80::1%eth0", "not an address", "",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(ip: str) -> None:
    assert refusal(ip, ()) is not None


@pytest.mark.parametrize("ip", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_passes(ip: str) -> None:
    assert refusal(ip, ()) is None


def test_a_teredo_address_is_judged_by_the_client_inside_it() -> None:
    inside = ipaddress.IPv4Address("127.0.0.1")
    teredo = ipaddress.IPv6Address((0x20010000 << 96) | (0x08080808 << 64) | (int(inside) ^ 0xFFFFFFFF))
    assert teredo.teredo is not None
    assert teredo.teredo[1] == inside
    assert refusal(str(teredo), ()) == "is loopback"


@pytest.mark.parametrize(
    "network",
    [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
        "::/128", "::1/128", "::/96", "::ffff:10.0.0.0/104", "64:ff9b::a00:0/104", "64:ff9b:1::/48", "100::/64",
        "2001::/32", "2001:2::/48", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
        "fec0::/10", "ff00::/8",
    ],
)  # fmt: skip
def test_a_forbidden_range_is_forbidden_from_its_first_address_to_its_last(network: str) -> None:
    whole = ipaddress.ip_network(network)
    middle = whole.network_address + whole.num_addresses // 3
    for address in (whole[0], middle, whole[-1]):
        assert refusal(str(address), ()) is not None, address


@pytest.mark.parametrize(
    "ip",
    [
        "169.254.169.254", "169.254.170.2", "169.254.0.23", "fd00:ec2::254", "fd20:ce::254", "fe80::a9fe:a9fe",
        "100.100.100.200", "192.0.0.192", "168.63.129.16", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
        "::ffff:168.63.129.16", "2002:a9fe:a9fe::1",
    ],
)  # fmt: skip
def test_no_metadata_service_of_a_cloud_is_reached_however_it_is_written(ip: str) -> None:
    assert refusal(ip, ()) is not None
    assert refusal(ip, LOOPBACK) is not None


@pytest.mark.parametrize(
    ("ip", "reason"),
    [("2002:808:808::1", "6to4"), ("::8.8.8.8", "IPv4-compatible"), ("2001:0:808:808::f7f7:f7f7", "Teredo")],
)
def test_a_tunnel_is_refused_even_when_it_leads_to_a_public_address(ip: str, reason: str) -> None:
    assert reason in (refusal(ip, ()) or "")
    # It is opened by opening what is inside it, as any wrapped address is.
    assert refusal(ip, parse_networks("8.8.8.8/32")) is None


def test_only_what_the_deployment_opened_is_open() -> None:
    assert refusal("127.0.0.1", LOOPBACK) is None
    assert refusal("::1", LOOPBACK) is None
    assert refusal("::ffff:127.0.0.1", LOOPBACK) is None
    assert refusal("10.0.0.1", LOOPBACK) == "is private"
    assert refusal("169.254.169.254", LOOPBACK) == "is link-local"
    # Opening a wrapper's own range does not open what is inside it.
    assert refusal("64:ff9b::a00:1", parse_networks("64:ff9b::/96")) == "is private"


def test_a_literal_address_and_a_private_name_are_refused_at_write() -> None:
    assert check_url(parse_origin_url("http://127.0.0.1:8082"), ()) == "is loopback"
    assert check_url(parse_origin_url("http://[::1]:8082"), ()) == "is loopback"
    assert check_url(parse_origin_url("http://127.0.0.1:8082"), LOOPBACK) is None
    for name in ("localhost", "db", "x.localhost", "printer.local", "metadata.google.internal"):
        assert check_url(parse_origin_url(f"http://{name}"), ()) == "names a private host"
        assert check_url(parse_origin_url(f"http://{name}"), LOOPBACK) is None
    assert check_url(parse_origin_url("https://api.example.com"), ()) is None


@pytest.mark.parametrize(
    ("text", "word"),
    [("", "DNS name"), ("192.0.2.1", "address"), ("[::1]", "address"), ("::1", "DNS name"), ("127.1", "address"),
     ("a..b", "DNS name"), ("*.example.com", "DNS name"), ("exämple.com", "xn--"), ("a b", "DNS name like"),
     (".".join(["a" * 50] * 5), "DNS name like")],
)  # fmt: skip
def test_a_server_name_is_a_dns_name(text: str, word: str) -> None:
    """RFC 6066 section 3: literal IPv4 and IPv6 addresses are not permitted in "HostName"."""
    assert parse_server_name("API.Example.com") == "api.example.com"
    with pytest.raises(AddressError, match=word):
        parse_server_name(text)


def test_networks_are_read_and_a_bad_entry_is_named() -> None:
    assert parse_networks(" ") == ()
    assert [str(network) for network in parse_networks("10.0.0.0/8, ::1/128,")] == ["10.0.0.0/8", "::1/128"]
    with pytest.raises(AddressError, match=r"10\.0\.0\.1/8"):
        parse_networks("10.0.0.1/8")


@pytest.mark.parametrize("ip", ["2001:10::1", "4000::1", "e000::1", "8000::1"])
def test_what_nobody_was_given_is_reserved(ip):
    assert refusal(ip, ()) == "is reserved"


def test_a_metadata_service_with_a_public_number_is_refused():
    assert refusal("168.63.129.16", ()) == "is a cloud's metadata service"


@pytest.mark.parametrize(
    ("text", "where", "target"),
    [
        ("https://id.example.com", "https://id.example.com", "/"),
        ("https://ID.example.com/", "https://id.example.com", "/"),
        ("https://id.example.com/o/introspect/", "https://id.example.com/o/introspect", "/o/introspect/"),
        ("https://id.example.com:8443/keys?p=a%20b&c=/?", "https://id.example.com:8443/keys", "/keys?p=a%20b&c=/?"),
        ("https://id.example.com?", "https://id.example.com", "/?"),
    ],
)
def test_a_document_is_named_as_it_was_written(text: str, where: str, target: str) -> None:
    url, asked = parse_document_url(text)
    assert (str(url), asked) == (where, target)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("https://id.example.com/#keys", "fragment"),
        ("https://id.example.com/?a#b", "query"),
        ("https://id.example.com/?a b", "query"),
        ("https://id.example.com/?\u00e4", "query"),
        ("https://id.example.com/?" + "a" * 2_048, "at most 2048"),
        ("https://me@id.example.com/", "user name"),
        ("https://id.example.com/../keys", "dot segments"),
    ],
)
def test_what_is_no_url_of_a_document_is_refused(text: str, word: str) -> None:
    with pytest.raises(AddressError, match=word):
        parse_document_url(text)
