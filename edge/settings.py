"""The environment, read once into frozen values; a wrong value is an error that names its variable.

In:    a mapping of environment variables; for what it leaves out also the file named by EDGE_SETTINGS_FILE and, in
       development, the file `.env`.
Out:   Settings, Limits; SettingsError with one line per wrong variable.
Laws:  1. Nothing else on the edge reads the environment. 2. No silent default for a wrong value. 3. A secret is never
       echoed in an error.
Not here: what tenants configure (contracts.snapshot).

Longer than 400 lines because it is the one list of what an operator can set.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from contracts import store_url
from contracts.addresses import AddressError, IPNetwork, parse_networks, parse_origin_url
from contracts.apikey import parse_peppers
from contracts.clerk import KeySetError, frontend_api_host, parse_pem
from contracts.sealing import DEMO_MARK, SealingKeys, parse_keys

_T = TypeVar("_T")
_DOMAIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_SECONDS: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,3})?")
_ENV_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
_MACHINE_ID: Final = re.compile(r"mch_[A-Za-z0-9]{1,64}")
_SECRET: Final = re.compile(r"[!-~]{1,512}")
_NO_LINE: Final = re.compile(r"\s*(?:#.*)?")


CLERK_API_URL: Final = "https://api.clerk.com"


class SettingsError(ValueError):
    """One or more variables are wrong; the text has one line for each, starting with its name."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one worker's connections and messages."""

    request_line_bytes_max: int = 8_192
    head_bytes_max: int = 32_768
    fields_max: int = 100
    head_timeout_s: float = 10.0
    """From the first byte of a head to its end."""
    idle_timeout_s: float = 75.0
    """A kept connection without a request."""
    handshake_timeout_s: float = 10.0
    """For a PROXY header and the TLS handshake, together."""
    body_idle_timeout_s: float = 60.0
    """Between two reads or writes of a body with the client."""
    body_rate_min: int = 240
    """Octets per second of a body, either way, while we wait for the client; 0: none is asked for."""
    tunnel_idle_timeout_s: float = 300.0
    """Behind a 101, without an octet in either direction."""
    connections_max: int = 10_000
    connections_per_client_max: int = 1_000
    upstream_idle_per_target_max: int = 64
    upstream_per_target_max: int = 1_024
    """A little more than a tenant may have in flight unless told otherwise: so its own bound is met first, and a
    thousand tunnels, which hold a connection each, find room."""
    upstream_idle_timeout_s: float = 50.0
    drain_timeout_s: float = 25.0


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is and how to log in; `password` never shows in a repr."""

    host: str
    port: int
    tls: bool
    username: str = ""
    password: str = field(default="", repr=False)
    tls_verify: bool = True
    """False for `?ssl_cert_reqs=none`: managed stores with a self-signed certificate."""
    seeds: tuple[tuple[str, int], ...] = ()
    """Nodes of a cluster, from any of which the others are learned; empty: one server."""


@dataclass(frozen=True, slots=True)
class ClerkSettings:
    """Who issues session tokens and which keys sign them: a pinned PEM, else the key set behind `jwks_url`.

    `api_url` is asked about opaque tokens: with `secret_key`, about machines' rather with `machine_secret_key`. Without
    a secret such tokens are refused.
    """

    issuer: str
    jwks_url: str
    authorized_parties: tuple[str, ...]
    jwt_key: str = ""
    oauth_audiences: tuple[str, ...] = ()
    """An OAuth access token that names an audience must name one of these."""
    machine_id: str = ""
    """Our own machine in the instance; empty: no machine token is believed."""
    api_url: str = CLERK_API_URL
    secret_key: str = field(default="", repr=False)
    machine_secret_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Where TLS is spoken and with what. `default`: the pair for clients that name no host; empty: they are refused."""

    port: int
    folder: Path
    default: str = ""


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Who stands before us. `protocol`: connections begin with a PROXY header; `by_rfc_7239`: believe Forwarded instead
    of X-Forwarded-*.
    """

    networks: tuple[IPNetwork, ...] = ()
    protocol: bool = False
    by_rfc_7239: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """One edge host. Ports are TCP; `access_log` is a path or "-" for standard output."""

    production: bool
    redis: RedisAddress
    peppers: Mapping[int, bytes] = field(repr=False)
    clerk: ClerkSettings
    base_domain: str
    bind: str
    port: int
    metrics_port: int
    workers: int
    state_dir: Path
    access_log: str
    allowed_networks: tuple[IPNetwork, ...]
    sentry_dsn: str = field(default="", repr=False)
    sealing_keys: SealingKeys = field(default_factory=dict, repr=False)
    """For origins' client keys; may be empty where no origin has one."""
    limits: Limits = field(default_factory=Limits)
    tls: TlsSettings | None = None
    proxies: ProxySettings = field(default_factory=ProxySettings)
    tenants_max: int = 10_000
    cache_bytes_max: int = 64 * 1024 * 1024
    auth_failures_max: int = 20
    """Credentials of one client (IPv4 address or IPv6 /64) and tenant refused within a minute; 0: any number."""
    heartbeat_timeout_s: int = 10
    """A worker silent for so long is killed and replaced."""
    drain_notice_s: int = 0
    """So long a host that will end goes on accepting after /readyz turned red."""


