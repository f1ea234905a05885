"""Which addresses and URLs a tenant may send us to, at write and again at each connection.

In:    the URL as a tenant wrote it; an address a name resolved to; what the deployment opens (ALLOWED_PRIVATE_ORIGINS).
Out:   OriginUrl in its one canonical form; a reason why an address is refused, or None.
Laws:  1. The answer of a resolver is never trusted: every address of it must pass `refusal`, and the connection goes to
       the address that was checked. 2. An address that carries another one inside is judged by what is inside
       (v4-mapped, NAT64: that is where the packet ends), and refused all the same where the wrapping is a tunnel that
       nobody publishes an API through (v4-compatible, 6to4, Teredo). 3. `is_global` of the standard library is not
       enough: it is true for multicast, NAT64 and 6to4. 4. Reasons are safe to show to the tenant.
Not here: resolving (edge.net.address, worker.checker, webapp.services.origins).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from contracts.bounds import URL_CHARS_MAX

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Stores and control sockets that answer anybody who can reach them; nobody publishes an API there.
_REFUSED_PORTS: Final = frozenset({2375, 2376, 2379, 2380, 3306, 5432, 6379, 9200, 9300, 10250, 11211, 27017})
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
# inet_aton reads 0x7f.1, 017700000001 and 2130706433 as addresses; a last label like these is never a name's.
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
# No zone id in brackets: it means something on one machine only.
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_PATH: Final = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*)*")
_QUERY: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")
_PRIVATE_SUFFIXES: Final = (".localhost", ".local", ".internal", ".lan", ".home.arpa")

# Beyond what is_global refuses, or refused whatever the standard library of the day says.
_REFUSED_NETWORKS: Final = tuple(
    (ipaddress.ip_network(text), reason)
    for text, reason in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared (carrier-grade NAT)"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's metadata service"),  # public by its number, the host's by its meaning
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved for documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "reserved for benchmarks"),
        ("198.51.100.0/24", "reserved for documentation"),
        ("203.0.113.0/24", "reserved for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("64:ff9b:1::/48", "private (local NAT64)"),
        ("100::/64", "reserved"),
        ("2001:2::/48", "reserved for benchmarks"),
        ("2001:db8::/32", "reserved for documentation"),
        ("3fff::/20", "reserved for documentation"),
        ("5f00::/16", "reserved"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_TUNNELS: Final = tuple(
    (ipaddress.IPv6Network(text), reason)
    for text, reason in (
        ("::/96", "IPv4-compatible, which nobody uses any more"),  # RFC 4291 section 2.5.5.1
        ("2001::/32", "a Teredo tunnel's"),
        ("2002::/16", "a 6to4 tunnel's"),  # RFC 7526: withdrawn
    )
)
_V4_COMPATIBLE: Final = _TUNNELS[0][0]


class AddressError(ValueError):
    """The URL or the network list is refused; the message is for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class OriginUrl:
    """Shape: `host` lower-cased, IPv6 without brackets; `base_path` is empty, or starts and does not end with "/"."""

    scheme: str
    host: str
    port: int
    base_path: str

    @property
    def authority(self) -> str:
        """The Host field's value: brackets for IPv6, no default port (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_address(self) -> bool:
        return ":" in self.host or self.host.rpartition(".")[2].isdigit()

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.base_path}"


def parse_origin_url(text: str) -> OriginUrl:
    """Take an origin's URL apart, strictly. Raises AddressError. Checks the form only: `check_url` does the rest."""
    if len(text) > URL_CHARS_MAX:
        raise AddressError(f"must be at most {URL_CHARS_MAX} characters")
    if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
        raise AddressError("must be ASCII without spaces; write an international name in its xn-- form")
    if "\\" in text:
        raise AddressError("must not contain a backslash")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in DEFAULT_PORTS:
        raise AddressError("must start with http:// or https://")
    if "?" in rest or "#" in rest:
        raise AddressError("must not carry a query or a fragment")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise AddressError("must not carry a user name or password")
    # One strict reading of our own: lenient parsers disagree about what is the host, and attacks live there.
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise AddressError("its host or port is malformed")
    return OriginUrl(scheme, _host(match[1].lower()), _port(match[2], scheme), _base_path(slash + path))


