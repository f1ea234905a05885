"""Each wrong setting is named, and production refuses what only a laptop may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.webapp.cast import environment
from webapp.app import create_app
from webapp.settings import SettingsError, from_environment, load

GOOD = environment("postgresql://app:pw@db/x", "postgres://owner:pw@db/x", "redis://cache/0")
PRODUCTION = {
    **GOOD,
    "VANTAGEEDGE_ENV": "production",
    "CONSOLE_URL": "https://console.example.com",
    "CLERK_AUTHORIZED_PARTIES": "https://console.example.com",
}


def test_good_settings_are_read_with_their_defaults() -> None:
    settings = load(GOOD)
    assert settings.database_url == "postgresql+psycopg://app:pw@db/x"
    assert settings.migration_database_url == "postgresql+psycopg://owner:pw@db/x"
    assert settings.celery_broker_url == "redis://cache/0"
    assert settings.clerk.frontend_api_url == settings.clerk.issuer == "https://clerk.example.com"
    assert settings.clerk.jwks_url == "https://clerk.example.com/.well-known/jwks.json"
    assert settings.clerk.authorized_parties == ("http://localhost:8080",)
    assert settings.host_of("demo") == "demo.edge.test"
    assert settings.edge_url("demo") == "https://demo.edge.test"
    assert (
        load({**GOOD, "EDGE_PUBLIC_URL_TEMPLATE": "http://{subdomain}.localhost:8000"}).edge_url("a")
        == "http://a.localhost:8000"
    )
    assert load(PRODUCTION).is_production


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("VANTAGEEDGE_ENV", "staging", "production or development"),
        ("DATABASE_URL", "", "is not set"),
        ("DATABASE_URL", "sqlite:///x", "postgresql://"),
        ("MIGRATION_DATABASE_URL", "mysql://x/y", "postgresql://"),
        ("REDIS_URL", "http://x", "redis://"),
        ("REDIS_URL", "redis://x:port", "not a URL"),
        ("REDIS_URL", "redis://one.test,two.test", "several make a cluster"),
        ("CELERY_BROKER_URL", "memory", "redis://"),
        ("SECRET_KEY", "short", "32 characters"),
        ("KEY_PEPPERS", "", "is not set"),
        ("KEY_PEPPERS", "1:zz", "hexadecimal"),
        ("CLERK_PUBLISHABLE_KEY", "pk_live", "pk_live_"),
        ("CLERK_SECRET_KEY", "", "is not set"),
        ("CLERK_JWT_KEY", "-----BEGIN", "PEM"),
        ("CLERK_ISSUER", "clerk.example.com", "https://"),
        ("CLERK_AUTHORIZED_PARTIES", "https://console.example.com/path", "scheme, a host"),
        ("CONSOLE_URL", "", "is not set"),
        ("CONSOLE_URL", "http://localhost:8080/console", "scheme, a host"),
        ("EDGE_BASE_DOMAIN", "", "is not set"),
        ("EDGE_BASE_DOMAIN", "https://example.com", "DNS name"),
        ("EDGE_PUBLIC_URL_TEMPLATE", "https://edge.test", "https://{subdomain}"),
        ("EDGE_PUBLIC_URL_TEMPLATE", "{subdomain}.edge.test", "https://{subdomain}"),
        ("EDGE_PUBLIC_URL_TEMPLATE", "https://edge.test/{subdomain}", "https://{subdomain}"),
        ("SENTRY_DSN", "on", "https://"),
        ("PORT", "eighty", "65535"),
        ("SEALING_KEYS", "1:abab", "not 32 bytes"),
        ("PORT", "0", "65535"),
        ("ALLOWED_PRIVATE_ORIGINS", "10.0.0.1/8", "10.0.0.1/8"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({**GOOD, variable: value})
    assert caught.value.variable == variable
    assert reason in str(caught.value)


def test_a_cluster_needs_a_broker_of_its_own() -> None:
    cluster = {**GOOD, "REDIS_URL": "redis+cluster://:secret@one.test:7000,two.test"}
    without = {name: value for name, value in cluster.items() if name != "CELERY_BROKER_URL"}
    with pytest.raises(SettingsError, match="CELERY_BROKER_URL is not set .REDIS_URL is a cluster"):
        load(without)
    with pytest.raises(SettingsError, match="CELERY_BROKER_URL"):
        load({**cluster, "CELERY_BROKER_URL": "redis+cluster://one.test"})
    assert load({**cluster, "CELERY_BROKER_URL": "redis://broker.test"}).redis_url.startswith("redis+cluster")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLERK_PUBLISHABLE_KEY", "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k"),
        ("CLERK_FRONTEND_API_URL", "http://clerk.example.com"),
        ("CLERK_ISSUER", "http://clerk.example.com"),
        ("CLERK_ISSUER", "https://127.0.0.1:8081"),
        ("CLERK_JWKS_URL", "https://localhost/jwks.json"),
        ("CLERK_API_URL", "http://api.clerk.com"),
        ("CONSOLE_URL", "http://console.example.com"),
        ("CLERK_AUTHORIZED_PARTIES", ""),
        ("SECRET_KEY", "demo-only-" + "x" * 40),
        ("CLERK_SECRET_KEY", "sk_live_demo-only"),
        ("CLERK_WEBHOOK_SECRET", "whsec_demo-only"),
        ("KEY_PEPPERS", "2:" + "ab" * 32 + ",1:" + b"demo-only".hex() + "00" * 32),
        ("SEALING_KEYS", "2:" + "ab" * 32 + ",1:" + b"demo-only".hex() + "00" * 23),
    ],
)
def test_production_refuses_what_only_a_laptop_may_have(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({**PRODUCTION, variable: value})
    assert caught.value.variable == variable


def test_no_secret_is_shown_by_the_settings_or_by_an_error() -> None:
    shown = repr(load(GOOD))
    for secret in (GOOD["SECRET_KEY"], ":pw@", GOOD["CLERK_SECRET_KEY"], "abab"):
        assert secret not in shown
    with pytest.raises(SettingsError) as caught:
        load({**GOOD, "KEY_PEPPERS": "1:" + "ab" * 8})
    assert "abab" not in str(caught.value)


def test_sealing_keys_are_optional_come_newest_first_and_are_not_shown() -> None:
    assert load({**GOOD, "SEALING_KEYS": ""}).sealing_keys == {}
    settings = load({**GOOD, "SEALING_KEYS": "1:" + "12" * 32 + ",2:" + "34" * 32})
    assert list(settings.sealing_keys) == [2, 1]
    assert "x12" not in repr(settings) and "4444" not in repr(settings)


def test_dotenv_is_read_in_development_and_never_overrides(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("# comment\n\nPORT=9000\nSECRET_KEY='from the file which is long enough'\n")
    given = {name: value for name, value in GOOD.items() if name != "PORT"}
    settings = from_environment(given, dotenv)
    assert (settings.port, settings.secret_key) == (9000, GOOD["SECRET_KEY"])
    assert from_environment({**PRODUCTION}, dotenv).port == 8080
    dotenv.write_text("nonsense\n")
    with pytest.raises(SettingsError, match="line 1"):
        from_environment(given, dotenv)


def test_the_start_ends_with_one_line_that_names_the_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in GOOD:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as caught:
        create_app()
    assert str(caught.value) == "vantageedge: DATABASE_URL is not set"