class _Reader:
    """Reads variables one by one and collects what is wrong, so that one start shows every mistake."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.errors: list[str] = []

    def raw(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def refused(self, name: str) -> bool:
        return any(line.split(" ", 1)[0] == name for line in self.errors)

    def read(self, name: str, parse: Callable[[str], _T], default: _T, required: bool = False) -> _T:
        """Give the parsed value; empty counts as not set. A refusal is kept and the default returned."""
        text = self.raw(name)
        if not text:
            if required:
                self.errors.append(f"{name} is not set")
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.errors.append(f"{name} {error}")
            return default


def load(environ: Mapping[str, str], dotenv: Path | None = None) -> Settings:
    """Read the edge's settings. Raises SettingsError naming every wrong variable."""
    if environ.get("VANTAGEEDGE_ENV") == "development" and dotenv is not None and dotenv.is_file():
        environ = {**_read_file(dotenv, dotenv.name), **environ}
    if environ.get("EDGE_SETTINGS_FILE"):
        environ = {**_read_file(Path(environ["EDGE_SETTINGS_FILE"]), "EDGE_SETTINGS_FILE"), **environ}
    reader = _Reader(environ)
    no_redis = RedisAddress("", 0, False)
    no_peppers: Mapping[int, bytes] = {}
    settings = Settings(
        production=reader.read("VANTAGEEDGE_ENV", _environment, "production") == "production",
        redis=reader.read("REDIS_URL", parse_redis_url, no_redis, required=True),
        peppers=reader.read("KEY_PEPPERS", parse_peppers, no_peppers, required=True),
        clerk=_clerk(reader),
        base_domain=reader.read("EDGE_BASE_DOMAIN", _domain, "", required=True),
        bind=reader.read("EDGE_BIND", _bind, "0.0.0.0"),  # noqa: S104 - an edge is there to be reached
        port=reader.read("EDGE_PORT", _port, 8000),
        metrics_port=reader.read("EDGE_METRICS_PORT", _port, 9100),
        workers=reader.read("EDGE_WORKERS", _workers, 2),
        state_dir=reader.read("EDGE_STATE_DIR", Path, Path(".edge-state")),
        access_log=reader.read("EDGE_ACCESS_LOG", str, "-"),
        heartbeat_timeout_s=reader.read("EDGE_HEARTBEAT_TIMEOUT_S", lambda text: _whole(text, 2, 300), 10),
        drain_notice_s=reader.read("EDGE_DRAIN_NOTICE_S", lambda text: _whole(text, 0, 300), 0),
        auth_failures_max=reader.read("EDGE_AUTH_FAILURES_MAX", lambda text: _whole(text, 0, 1_000_000), 20),
        allowed_networks=reader.read("ALLOWED_PRIVATE_ORIGINS", _networks, ()),
        sentry_dsn=reader.read("SENTRY_DSN", _http_url, ""),
        sealing_keys=reader.read("SEALING_KEYS", parse_keys, no_peppers),
        limits=_limits(reader),
        tls=_tls(reader),
        proxies=_proxies(reader),
    )
    if settings.production and not reader.refused("VANTAGEEDGE_ENV"):
        _refuse_laptop_values(settings, reader)
    if settings.port == settings.metrics_port:
        reader.errors.append("EDGE_METRICS_PORT must differ from EDGE_PORT")
    if settings.tls is not None and settings.tls.port in (settings.port, settings.metrics_port):
        reader.errors.append("EDGE_TLS_PORT must differ from EDGE_PORT and EDGE_METRICS_PORT")
    if reader.errors:
        raise SettingsError("\n".join(reader.errors))
    return settings


