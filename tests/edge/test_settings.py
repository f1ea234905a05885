from __future__ import annotations

from pathlib import Path

import pytest

from contracts.addresses import parse_networks
from edge.phases.auth.attempts import FAILURES_MAX
from edge.settings import Limits, ProxySettings, RedisAddress, SettingsError, TlsSettings, load, parse_redis_url

PEPPERS = "2:" + "ab" * 32 + ",1:" + "cd" * 32
ENVIRON = {
    "REDIS_URL": "redis://127.0.0.1:6379",
    "KEY_PEPPERS": PEPPERS,
    "CLERK_PUBLISHABLE_KEY": "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k",
    "CONSOLE_URL": "https://console.example.com/",
    "EDGE_BASE_DOMAIN": "Example.com",
}


DOOR = {"EDGE_TLS_CERTIFICATES": "/certificates", "EDGE_TRUSTED_PROXIES": "10.0.0.0/8"}


def wrong(**changes):
    with pytest.raises(SettingsError) as refused:
        load({name: value for name, value in (ENVIRON | changes).items() if value is not None})
    return str(refused.value).splitlines()


def test_what_is_not_set_has_the_documented_default():
    settings = load(ENVIRON)
    assert settings.production
    assert (settings.bind, settings.port, settings.metrics_port, settings.workers) == ("0.0.0.0", 8000, 9100, 2)
    assert settings.base_domain == "example.com"
    assert settings.access_log == "-"
    assert settings.allowed_networks == ()
    assert list(settings.peppers) == [2, 1]


def test_sealing_keys_are_optional_and_the_demos_are_refused_in_production():
    assert load(ENVIRON).sealing_keys == {}
    settings = load(ENVIRON | {"SEALING_KEYS": "1:" + "ab" * 32 + ",2:" + "cd" * 32})
    assert list(settings.sealing_keys) == [2, 1]
    assert "abab" not in repr(settings)
    assert "\\xab" not in repr(settings)
    assert wrong(SEALING_KEYS="1:ab") == ["SEALING_KEYS entry 1 is not 32 bytes (64 hex digits)"]
    demos = "1:" + b"demo-only".hex() + "00" * 23
    assert wrong(SEALING_KEYS=demos) == ["SEALING_KEYS is the demo's, which production refuses"]
    assert load(ENVIRON | {"SEALING_KEYS": demos, "VANTAGEEDGE_ENV": "development"}).sealing_keys


def test_production_refuses_what_only_a_laptop_may_have():
    for name, value in (
        ("KEY_PEPPERS", "1:" + b"demo-only".hex() + "ab" * 32),
        ("CLERK_PUBLISHABLE_KEY", "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k"),
        ("CLERK_FRONTEND_API_URL", "http://clerk.example.com"),
        ("CLERK_ISSUER", "http://clerk.example.com"),
        ("CLERK_JWKS_URL", "http://clerk.example.com/jwks.json"),
    ):
        assert [line.split()[0] for line in wrong(**{name: value})] == [name]
        assert not load(ENVIRON | {name: value, "VANTAGEEDGE_ENV": "development"}).production


def test_settings_that_would_do_nothing_by_themselves_are_refused():
    for name, value, missing in (
        ("EDGE_TLS_CERTIFICATES", "/certificates", "EDGE_TLS_PORT"),
        ("EDGE_TLS_DEFAULT", "main", "EDGE_TLS_PORT"),
        ("EDGE_PROXY_PROTOCOL", "on", "EDGE_TRUSTED_PROXIES"),
        ("EDGE_TRUSTED_FORWARDED", "forwarded", "EDGE_TRUSTED_PROXIES"),
    ):
        (line,) = wrong(**{name: value})
        assert line.startswith(f"{missing} is not set ({name}")


def test_how_long_a_tunnel_may_be_idle_is_a_setting():
    assert load(ENVIRON).limits.tunnel_idle_timeout_s == 300
    assert load(ENVIRON | {"EDGE_TUNNEL_IDLE_TIMEOUT_S": "3600"}).limits.tunnel_idle_timeout_s == 3600


def test_clerk_is_found_from_the_publishable_key_alone():
    clerk = load(ENVIRON).clerk
    assert clerk.issuer == "https://clerk.example.com"
    assert clerk.jwks_url == "https://clerk.example.com/.well-known/jwks.json"
    assert clerk.authorized_parties == ("https://console.example.com",)


def test_each_clerk_setting_may_be_given_instead():
    clerk = load(
        ENVIRON
        | {
            "VANTAGEEDGE_ENV": "development",
            "CLERK_FRONTEND_API_URL": "http://127.0.0.1:8081/",
            "CLERK_ISSUER": "http://issuer.test",
            "CLERK_AUTHORIZED_PARTIES": "http://a.test, http://b.test/",
        }
    ).clerk
    assert clerk.issuer == "http://issuer.test"
    assert clerk.jwks_url == "http://127.0.0.1:8081/.well-known/jwks.json"
    assert clerk.authorized_parties == ("http://a.test", "http://b.test")


