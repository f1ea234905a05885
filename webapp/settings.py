"""The environment, read once and checked, as one frozen value.

In:    environment variables; in development also a `.env` file, which never overrides the environment.
Out:   Settings.
Laws:  1. A wrong or missing value is a SettingsError that names the variable and never echoes a secret. 2. Production
       refuses what only a laptop may have: test keys, http or loopback issuers, the demo's secrets. 3. No default is
       a secret.
Not here: numeric bounds of tenants (contracts.bounds), the edge's own settings (edge.settings).
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from contracts import addresses, apikey, clerk, sealing, store_url

DEMO_MARK: Final = sealing.DEMO_MARK.decode("ascii")
"""Every secret of the demo contains these letters (as text, or as hex in KEY_PEPPERS and SEALING_KEYS)."""
_SECRET_CHARS_MIN: Final = 32
_DOMAIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_URL_TEMPLATE: Final = re.compile(r"https?://[^/?#\s{}]*\{subdomain\}[^/?#\s{}]*/?")


class SettingsError(ValueError):
    """One line: the variable, and what is wrong with it."""

    def __init__(self, variable: str, reason: str) -> None:
        super().__init__(f"{variable} {reason}")
        self.variable = variable


@dataclass(frozen=True, slots=True)
class ClerkSettings:
    publishable_key: str
    secret_key: str = field(repr=False)
    jwt_key: RSAPublicKey | None
    """The instance's public key: with it no key set is ever fetched."""
    webhook_secret: str = field(repr=False)
    frontend_api_url: str
    issuer: str
    jwks_url: str
    api_url: str
    authorized_parties: tuple[str, ...]

    @property
    def is_development_instance(self) -> bool:
        return self.publishable_key.startswith("pk_test_")


@dataclass(frozen=True, slots=True)
class Settings:
    env: Literal["production", "development"]
    database_url: str = field(repr=False)
    migration_database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    celery_broker_url: str = field(repr=False)
    secret_key: str = field(repr=False)
    key_peppers: Mapping[int, bytes] = field(repr=False)
    """Highest version first: the first one is current."""
    sealing_keys: sealing.SealingKeys = field(repr=False)
    """Highest id first; empty where no origin has a client key."""
    clerk: ClerkSettings
    console_url: str
    edge_base_domain: str
    edge_public_url_template: str
    port: int
    allowed_private_origins: tuple[addresses.IPNetwork, ...]
    sentry_dsn: str | None = field(repr=False)

    @property
    def is_production(self) -> bool:
        return self.env == "production"

    def edge_url(self, subdomain: str) -> str:
        """Give the address at which a tenant's clients find its edge."""
        return self.edge_public_url_template.replace("{subdomain}", subdomain)

    def host_of(self, subdomain: str) -> str:
        return f"{subdomain}.{self.edge_base_domain}"


def from_environment(environ: Mapping[str, str] | None = None, dotenv: Path = Path(".env")) -> Settings:
    """Read the process's environment, and `.env` beside it where VANTAGEEDGE_ENV=development. Raises SettingsError."""
    given = dict(os.environ if environ is None else environ)
    if given.get("VANTAGEEDGE_ENV") == "development" and dotenv.is_file():
        given = {**_read_dotenv(dotenv), **given}
    return load(given)


def _read_dotenv(path: Path) -> dict[str, str]:
    values = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(str(path), f"line {number} is not NAME=value")
        values[name.strip()] = value.strip().strip("\"'")
    return values