def _refuse_laptop_values(settings: Settings, reader: _Reader) -> None:
    """The console refuses the same (webapp.settings): who answers for a key set by http can sign anybody in."""
    for name, keys in (("KEY_PEPPERS", settings.peppers), ("SEALING_KEYS", settings.sealing_keys)):
        if any(DEMO_MARK in key for key in keys.values()):
            reader.errors.append(f"{name} is the demo's, which production refuses")
    key = "CLERK_PUBLISHABLE_KEY"
    if reader.raw(key).startswith("pk_test_") and not reader.refused(key):
        reader.errors.append(f"{key} is a test key (pk_test_), which production refuses")
    for name, secret in (
        ("CLERK_SECRET_KEY", settings.clerk.secret_key),
        ("CLERK_MACHINE_SECRET_KEY", settings.clerk.machine_secret_key),
    ):
        if DEMO_MARK.decode() in secret:
            reader.errors.append(f"{name} is the demo's, which production refuses")
    for name in ("CLERK_FRONTEND_API_URL", "CLERK_ISSUER", "CLERK_JWKS_URL", "CLERK_API_URL"):
        if reader.raw(name).startswith("http://"):
            reader.errors.append(f"{name} must be https in production")


# Field of Limits: variable, lowest and highest value. Seconds may have a fraction.
_LIMITS: Final = {
    "request_line_bytes_max": ("EDGE_REQUEST_LINE_BYTES_MAX", 256, 65_536),
    "head_bytes_max": ("EDGE_HEAD_BYTES_MAX", 1_024, 1_048_576),
    "fields_max": ("EDGE_HEAD_FIELDS_MAX", 8, 10_000),
    "connections_max": ("EDGE_CONNECTIONS_MAX", 1, 1_000_000),
    "connections_per_client_max": ("EDGE_CONNECTIONS_PER_CLIENT_MAX", 1, 1_000_000),
    "body_rate_min": ("EDGE_BODY_MIN_RATE", 0, 1_000_000),
    "upstream_per_target_max": ("EDGE_UPSTREAM_PER_TARGET_MAX", 1, 100_000),
    "upstream_idle_per_target_max": ("EDGE_UPSTREAM_IDLE_PER_TARGET_MAX", 0, 100_000),
}
_TIMES: Final = {
    "head_timeout_s": ("EDGE_HEAD_TIMEOUT_S", 0.5, 600.0),
    "idle_timeout_s": ("EDGE_IDLE_TIMEOUT_S", 0.5, 86_400.0),
    "handshake_timeout_s": ("EDGE_HANDSHAKE_TIMEOUT_S", 0.5, 600.0),
    "body_idle_timeout_s": ("EDGE_BODY_IDLE_TIMEOUT_S", 0.5, 86_400.0),
    "tunnel_idle_timeout_s": ("EDGE_TUNNEL_IDLE_TIMEOUT_S", 1.0, 86_400.0),
    "upstream_idle_timeout_s": ("EDGE_UPSTREAM_IDLE_TIMEOUT_S", 0.5, 86_400.0),
    "drain_timeout_s": ("EDGE_DRAIN_TIMEOUT_S", 1.0, 3_600.0),
}