def test_whom_clerks_access_and_machine_tokens_must_be_meant_for_is_nobody_unless_it_is_said():
    clerk = load(ENVIRON).clerk
    assert (clerk.oauth_audiences, clerk.machine_id) == ((), "")
    clerk = load(ENVIRON | {"CLERK_OAUTH_AUDIENCES": "https://api.a.test, api", "CLERK_MACHINE_ID": "mch_2gate"}).clerk
    assert (clerk.oauth_audiences, clerk.machine_id) == (("https://api.a.test", "api"), "mch_2gate")
    assert wrong(CLERK_MACHINE_ID="gate") == ["CLERK_MACHINE_ID must look like mch_..."]
    assert [line.split()[0] for line in wrong(CLERK_OAUTH_AUDIENCES="a b")] == ["CLERK_OAUTH_AUDIENCES"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", None),
        ("REDIS_URL", "http://127.0.0.1"),
        ("REDIS_URL", "redis://127.0.0.1/1"),
        ("REDIS_URL", "redis://one.test,two.test"),
        ("REDIS_URL", "redis-cluster://one.test"),
        ("REDIS_URL", "redis://127.0.0.1:port"),
        ("REDIS_URL", "redis:///0"),
        ("REDIS_URL", "redis://127.0.0.1?db=3"),
        ("KEY_PEPPERS", None),
        ("KEY_PEPPERS", "1:abcd"),
        ("CLERK_PUBLISHABLE_KEY", None),
        ("CLERK_PUBLISHABLE_KEY", "pk_test_!!"),
        ("CLERK_JWT_KEY", "not a pem"),
        ("CLERK_JWKS_URL", "ftp://x"),
        ("CLERK_AUTHORIZED_PARTIES", "console.example.com"),
        ("EDGE_BASE_DOMAIN", None),
        ("EDGE_BASE_DOMAIN", "exa mple.com"),
        ("EDGE_BIND", "localhost"),
        ("EDGE_BIND", "10.0.0.0/8"),
        ("EDGE_PORT", "0"),
        ("EDGE_PORT", "65536"),
        ("EDGE_PORT", "8e3"),
        ("EDGE_METRICS_PORT", "8000"),
        ("EDGE_WORKERS", "0"),
        ("EDGE_SETTINGS_FILE", "/nowhere/settings"),
        ("EDGE_DRAIN_TIMEOUT_S", "0"),
        ("EDGE_TUNNEL_IDLE_TIMEOUT_S", "0"),
        ("EDGE_DRAIN_NOTICE_S", "1.5"),
        ("EDGE_HEARTBEAT_TIMEOUT_S", "1"),
        ("ALLOWED_PRIVATE_ORIGINS", "127.0.0.1/8"),
        ("SENTRY_DSN", "nowhere"),
        ("EDGE_TLS_PORT", "https"),
        ("EDGE_TLS_CERTIFICATES", None),
        ("EDGE_TLS_DEFAULT", "../a"),
        ("EDGE_TLS_DEFAULT", "a.crt"),
        ("EDGE_TRUSTED_PROXIES", None),
        ("EDGE_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("EDGE_PROXY_PROTOCOL", "yes"),
        ("EDGE_TRUSTED_FORWARDED", "x-real-ip"),
        ("EDGE_CONNECTIONS_MAX", "0"),
        ("EDGE_CONNECTIONS_PER_CLIENT_MAX", "many"),
        ("EDGE_AUTH_FAILURES_MAX", "-1"),
        ("EDGE_REQUEST_LINE_BYTES_MAX", "65537"),
        ("EDGE_HEAD_BYTES_MAX", "12"),
        ("EDGE_HEAD_FIELDS_MAX", "7"),
        ("EDGE_HEAD_TIMEOUT_S", "0"),
        ("EDGE_IDLE_TIMEOUT_S", "-1"),
        ("EDGE_HANDSHAKE_TIMEOUT_S", "1e3"),
        ("EDGE_BODY_IDLE_TIMEOUT_S", "inf"),
        ("EDGE_BODY_MIN_RATE", "-240"),
        ("EDGE_UPSTREAM_IDLE_TIMEOUT_S", "50s"),
        ("EDGE_UPSTREAM_PER_TARGET_MAX", "0"),
        ("EDGE_UPSTREAM_IDLE_PER_TARGET_MAX", "x"),
        ("EDGE_DRAIN_TIMEOUT_S", "3601"),
        ("VANTAGEEDGE_ENV", "staging"),
    ],
)
def test_a_wrong_value_is_one_line_that_begins_with_its_name(name, value):
    lines = wrong(**({"EDGE_TLS_PORT": "8443", "EDGE_PROXY_PROTOCOL": "on"} | DOOR | {name: value}))
    assert len(lines) == 1
    assert lines[0].startswith(name)


