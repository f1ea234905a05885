"""An origin's own TLS settings through the API: what is checked, what is kept secret, how sealing keys rotate."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import redis
from flask import Flask

from contracts import bounds, keyspace, sealing, snapshot
from devstack.postgres import Postgres
from tests.origins.authority import Authority, Identity
from tests.stored import everything_in
from tests.webapp.cast import Person, a_route, an_origin
from webapp.services.actor import Actor

ONE, TWO = "5a" * 32, "6b" * 32
CA = Authority()
CLIENT = CA.issue("gateway.test")
SETTINGS = "vantageedge.settings"


@pytest.fixture
def sealing_with(app: Flask) -> Iterator[Callable[[str], None]]:
    """Give the application other SEALING_KEYS, as a restart would."""
    before = app.extensions[SETTINGS]

    def use(text: str) -> None:
        keys = sealing.parse_keys(text) if text else {}
        app.extensions[SETTINGS] = dataclasses.replace(before, sealing_keys=keys)

    use(f"1:{ONE}")
    yield use
    app.extensions[SETTINGS] = before


def tls(identity: Identity = CLIENT, **changed: Any) -> dict[str, Any]:
    return {"client_certificate": identity.certificate, "client_key": identity.key, **changed}


def published(store: redis.Redis, tenant_id: object) -> snapshot.OriginTlsConfig:
    held: Any = store.hgetall(keyspace.config(str(tenant_id)))
    (origin,) = snapshot.decode(held[b"body"], held[b"sha256"].decode()).origins
    assert isinstance(origin.tls, snapshot.OriginTlsConfig)
    return origin.tls


def opened(config: snapshot.OriginTlsConfig, tenant_id: object, origin_id: str, keys: str = f"1:{ONE}") -> str:
    assert config.client_key is not None
    place = snapshot.client_key_place(str(tenant_id), origin_id)
    return sealing.open_sealed(sealing.parse_keys(keys), config.client_key, place).decode()


def test_all_settings_go_in_and_all_but_the_key_come_out(
    alice: Person, demo: Actor, store: redis.Redis, sealing_with: Callable[[str], None]
) -> None:
    pasted = f"my CA\r\n{CA.certificate}"
    given = tls(ca_certificates=pasted, server_name="API.Internal.test")
    made = alice.make("/origins", an_origin(tls=given))
    shown = made["tls"]
    assert shown.pop("client_certificate_expires_at") is not None
    assert shown == {
        "ca_certificates": CA.certificate,
        "server_name": "api.internal.test",
        "client_certificate": CLIENT.certificate,
    }
    alice.make("/routes", a_route(made["id"]))
    config = published(store, demo.tenant_id)
    assert (config.ca_certificates, config.server_name) == (CA.certificate, "api.internal.test")
    assert config.client_certificate == CLIENT.certificate
    assert opened(config, demo.tenant_id, made["id"]) == CLIENT.key


def test_an_origin_without_settings_shows_and_publishes_none(alice: Person, demo: Actor, store: redis.Redis) -> None:
    made = alice.make("/origins", an_origin(tls={}))
    assert made["tls"] is None
    alice.make("/routes", a_route(made["id"]))
    assert b'"tls"' not in store.hget(keyspace.config(str(demo.tenant_id)), "body")  # type: ignore[operator]


def test_the_key_is_in_clear_nowhere(
    alice: Person,
    store: redis.Redis,
    postgres: Postgres,
    sealing_with: Callable[[str], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = alice.make("/origins", an_origin(tls=tls()))
    alice.make("/routes", a_route(made["id"]))
    alice.patch(f"/origins/{made['id']}", {"tls": tls(CA.issue("second.test"))})
    alice.patch(f"/origins/{made['id']}", {"tls": tls()})
    answers = [alice.get(path).text for path in ("/origins", f"/origins/{made['id']}", "/audit-log", "/openapi.json")]
    in_redis = everything_in(store).decode()
    assert "s1.1." in in_redis
    with psycopg.connect(postgres.url("owner", "webapp_shared"), autocommit=True) as connection:
        connection.execute("SET app.system = 'on'")
        tables = [
            str(connection.execute(f"SELECT * FROM {table}").fetchall())
            for table in ("origins", "config_versions", "audit_log", "outbox")
        ]
    assert "s1.1." in tables[0] and "s1.1." in tables[1]  # the search looks where the sealed key is
    logged = "".join(capfd.readouterr())
    assert "request.done" in logged
    for line in CLIENT.key.splitlines()[1:-1]:
        assert [text[:40] for text in (*answers, *tables, logged, in_redis) if line in text] == []


@pytest.mark.parametrize(
    ("given", "location", "word"),
    [
        ({"ca_certificates": "x"}, "tls.ca_certificates", "in PEM"),
        ({"ca_certificates": CA.certificate + CLIENT.key}, "tls.ca_certificates", "private key"),
        ({"ca_certificates": CA.certificate * 33}, "tls.ca_certificates", "at most 32"),
        ({"ca_certificates": "x" * (bounds.PEM_CHARS_MAX + 1)}, "tls.ca_certificates", "at most"),
        ({"server_name": "192.0.2.1"}, "tls.server_name", "not an address"),
        ({"server_name": "a b"}, "tls.server_name", "DNS name"),
        ({"client_certificate": CLIENT.certificate}, "tls.client_key", "must be given"),
        ({"client_key": CLIENT.key}, "tls.client_certificate", "must be given"),
        (tls(client_key="x"), "tls.client_key", "private key in PEM"),
        (tls(client_key=CA.issue("x.test").key), "tls.client_key", "not the key of the client certificate"),
        (tls(CA.issue("old.test", days=-1)), "tls.client_certificate", "expired on 20"),
        (tls(CA.issue("new.test", from_days=1)), "tls.client_certificate", "not valid before 20"),
        (tls(client_certificate=CLIENT.certificate * 9), "tls.client_certificate", "at most 8"),
        ({"verify": False}, "tls.verify", "not permitted"),
        ({"insecure_skip_verify": True}, "tls.insecure_skip_verify", "not permitted"),
    ],
)
def test_what_is_wrong_is_refused_and_the_field_is_named(
    alice: Person, sealing_with: Callable[[str], None], given: dict[str, Any], location: str, word: str
) -> None:
    answer = alice.post("/origins", an_origin(tls=given))
    assert answer.status_code == 422, answer.text
    errors = answer.get_json()["errors"]
    assert [item["location"] for item in errors] == [location]
    assert word in errors[0]["message"]
    assert CLIENT.key.splitlines()[1] not in answer.text


def test_settings_are_for_https_targets(alice: Person) -> None:
    own = {"ca_certificates": CA.certificate}
    answer = alice.post("/origins", an_origin(url="http://api.example.com", tls=own))
    assert answer.get_json()["errors"][0]["location"] == "url"
    two = [{"url": "https://a.example.com"}, {"url": "http://b.example.com"}]
    answer = alice.post("/origins", an_origin(url=None, targets=two, tls=own))
    assert answer.get_json()["errors"][0]["location"] == "targets.1.url"
    made = alice.make("/origins", an_origin(tls=own))
    assert alice.patch(f"/origins/{made['id']}", {"url": "http://api.example.com"}).status_code == 422
    assert alice.patch(f"/origins/{made['id']}", {"url": "http://api.example.com", "tls": None}).status_code == 200


def test_without_sealing_keys_a_client_key_is_refused_and_all_else_works(
    alice: Person, sealing_with: Callable[[str], None]
) -> None:
    sealing_with("")
    answer = alice.post("/origins", an_origin(tls=tls()))
    assert answer.status_code == 422
    assert answer.get_json()["errors"] == [
        {"location": "tls.client_key", "message": "cannot be stored: this deployment has no SEALING_KEYS"}
    ]
    alice.make("/origins", an_origin(tls={"ca_certificates": CA.certificate, "server_name": "a.test"}))


def test_a_patch_changes_the_members_it_names(
    alice: Person, demo: Actor, store: redis.Redis, sealing_with: Callable[[str], None]
) -> None:
    path = f"/origins/{alice.make('/origins', an_origin(tls=tls(server_name='a.test')))['id']}"
    alice.make("/routes", a_route(path.rpartition("/")[2]))
    before = published(store, demo.tenant_id)

    def patched(document: dict[str, Any]) -> Any:
        answer = alice.patch(path, document)
        assert answer.status_code == 200, answer.text
        return answer.get_json()["tls"]

    assert patched({"timeout_seconds": 20})["server_name"] == "a.test"
    assert published(store, demo.tenant_id) == before  # the key is not sealed again for nothing
    assert patched({"tls": {"server_name": "b.test"}})["client_certificate"] == CLIENT.certificate
    assert patched({"tls": {"ca_certificates": CA.certificate}})["server_name"] == "b.test"
    after = published(store, demo.tenant_id)
    assert after.client_key == before.client_key
    renewed = patched({"tls": {"server_name": None}})
    assert (renewed["server_name"], renewed["ca_certificates"]) == (None, CA.certificate)
    assert patched({"tls": {"client_certificate": None}})["client_certificate"] is None
    assert published(store, demo.tenant_id).client_key is None
    assert alice.patch(path, {"tls": {"client_certificate": CLIENT.certificate}}).status_code == 422
    assert patched({"tls": None}) is None


def test_a_renewed_certificate_of_the_kept_key_needs_no_key_and_another_does(
    alice: Person, sealing_with: Callable[[str], None]
) -> None:
    path = f"/origins/{alice.make('/origins', an_origin(tls=tls()))['id']}"
    chained = CLIENT.certificate + CA.certificate
    assert alice.patch(path, {"tls": {"client_certificate": chained}}).status_code == 200
    other = CA.issue("other.test")
    answer = alice.patch(path, {"tls": {"client_certificate": other.certificate}})
    assert answer.get_json()["errors"][0]["location"] == "tls.client_key"
    assert alice.patch(path, {"tls": {"client_key": None}}).status_code == 422
    assert alice.patch(path, {"tls": tls(other)}).status_code == 200


def test_a_certificate_that_expired_since_does_not_stand_in_the_way(
    alice: Person, sealing_with: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from webapp.services import origin_tls

    path = f"/origins/{alice.make('/origins', an_origin(tls=tls()))['id']}"
    later = origin_tls.time.time() + 40 * 86_400
    monkeypatch.setattr(origin_tls.time, "time", lambda: later)
    assert alice.patch(path, {"tls": {"server_name": "b.test"}}).status_code == 200
    assert alice.post("/origins", an_origin("second", tls=tls())).status_code == 422


def test_sealing_keys_rotate_without_a_pause(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, sealing_with: Callable[[str], None]
) -> None:
    origin_id = alice.make("/origins", an_origin(tls=tls()))["id"]
    alice.make("/routes", a_route(origin_id))
    assert sealing.key_id_of(published(store, demo.tenant_id).client_key or "") == 1
    sealing_with(f"1:{ONE},2:{TWO}")
    runner = app.test_cli_runner()
    result = runner.invoke(args=["reseal"])
    assert (result.exit_code, result.output) == (0, "1 secret sealed anew\n")
    config = published(store, demo.tenant_id)
    assert sealing.key_id_of(config.client_key or "") == 2
    assert opened(config, demo.tenant_id, origin_id, f"2:{TWO}") == CLIENT.key
    assert runner.invoke(args=["reseal"]).output == "0 secrets sealed anew\n"
    sealing_with(f"2:{TWO}")
    assert alice.patch(f"/origins/{origin_id}", {"tls": {"client_certificate": CLIENT.certificate}}).status_code == 200


def test_a_key_of_a_lost_sealing_key_is_named_and_can_be_given_again(
    app: Flask, alice: Person, sealing_with: Callable[[str], None]
) -> None:
    origin_id = alice.make("/origins", an_origin(tls=tls()))["id"]
    sealing_with(f"2:{TWO}")
    result = app.test_cli_runner().invoke(args=["reseal"])
    assert result.exit_code == 1
    assert f"origin {origin_id}: no sealing key that is listed opens it" in result.output
    path = f"/origins/{origin_id}"
    assert alice.patch(path, {"timeout_seconds": 10}).status_code == 200  # what is not about it goes on
    chained = {"client_certificate": CLIENT.certificate + CA.certificate}
    answer = alice.patch(path, {"tls": chained})
    assert "given again" in answer.get_json()["errors"][0]["message"]
    assert alice.patch(path, {"tls": {**chained, "client_key": CLIENT.key}}).status_code == 200


def test_a_write_of_an_origin_seals_an_older_key_anew(
    alice: Person, demo: Actor, store: redis.Redis, sealing_with: Callable[[str], None]
) -> None:
    origin_id = alice.make("/origins", an_origin(tls=tls()))["id"]
    alice.make("/routes", a_route(origin_id))
    sealing_with(f"1:{ONE},2:{TWO}")
    alice.patch(f"/origins/{origin_id}", {"timeout_seconds": 10})
    assert sealing.key_id_of(published(store, demo.tenant_id).client_key or "") == 2


def test_the_settings_of_all_origins_are_bounded_together(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "TLS_BYTES_PER_TENANT_MAX", 1_500)
    alice.make("/origins", an_origin("first", tls={"ca_certificates": CA.certificate}))
    answer = alice.post("/origins", an_origin("second", tls={"ca_certificates": CA.certificate * 2}))
    assert answer.status_code == 409
    assert "KiB together" in answer.get_json()["detail"]
    alice.make("/origins", an_origin("third"))


def test_the_openapi_document_says_that_the_key_is_write_only(nobody: Person) -> None:
    schemas = nobody.get("/openapi.json").get_json()["components"]["schemas"]
    assert schemas["TlsNew"]["properties"]["client_key"]["writeOnly"] is True
    assert "client_key" not in json.dumps(schemas["TlsView"]["properties"])