def load(environ: Mapping[str, str]) -> Settings:
    """Check every setting. Raises SettingsError for the first one that is wrong."""
    read = _Reader(environ)
    env = read.text("VANTAGEEDGE_ENV", "production")
    if env not in ("production", "development"):
        raise SettingsError("VANTAGEEDGE_ENV", "must be production or development")
    database_url = _database_url(read, "DATABASE_URL")
    redis_url = _redis_url(read)
    base_domain = _domain(read, "EDGE_BASE_DOMAIN")
    console_url = _origin("CONSOLE_URL", read.url("CONSOLE_URL", ("http", "https")))
    settings = Settings(
        env="production" if env == "production" else "development",
        database_url=database_url,
        migration_database_url=_database_url(read, "MIGRATION_DATABASE_URL", database_url),
        redis_url=redis_url,
        celery_broker_url=_broker_url(read, redis_url),
        secret_key=read.secret("SECRET_KEY"),
        key_peppers=_peppers(read),
        sealing_keys=_sealing_keys(read),
        clerk=_clerk(read, console_url),
        console_url=console_url,
        edge_base_domain=base_domain,
        edge_public_url_template=_url_template(read, f"https://{{subdomain}}.{base_domain}"),
        port=read.port("PORT", 8080),
        allowed_private_origins=_networks(read),
        sentry_dsn=read.url("SENTRY_DSN", ("http", "https")) if read.text("SENTRY_DSN", "") else None,
    )
    if settings.is_production:
        _refuse_laptop_values(settings, read)
    return settings