def test_every_mistake_is_said_at_once():
    assert [line.split()[0] for line in wrong(EDGE_PORT="x", EDGE_WORKERS="y", REDIS_URL="z")] == [
        "REDIS_URL", "EDGE_PORT", "EDGE_WORKERS",
    ]  # fmt: skip


def test_no_secret_is_in_an_error_or_a_repr():
    assert "hunter2" not in "".join(wrong(REDIS_URL="redis://user:hunter2@host:bad", KEY_PEPPERS="1:hunter2"))
    settings = load(ENVIRON | {"REDIS_URL": "redis://user:hunter2@host"})
    assert "hunter2" not in repr(settings)
    assert "abab" not in repr(settings)


def test_a_redis_url_is_taken_apart():
    assert parse_redis_url("rediss://u%40x:p%3Aw@cache.test:6380/0?ssl_cert_reqs=none") == RedisAddress(
        "cache.test", 6380, True, "u@x", "p:w", tls_verify=False
    )
    assert parse_redis_url("redis://cache.test") == RedisAddress("cache.test", 6379, False)
    assert parse_redis_url("redis+cluster://:x@one.test,two.test:7000") == RedisAddress(
        "one.test", 6379, False, password="x", seeds=(("one.test", 6379), ("two.test", 7000))
    )


def test_dotenv_fills_in_what_the_environment_leaves_out_in_development_only(tmp_path: Path):
    dotenv = tmp_path / ".env"
    dotenv.write_text("# a comment\nexport EDGE_PORT='8123'\nEDGE_WORKERS=\"4\"\n\nEDGE_BASE_DOMAIN=other.test\n")
    given = ENVIRON | {"VANTAGEEDGE_ENV": "development"}
    settings = load(given, dotenv)
    assert (settings.port, settings.workers, settings.base_domain) == (8123, 4, "example.com")
    assert not settings.production
    assert load(ENVIRON, dotenv).port == 8000
    assert load(given, tmp_path / "absent").port == 8000


def test_a_settings_file_fills_in_what_the_environment_leaves_out_in_production_too(tmp_path: Path):
    file = tmp_path / "settings"
    file.write_text("EDGE_WORKERS=4\nEDGE_BASE_DOMAIN=other.test\nEDGE_DRAIN_TIMEOUT_S=7\nEDGE_PORT=none\n")
    given = ENVIRON | {"EDGE_SETTINGS_FILE": str(file), "EDGE_PORT": "8001"}
    settings = load(given)
    assert (settings.workers, settings.port, settings.base_domain) == (4, 8001, "example.com")
    assert settings.limits.drain_timeout_s == 7
    file.write_bytes(b"EDGE_WORKERS=\xff")
    with pytest.raises(SettingsError, match="^EDGE_SETTINGS_FILE cannot be used: .*: it is not UTF-8$"):
        load(given)
    file.write_text("# workers\nEDGE_WORKERS 4\n")
    with pytest.raises(SettingsError, match="^EDGE_SETTINGS_FILE cannot be used: .*: line 2 is not NAME=value$"):
        load(given)


def test_a_settings_file_that_anybody_may_write_is_refused(tmp_path: Path):
    file = tmp_path / "settings"
    file.write_text("EDGE_WORKERS=4\n")
    file.chmod(0o666)
    with pytest.raises(SettingsError, match="^EDGE_SETTINGS_FILE cannot be used: .*: anybody may write it$"):
        load(ENVIRON | {"EDGE_SETTINGS_FILE": str(file)})
    file.chmod(0o664)
    assert load(ENVIRON | {"EDGE_SETTINGS_FILE": str(file)}).workers == 4


def test_ipv6_may_be_bound():
    assert load(ENVIRON | {"EDGE_BIND": "::1"}).bind == "::1"


def test_tls_and_proxies_are_off_unless_asked_for():
    settings = load(ENVIRON)
    assert settings.tls is None
    assert settings.proxies == ProxySettings((), False, False)
    settings = load(
        ENVIRON
        | DOOR
        | {
            "EDGE_TLS_PORT": "8443",
            "EDGE_TLS_DEFAULT": "main",
            "EDGE_PROXY_PROTOCOL": "on",
            "EDGE_TRUSTED_FORWARDED": "forwarded",
        }
    )
    assert settings.tls == TlsSettings(8443, Path("/certificates"), "main")
    assert settings.proxies == ProxySettings(parse_networks("10.0.0.0/8"), True, True)


@pytest.mark.parametrize("port", ["8000", "9100"])
def test_no_two_listeners_share_a_port(port):
    assert [line.split()[0] for line in wrong(EDGE_TLS_PORT=port, **DOOR)] == ["EDGE_TLS_PORT"]