def parse_document_url(text: str) -> tuple[OriginUrl, str]:
    """Take the URL of one document apart: where it is, and the target to ask for, byte for byte as it was written.

    Unlike an origin's it may carry a query, and a "/" at its end means something. Raises AddressError.
    """
    before, question, query = text.partition("?")
    url = parse_origin_url(before)
    if question and not _QUERY.fullmatch(query):
        raise AddressError("its query has a character that must be percent-encoded")
    if len(text) > URL_CHARS_MAX:
        raise AddressError(f"must be at most {URL_CHARS_MAX} characters")
    slash, path = before.partition("://")[2].partition("/")[1:]
    return url, f"{slash or '/'}{path}{question}{query}"


def parse_server_name(text: str) -> str:
    """Check a DNS name to be sent as SNI (RFC 6066 section 3: no address) and lower-case it. Raises AddressError."""
    if not text.isascii():
        raise AddressError("must be ASCII; write an international name in its xn-- form")
    name = text.lower()
    if name.startswith("[") or _NUMERIC_LABEL.fullmatch(name.rpartition(".")[2]):
        raise AddressError("must be a DNS name, not an address")
    if not _is_dns_name(name):
        raise AddressError("must be a DNS name like api.example.com")
    return name


def _host(host: str) -> str:
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise AddressError("its IPv6 address is malformed") from None
    if not host:
        raise AddressError("must name a host")
    labels = host.split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise AddressError("its IPv4 address must be four decimal numbers") from None
    if not _is_dns_name(host):
        raise AddressError("its host is not a DNS name")
    return host


def _is_dns_name(name: str) -> bool:
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))


def _port(digits: str | None, scheme: str) -> int:
    if digits is None:
        return DEFAULT_PORTS[scheme]
    port = int(digits)
    if port > 65535:
        raise AddressError("its port must be at most 65535")
    if port not in (80, 443) and port < 1024:
        raise AddressError("its port must be 80, 443 or at least 1024")
    if port in _REFUSED_PORTS:
        raise AddressError(f"port {port} belongs to a store or a control socket and is not allowed")
    return port


def _base_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise AddressError("its path has a character that must be percent-encoded")
    if any(part in (".", "..") for part in path.lower().replace("%2e", ".").split("/")):
        raise AddressError("its path must not contain dot segments")
    return path.rstrip("/")


def check_url(url: OriginUrl, allowed: tuple[IPNetwork, ...]) -> str | None:
    """Give the reason why this URL is refused before anything is resolved, or None."""
    if url.is_address:
        return refusal(url.host, allowed)
    if not allowed and ("." not in url.host or url.host.endswith(_PRIVATE_SUFFIXES)):
        return "names a private host"
    return None


def refusal(ip: str, allowed: tuple[IPNetwork, ...]) -> str | None:
    """Give the reason why no connection may go to this address, or None. `allowed` opens networks otherwise refused."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "is not an IP address"
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return "carries a zone"
    embedded = _embedded(address)
    if embedded is None:
        return _refusal_of(address, allowed)
    # A wrapped address is opened only by opening what is inside it.
    return _refusal_of(embedded, allowed) or _refusal_of_tunnel(address, embedded, allowed)


_GIVEN_OUT: Final = ipaddress.IPv6Network("2000::/3")


def _refusal_of(address: IPAddress, allowed: tuple[IPNetwork, ...]) -> str | None:
    if any(address in network for network in allowed if network.version == address.version):
        return None
    for network, reason in _REFUSED_NETWORKS:
        if network.version == address.version and address in network:
            return f"is {reason}"
    # RFC 4291 section 2.4: of IPv6, only 2000::/3 has been given out; the rest may come to mean anything.
    outside = address.version == 6 and address not in _GIVEN_OUT
    if outside or not address.is_global or address.is_multicast:
        return "is reserved"
    return None


def _refusal_of_tunnel(
    address: IPAddress, embedded: ipaddress.IPv4Address, allowed: tuple[IPNetwork, ...]
) -> str | None:
    if any(embedded in network for network in allowed if network.version == 4):
        return None
    return next((f"is {reason}" for network, reason in _TUNNELS if address in network), None)


def _embedded(address: IPAddress) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:  # (server, client): the client is where the packet ends
        return address.teredo[1]
    if address in _NAT64 or (address in _V4_COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def parse_networks(text: str) -> tuple[IPNetwork, ...]:
    """Read ALLOWED_PRIVATE_ORIGINS: CIDRs, comma-separated, empty for none. Raises AddressError naming the entry."""
    networks: list[IPNetwork] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        try:
            networks.append(ipaddress.ip_network(item))
        except ValueError:
            raise AddressError(f"{item!r} is not a network like 10.0.0.0/8 (host bits must be zero)") from None
    return tuple(networks)