class _Reader:
    """Give one variable at a time, or say what is wrong with it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, variable: str, default: str | None = None) -> str:
        value = self._environ.get(variable, "").strip()
        if value:
            return value
        if default is None:
            raise SettingsError(variable, "is not set")
        return default

    def url(self, variable: str, schemes: tuple[str, ...], default: str | None = None) -> str:
        value = self.text(variable, default)
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise SettingsError(variable, "is not a URL") from None
        if parts.scheme not in schemes or not parts.hostname:
            raise SettingsError(variable, f"must be a URL that starts with {' or '.join(s + '://' for s in schemes)}")
        return value

    def secret(self, variable: str) -> str:
        value = self.text(variable)
        if len(value) < _SECRET_CHARS_MIN:
            raise SettingsError(variable, f"must have at least {_SECRET_CHARS_MIN} characters")
        return value

    def port(self, variable: str, default: int) -> int:
        value = self.text(variable, str(default))
        if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 65535:
            raise SettingsError(variable, f"must be a port from 1 to 65535, not {value!r}")
        return int(value)


def _database_url(read: _Reader, variable: str, default: str | None = None) -> str:
    value = read.text(variable, default)
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise SettingsError(variable, "must be a URL that starts with postgresql://")
    return f"postgresql+psycopg://{rest}"


def _domain(read: _Reader, variable: str) -> str:
    """As the edge reads it."""
    name = read.text(variable).lower().rstrip(".")
    if not _DOMAIN.fullmatch(name):
        raise SettingsError(variable, "must be a DNS name like example.com")
    return name


def _url_template(read: _Reader, default: str) -> str:
    variable = "EDGE_PUBLIC_URL_TEMPLATE"
    template = read.text(variable, default)
    if not _URL_TEMPLATE.fullmatch(template):
        raise SettingsError(
            variable, "must be a scheme and a host with {subdomain}, like https://{subdomain}.example.com"
        )
    return template.rstrip("/")


def _redis_url(read: _Reader) -> str:
    value = read.text("REDIS_URL")
    try:
        store_url.parse(value)
    except ValueError as error:
        raise SettingsError("REDIS_URL", str(error)) from None
    return value


def _broker_url(read: _Reader, redis_url: str) -> str:
    variable = "CELERY_BROKER_URL"
    if store_url.is_cluster(redis_url) and not read.text(variable, ""):
        raise SettingsError(variable, "is not set (REDIS_URL is a cluster, which Celery cannot use as its broker)")
    return read.url(variable, ("redis", "rediss", "sentinel", "amqp", "amqps"), redis_url)


def _peppers(read: _Reader) -> Mapping[int, bytes]:
    try:
        return apikey.parse_peppers(read.text("KEY_PEPPERS"))
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError("KEY_PEPPERS", str(error)) from None


def _sealing_keys(read: _Reader) -> sealing.SealingKeys:
    text = read.text("SEALING_KEYS", "")
    try:
        return sealing.parse_keys(text) if text else {}
    except ValueError as error:
        raise SettingsError("SEALING_KEYS", str(error)) from None


def _networks(read: _Reader) -> tuple[addresses.IPNetwork, ...]:
    try:
        return addresses.parse_networks(read.text("ALLOWED_PRIVATE_ORIGINS", ""))
    except addresses.AddressError as error:
        raise SettingsError("ALLOWED_PRIVATE_ORIGINS", str(error)) from None


def _clerk(read: _Reader, console_url: str) -> ClerkSettings:
    publishable_key = read.text("CLERK_PUBLISHABLE_KEY")
    try:
        host = clerk.frontend_api_host(publishable_key)
    except ValueError as error:
        raise SettingsError("CLERK_PUBLISHABLE_KEY", str(error)) from None
    web = ("https", "http")
    fapi = read.url("CLERK_FRONTEND_API_URL", web, f"https://{host}").rstrip("/")
    pem = read.text("CLERK_JWT_KEY", "")
    try:
        jwt_key = clerk.parse_pem(pem) if pem else None
    except clerk.KeySetError as error:
        raise SettingsError("CLERK_JWT_KEY", f"is {error}") from None
    parties = read.text("CLERK_AUTHORIZED_PARTIES", console_url)
    return ClerkSettings(
        publishable_key=publishable_key,
        secret_key=read.text("CLERK_SECRET_KEY"),
        jwt_key=jwt_key,
        webhook_secret=read.text("CLERK_WEBHOOK_SECRET", ""),
        frontend_api_url=fapi,
        issuer=read.url("CLERK_ISSUER", web, fapi).rstrip("/"),
        jwks_url=read.url("CLERK_JWKS_URL", web, f"{fapi}/.well-known/jwks.json"),
        api_url=read.url("CLERK_API_URL", web, "https://api.clerk.com").rstrip("/"),
        authorized_parties=tuple(
            _origin("CLERK_AUTHORIZED_PARTIES", party.strip()) for party in parties.split(",") if party.strip()
        ),
    )


def _origin(variable: str, url: str) -> str:
    """Give scheme, host and port alone, as browsers write an Origin (RFC 6454 section 6.1)."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise SettingsError(variable, "must be a scheme, a host and an optional port, like https://console.example.com")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _refuse_laptop_values(settings: Settings, read: _Reader) -> None:
    if settings.clerk.is_development_instance:
        raise SettingsError("CLERK_PUBLISHABLE_KEY", "is a test key (pk_test_), which production refuses")
    for variable, url in (
        ("CLERK_FRONTEND_API_URL", settings.clerk.frontend_api_url),
        ("CLERK_ISSUER", settings.clerk.issuer),
        ("CLERK_JWKS_URL", settings.clerk.jwks_url),
        ("CLERK_API_URL", settings.clerk.api_url),
        ("CONSOLE_URL", settings.console_url),
    ):
        if not url.startswith("https://"):
            raise SettingsError(variable, "must be https in production")
        if _is_loopback(urlsplit(url).hostname or ""):
            raise SettingsError(variable, "is a loopback address, which production refuses")
    read.text("CLERK_AUTHORIZED_PARTIES")  # said in words, not taken from CONSOLE_URL
    for variable, value in (
        ("SECRET_KEY", settings.secret_key.encode()),
        ("CLERK_SECRET_KEY", settings.clerk.secret_key.encode()),
        ("CLERK_WEBHOOK_SECRET", settings.clerk.webhook_secret.encode()),
        *(("KEY_PEPPERS", pepper) for pepper in settings.key_peppers.values()),
        *(("SEALING_KEYS", key) for key in settings.sealing_keys.values()),
    ):
        if DEMO_MARK.encode() in value:
            raise SettingsError(variable, "is the demo's, which production refuses")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