def _limits(reader: _Reader) -> Limits:
    default = Limits()
    values: dict[str, float] = {
        name: reader.read(variable, partial(_whole, low=low, high=high), getattr(default, name))
        for name, (variable, low, high) in _LIMITS.items()
    } | {
        name: reader.read(variable, partial(_seconds, low=low, high=high), getattr(default, name))
        for name, (variable, low, high) in _TIMES.items()
    }
    limits = Limits(**values)  # type: ignore[arg-type]  # whole numbers where Limits says int
    if limits.request_line_bytes_max > limits.head_bytes_max:
        reader.errors.append("EDGE_REQUEST_LINE_BYTES_MAX must not be larger than EDGE_HEAD_BYTES_MAX")
    return limits


def _tls(reader: _Reader) -> TlsSettings | None:
    port = reader.read("EDGE_TLS_PORT", _port, 0)
    folder = reader.read("EDGE_TLS_CERTIFICATES", Path, None, required=bool(port))
    default = reader.read("EDGE_TLS_DEFAULT", _pair, "")
    if not port and (folder or default) and not reader.refused("EDGE_TLS_PORT"):
        which = "EDGE_TLS_CERTIFICATES" if folder else "EDGE_TLS_DEFAULT"
        reader.errors.append(f"EDGE_TLS_PORT is not set ({which} is, and no TLS would be spoken)")
    return TlsSettings(port, folder, default) if port and folder is not None else None


def _proxies(reader: _Reader) -> ProxySettings:
    nobody: tuple[IPNetwork, ...] = ()
    networks = reader.read("EDGE_TRUSTED_PROXIES", _networks, nobody)
    protocol = reader.read("EDGE_PROXY_PROTOCOL", _switch, False)
    by_rfc_7239 = reader.read("EDGE_TRUSTED_FORWARDED", _forwarded, False)
    if (protocol or by_rfc_7239) and not networks and not reader.refused("EDGE_TRUSTED_PROXIES"):
        which = "EDGE_PROXY_PROTOCOL=on" if protocol else "EDGE_TRUSTED_FORWARDED=forwarded"
        reader.errors.append(f"EDGE_TRUSTED_PROXIES is not set ({which} believes only those it lists)")
    return ProxySettings(networks, protocol, by_rfc_7239)


def _clerk(reader: _Reader) -> ClerkSettings:
    fapi = reader.read("CLERK_FRONTEND_API_URL", _http_url, "").rstrip("/")
    if not fapi:
        fapi = reader.read("CLERK_PUBLISHABLE_KEY", lambda text: "https://" + frontend_api_host(text), "")
    issuer = reader.read("CLERK_ISSUER", _http_url, fapi)
    jwt_key = reader.read("CLERK_JWT_KEY", _pem, "")
    jwks_url = reader.read("CLERK_JWKS_URL", _http_url, fapi + "/.well-known/jwks.json" if fapi else "")
    clean = not any(line.startswith("CLERK_") for line in reader.errors)
    if clean and not (issuer and (jwt_key or jwks_url)):
        instead = "or else CLERK_ISSUER with CLERK_JWKS_URL or CLERK_JWT_KEY"
        reader.errors.append(f"CLERK_PUBLISHABLE_KEY is not set ({instead})")
    console = reader.read("CONSOLE_URL", _http_url, "")
    default: tuple[str, ...] = (console.rstrip("/"),) if console else ()
    parties = reader.read("CLERK_AUTHORIZED_PARTIES", _origins, default)
    if clean and not parties:
        reader.errors.append("CLERK_AUTHORIZED_PARTIES is not set (nor its default, CONSOLE_URL)")
    return ClerkSettings(
        issuer=issuer,
        jwks_url=jwks_url,
        authorized_parties=parties,
        jwt_key=jwt_key,
        oauth_audiences=reader.read("CLERK_OAUTH_AUDIENCES", _audiences, ()),
        machine_id=reader.read("CLERK_MACHINE_ID", _machine_id, ""),
        api_url=reader.read("CLERK_API_URL", _base_url, CLERK_API_URL),
        secret_key=reader.read("CLERK_SECRET_KEY", _secret, ""),
        machine_secret_key=reader.read("CLERK_MACHINE_SECRET_KEY", _secret, ""),
    )