def test_every_limit_can_be_set_and_is_as_documented_when_it_is_not():
    assert load(ENVIRON).limits == Limits()
    limits = load(
        ENVIRON
        | {
            "EDGE_REQUEST_LINE_BYTES_MAX": "4096", "EDGE_HEAD_BYTES_MAX": "16384", "EDGE_HEAD_FIELDS_MAX": "50",
            "EDGE_HEAD_TIMEOUT_S": "2.5", "EDGE_IDLE_TIMEOUT_S": "30", "EDGE_HANDSHAKE_TIMEOUT_S": "3",
            "EDGE_BODY_IDLE_TIMEOUT_S": "20", "EDGE_BODY_MIN_RATE": "0", "EDGE_CONNECTIONS_MAX": "5000",
            "EDGE_CONNECTIONS_PER_CLIENT_MAX": "50", "EDGE_UPSTREAM_IDLE_PER_TARGET_MAX": "0",
            "EDGE_UPSTREAM_PER_TARGET_MAX": "100", "EDGE_UPSTREAM_IDLE_TIMEOUT_S": "40",
            "EDGE_TUNNEL_IDLE_TIMEOUT_S": "60", "EDGE_DRAIN_TIMEOUT_S": "5",
        }
    ).limits  # fmt: skip
    assert limits == Limits(
        request_line_bytes_max=4096, head_bytes_max=16384, fields_max=50, head_timeout_s=2.5, idle_timeout_s=30.0,
        handshake_timeout_s=3.0, body_idle_timeout_s=20.0, body_rate_min=0, connections_max=5000,
        connections_per_client_max=50, upstream_idle_per_target_max=0, upstream_per_target_max=100,
        upstream_idle_timeout_s=40.0, tunnel_idle_timeout_s=60.0, drain_timeout_s=5.0,
    )  # fmt: skip


def test_failed_attempts_are_limited_unless_that_is_switched_off():
    assert load(ENVIRON).auth_failures_max == FAILURES_MAX == 20
    assert load(ENVIRON | {"EDGE_AUTH_FAILURES_MAX": "0"}).auth_failures_max == 0


def test_a_wrong_environment_is_one_mistake():
    demos = "1:" + b"demo-only".hex() + "00" * 23
    assert len(wrong(VANTAGEEDGE_ENV="staging", SEALING_KEYS=demos)) == 1


def test_a_request_line_is_part_of_its_head():
    assert [line.split()[0] for line in wrong(EDGE_HEAD_BYTES_MAX="4096")] == ["EDGE_REQUEST_LINE_BYTES_MAX"]


def test_the_example_names_each_limit_with_its_default():
    example = Path(__file__).parents[2] / ".env.example"
    written = dict(line.split("=", 1) for line in example.read_text().splitlines() if line.startswith("EDGE_"))
    offered = {name: value for name, value in written.items() if value}
    assert load(ENVIRON | {"EDGE_BASE_DOMAIN": "example.com"} | offered) == load(ENVIRON)
    from edge import settings

    assert {row[0] for table in (settings._LIMITS, settings._TIMES) for row in table.values()} <= set(written)


def test_clerks_api_and_the_secrets_to_ask_it_with_are_optional_and_never_shown():
    clerk = load(ENVIRON).clerk
    assert (clerk.api_url, clerk.secret_key, clerk.machine_secret_key) == ("https://api.clerk.com", "", "")
    settings = load(
        ENVIRON
        | {"CLERK_API_URL": "https://Clerk.example.com:8443/api/", "CLERK_SECRET_KEY": "sk_live_hush"}
        | {"CLERK_MACHINE_SECRET_KEY": "ak_hush"}
    )
    assert settings.clerk.api_url == "https://clerk.example.com:8443/api"
    assert (settings.clerk.secret_key, settings.clerk.machine_secret_key) == ("sk_live_hush", "ak_hush")
    assert "hush" not in repr(settings)


def test_what_is_wrong_about_clerks_api_is_named_and_a_secret_is_not_echoed():
    assert wrong(CLERK_API_URL="https://api.clerk.com/?v=1") == ["CLERK_API_URL must not carry a query or a fragment"]
    for name in ("CLERK_SECRET_KEY", "CLERK_MACHINE_SECRET_KEY"):
        assert wrong(**{name: "hush\r\nX-Evil: 1"}) == [f"{name} must be one word of printable ASCII"]
        assert wrong(**{name: "sk_test_demo-only-hush"}) == [f"{name} is the demo's, which production refuses"]
        assert load(ENVIRON | {name: "sk_test_demo-only-x", "VANTAGEEDGE_ENV": "development"}).clerk
    assert wrong(CLERK_API_URL="http://api.clerk.com") == ["CLERK_API_URL must be https in production"]