def _read_file(path: Path, name: str) -> dict[str, str]:
    """Raises SettingsError, beginning with `name`, also for a file that anybody on the machine may write."""
    try:
        mode = path.stat().st_mode
        if mode & stat.S_IWOTH:
            raise ValueError("anybody may write it")
        return _parse_dotenv(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, OSError):
            reason = error.strerror or "it cannot be opened"
        elif isinstance(error, UnicodeDecodeError):
            reason = "it is not UTF-8"
        raise SettingsError(f"{name} cannot be used: {path}: {reason}") from None


def _parse_dotenv(text: str) -> dict[str, str]:
    """Read `NAME=value` lines; a value may stand in single or double quotes; `#` starts a comment line.

    Raises ValueError naming the line that is neither: what is silently left out would be silently not set.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _ENV_LINE.fullmatch(line)
        if match is None:
            if not _NO_LINE.fullmatch(line):
                raise ValueError(f"line {number} is not NAME=value")
            continue
        value = match[2]
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[match[1]] = value
    return values


def parse_redis_url(text: str) -> RedisAddress:
    """Read contracts.store_url's form. Raises ValueError, never echoing the URL."""
    url = store_url.parse(text)
    host, port = url.nodes[0]
    seeds = url.nodes if url.is_cluster else ()
    return RedisAddress(host, port, url.tls, url.username, url.password, url.tls_verify, seeds)


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # a bad port is found only when it is asked for
    except ValueError:
        raise ValueError("is not a URL") from None
    return parts


def _environment(text: str) -> str:
    if text not in ("production", "development"):
        raise ValueError("must be production or development")
    return text


def _http_url(text: str) -> str:
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    return text


def _base_url(text: str) -> str:
    """One that paths are added to, and that we connect to by ourselves."""
    try:
        return str(parse_origin_url(text))
    except AddressError as error:
        raise ValueError(str(error)) from None


def _secret(text: str) -> str:
    if not _SECRET.fullmatch(text):
        raise ValueError("must be one word of printable ASCII")
    return text


def _origins(text: str) -> tuple[str, ...]:
    return tuple(_http_url(item.strip()).rstrip("/") for item in text.split(",") if item.strip())


def _audiences(text: str) -> tuple[str, ...]:
    audiences = tuple(item.strip() for item in text.split(",") if item.strip())
    if any(not audience.isprintable() or " " in audience for audience in audiences):
        raise ValueError("must be audiences, comma-separated and without spaces in them")
    return audiences


def _machine_id(text: str) -> str:
    if not _MACHINE_ID.fullmatch(text):
        raise ValueError("must look like mch_...")
    return text


def _pem(text: str) -> str:
    try:
        parse_pem(text)
    except KeySetError as error:
        raise ValueError(f"is {error}") from None
    return text


def _domain(text: str) -> str:
    name = text.lower().rstrip(".")
    if not _DOMAIN.fullmatch(name):
        raise ValueError("must be a DNS name like example.com")
    return name


def _bind(text: str) -> str:
    try:
        networks = parse_networks(text)
    except AddressError:
        networks = ()
    if len(networks) != 1 or networks[0].num_addresses != 1 or "/" in text:
        raise ValueError("must be an IP address")
    return text


def _networks(text: str) -> tuple[IPNetwork, ...]:
    try:
        return parse_networks(text)
    except AddressError as error:
        raise ValueError(f"is wrong: {error}") from None


def _whole(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise ValueError(f"must be a whole number from {low} to {high}")
    return int(text)


def _seconds(text: str, low: float, high: float) -> float:
    if not (_SECONDS.fullmatch(text) and low <= float(text) <= high):
        raise ValueError(f"must be a number of seconds from {low:g} to {high:g}")
    return float(text)


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("must be on or off")
    return text == "on"


def _forwarded(text: str) -> bool:
    if text not in ("x-forwarded-for", "forwarded"):
        raise ValueError("must be x-forwarded-for or forwarded")
    return text == "forwarded"


def _pair(text: str) -> str:
    if "/" in text or text.startswith(".") or text.endswith((".crt", ".key")):
        raise ValueError("must be the name of a pair, without folder and without .crt")
    return text


def _port(text: str) -> int:
    return _whole(text, 1, 65_535)


def _workers(text: str) -> int:
    return _whole(text, 1, 64)
