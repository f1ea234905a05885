"""Issuers through the API: what is checked, what is kept secret, and what keeps one from being removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import redis
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask

from contracts import addresses, bounds, keyspace, sealing, snapshot
from devstack.postgres import Postgres
from tests.stored import everything_in
from tests.webapp.cast import ISSUER, Person, a_route, an_issuer, an_origin
from webapp.services.actor import Actor

ONE, TWO = "5a" * 32, "6b" * 32
SETTINGS = "vantageedge.settings"
SECRET = "correct-horse-battery-staple"


def _pem(private: Any) -> str:
    form = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    return str(private.public_key().public_bytes(*form).decode())


RSA = _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
EC = _pem(ec.generate_private_key(ec.SECP256R1()))
ED = _pem(ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def settings(app: Flask) -> Iterator[Callable[..., None]]:
    """Give the application other settings, as a restart would."""
    before = app.extensions[SETTINGS]

    def use(sealed_with: str | None = f"1:{ONE}", opened: str = "") -> None:
        keys = sealing.parse_keys(sealed_with) if sealed_with else {}
        app.extensions[SETTINGS] = dataclasses.replace(
            before, sealing_keys=keys, allowed_private_origins=addresses.parse_networks(opened)
        )

    use()
    yield use
    app.extensions[SETTINGS] = before


def asked(**changed: Any) -> dict[str, Any]:
    return {
        "name": "as",
        "kind": "introspection",
        "issuer": "https://as.example",
        "introspection_url": "https://as.example/o/introspect/",
        "client_id": "gateway",
        "client_secret": SECRET,
        **changed,
    }


def published(store: redis.Redis, actor: Actor) -> tuple[snapshot.IssuerConfig, ...]:
    held: Any = store.hgetall(keyspace.config(str(actor.tenant_id)))
    issuers = snapshot.decode(held[b"body"], held[b"sha256"].decode()).issuers
    return issuers or ()


def opened(config: snapshot.IssuerConfig, actor: Actor, keys: str = f"1:{ONE}") -> str:
    assert config.client_secret is not None
    place = snapshot.issuer_secret_place(str(actor.tenant_id), config.id)
    return sealing.open_sealed(sealing.parse_keys(keys), config.client_secret, place).decode()


def test_one_of_each_kind_is_made_listed_and_reaches_the_edge(
    alice: Person, demo: Actor, store: redis.Redis, settings: Callable[..., None]
) -> None:
    partner = alice.make("/issuers", an_issuer(required_scopes=["read"]))
    assert partner["algorithms"] == ["RS256"]
    keys = an_issuer("keys", kind="oauth", issuer="urn:keys", jwks_uri=None, public_keys=f"\r\n{EC}{ED}")
    pems = alice.make("/issuers", keys | {"algorithms": ["ES256", "EdDSA"]})
    assert pems["public_keys"] == EC + ED
    opaque = alice.make("/issuers", asked())
    assert opaque["introspection_url"] == "https://as.example/o/introspect/"
    assert (opaque["algorithms"], "client_secret" in opaque) == ([], False)
    first = alice.get("/issuers?limit=2").get_json()
    second = alice.get(f"/issuers?limit=2&cursor={first['next_cursor']}").get_json()
    assert [*first["items"], *second["items"]] == [partner, pems, opaque]
    assert alice.get("/issuers?name=as").get_json()["items"] == [opaque]
    configs = published(store, demo)
    assert configs[0] == snapshot.IssuerConfig(
        id=partner["id"],
        name="partner",
        kind="jwt",
        issuer="https://id.partner.example",
        audience=("https://api.demo.example",),
        jwks_uri="https://id.partner.example/jwks.json",
        required_scopes=("read",),
    )
    assert (configs[1].algorithms, configs[1].public_keys) == (("ES256", "EdDSA"), EC + ED)
    assert (configs[2].client_id, opened(configs[2], demo)) == ("gateway", SECRET)


@pytest.mark.parametrize(
    ("given", "location", "word"),
    [
        (an_issuer(kind="saml"), "kind", "jwt"),
        (an_issuer(audience=[]), "audience", "must be given"),
        (an_issuer(audience=["a b"]), "audience.0", "visible ASCII"),
        (an_issuer(audience=["a", "a"]), "audience", "twice"),
        (an_issuer(issuer="https://id example"), "issuer", "visible ASCII"),
        (an_issuer(issuer="https://id.\u0435xample"), "issuer", "visible ASCII"),
        (an_issuer(issuer=ISSUER), "issuer", "this deployment's own"),
        (an_issuer(issuer=ISSUER.upper() + "/"), "issuer", "this deployment's own"),
        (an_issuer(algorithms=["HS256"]), "algorithms.0", "RS256"),
        (an_issuer(algorithms=["none"]), "algorithms.0", "RS256"),
        (an_issuer(jwks_uri=None), "jwks_uri", "jwks_uri or public_keys"),
        (an_issuer(public_keys=RSA), "public_keys", "not both"),
        (an_issuer(jwks_uri=None, public_keys="x"), "public_keys", "in PEM"),
        (an_issuer(jwks_uri=None, public_keys=EC), "public_keys", "for none of RS256"),
        (an_issuer(jwks_uri=None, public_keys=RSA, algorithms=["RS256", "ES256"]), "algorithms", "name ES256"),
        (an_issuer(jwks_uri="ftp://id.partner.example"), "jwks_uri", "https://"),
        (an_issuer(jwks_uri="http://id.partner.example/jwks"), "jwks_uri", "must be https"),
        (an_issuer(jwks_uri="https://169.254.169.254/latest"), "jwks_uri", "link-local"),
        (an_issuer(jwks_uri="https://[::ffff:10.0.0.1]/jwks"), "jwks_uri", "private"),
        (an_issuer(jwks_uri="https://localhost/jwks"), "jwks_uri", "private host"),
        (an_issuer(jwks_uri="https://id.partner.example/#jwks"), "jwks_uri", "fragment"),
        (an_issuer(introspection_url="https://as.example"), "introspection_url", "does not go with"),
        (an_issuer(client_secret=SECRET), "client_secret", "does not go with"),
        (asked(jwks_uri="https://as.example/jwks"), "jwks_uri", "does not go with"),
        (asked(algorithms=["RS256"]), "algorithms", "does not go with"),
        (asked(introspection_url=None), "introspection_url", "must be given"),
        (asked(introspection_url="https://10.0.0.1/"), "introspection_url", "private"),
        (asked(client_id=None), "client_id", "must be given"),
        (asked(client_secret=None), "client_secret", "must be given"),
        (asked(client_secret="x" * (bounds.CLIENT_SECRET_CHARS_MAX + 1)), "client_secret", "at most 1024"),
        (asked(client_secret=f"{SECRET}\n"), "client_secret", "visible ASCII"),
        (asked(required_scopes=["\u00e4"]), "required_scopes.0", "letters"),
        (asked(claim_map={}), "claim_map", "not permitted"),
    ],
)
def test_what_is_wrong_is_refused_and_the_field_is_named(
    alice: Person, settings: Callable[..., None], given: dict[str, Any], location: str, word: str
) -> None:
    answer = alice.post("/issuers", given)
    assert answer.status_code == 422, answer.text
    errors = answer.get_json()["errors"]
    assert [item["location"] for item in errors] == [location]
    assert word in errors[0]["message"]
    assert SECRET not in answer.text


def test_http_is_for_hosts_that_the_deployment_opened_itself(alice: Person, settings: Callable[..., None]) -> None:
    settings(opened="127.0.0.0/8")
    alice.make("/issuers", an_issuer(jwks_uri="http://127.0.0.1:8081/jwks.json"))
    alice.make("/issuers", an_issuer("named", issuer="urn:b", jwks_uri="http://localhost:8081/jwks.json"))
    answer = alice.post("/issuers", an_issuer("public", issuer="urn:c", jwks_uri="http://id.partner.example/jwks"))
    assert answer.get_json()["errors"] == [{"location": "jwks_uri", "message": "must be https"}]


def test_name_and_issuer_are_taken_once_per_tenant(alice: Person, charlie: Person) -> None:
    alice.make("/issuers", an_issuer())
    for again, field in ((an_issuer(issuer="urn:b"), "name"), (an_issuer("second"), "issuer")):
        answer = alice.post("/issuers", again)
        assert (answer.status_code, answer.get_json()["errors"][0]["location"]) == (409, field)
    charlie.make("/issuers", an_issuer())


def test_a_tenant_has_a_bounded_number_of_them(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ISSUERS_PER_TENANT_MAX", 1)
    alice.make("/issuers", an_issuer())
    assert alice.post("/issuers", an_issuer("second", issuer="urn:b")).status_code == 409


def test_a_patch_changes_what_it_names_and_the_kind_stays(alice: Person, demo: Actor, store: redis.Redis) -> None:
    made = alice.make("/issuers", an_issuer())
    path = f"/issuers/{made['id']}"
    moved = alice.patch(path, {"jwks_uri": None, "public_keys": RSA}, headers={"If-Match": '"r1"'})
    assert (moved.status_code, moved.headers["ETag"]) == (200, '"r2"')
    assert (moved.get_json()["jwks_uri"], moved.get_json()["audience"]) == (None, made["audience"])
    assert published(store, demo)[0].public_keys == RSA
    assert alice.patch(path, {"name": "n"}, headers={"If-Match": '"r1"'}).status_code == 412
    assert alice.patch(path, {"algorithms": []}).get_json()["algorithms"] == ["RS256"]
    for body, location in (
        ({"kind": "oauth"}, "kind"),
        ({"public_keys": None}, "jwks_uri"),
        ({"audience": []}, "audience"),
        ({"issuer": None}, "issuer"),
        ({"issuer": ISSUER}, "issuer"),
    ):
        answer = alice.patch(path, body)
        assert (answer.status_code, answer.get_json()["errors"][0]["location"]) == (422, location), body
    assert [entry["action"] for entry in alice.get("/audit-log").get_json()["items"][:2]] == ["issuer.changed"] * 2


def test_a_secret_left_out_is_kept_and_goes_nowhere_but_to_its_own_host(
    alice: Person, demo: Actor, store: redis.Redis, settings: Callable[..., None]
) -> None:
    path = f"/issuers/{alice.make('/issuers', asked())['id']}"
    before = published(store, demo)[0].client_secret
    assert alice.patch(path, {"name": "renamed", "introspection_url": "https://as.example/v2"}).status_code == 200
    assert published(store, demo)[0].client_secret == before
    answer = alice.patch(path, {"introspection_url": "https://evil.example/introspect"})
    assert answer.get_json()["errors"][0]["location"] == "client_secret"
    assert alice.patch(path, {"client_secret": None}).status_code == 422
    moved = {"introspection_url": "https://as2.example/introspect", "client_secret": "another"}
    assert alice.patch(path, moved).status_code == 200
    assert opened(published(store, demo)[0], demo) == "another"


def test_without_sealing_keys_a_secret_is_refused_and_all_else_works(
    alice: Person, settings: Callable[..., None]
) -> None:
    settings(None)
    answer = alice.post("/issuers", asked())
    assert answer.status_code == 422
    assert answer.get_json()["errors"] == [
        {"location": "client_secret", "message": "cannot be stored: this deployment has no SEALING_KEYS"}
    ]
    alice.make("/issuers", an_issuer())


def test_the_secret_is_in_clear_nowhere(
    alice: Person,
    store: redis.Redis,
    postgres: Postgres,
    settings: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = f"/issuers/{alice.make('/issuers', asked())['id']}"
    alice.patch(path, {"client_secret": SECRET})
    answers = [alice.get(each).text for each in ("/issuers", path, "/audit-log", "/openapi.json")]
    in_redis = everything_in(store).decode()
    assert "s1.1." in in_redis
    with psycopg.connect(postgres.url("owner", "webapp_shared"), autocommit=True) as connection:
        connection.execute("SET app.system = 'on'")
        tables = [
            str(connection.execute(f"SELECT * FROM {table}").fetchall())
            for table in ("issuers", "config_versions", "audit_log", "outbox")
        ]
    assert "s1.1." in tables[0]
    logged = "".join(capfd.readouterr())
    assert "request.done" in logged
    assert [text[:80] for text in (*answers, *tables, logged, in_redis) if SECRET in text] == []


def test_sealing_keys_rotate_without_a_pause(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, settings: Callable[..., None]
) -> None:
    issuer_id = alice.make("/issuers", asked())["id"]
    settings(f"1:{ONE},2:{TWO}")
    runner = app.test_cli_runner()
    result = runner.invoke(args=["reseal"])
    assert (result.exit_code, result.output) == (0, "1 secret sealed anew\n")
    assert opened(published(store, demo)[0], demo, f"2:{TWO}") == SECRET
    assert runner.invoke(args=["reseal"]).output == "0 secrets sealed anew\n"
    settings(f"3:{ONE}")
    lost = runner.invoke(args=["reseal"])
    assert lost.exit_code == 1
    assert f"issuer {issuer_id}: no sealing key that is listed opens it" in lost.output
    assert alice.patch(f"/issuers/{issuer_id}", {"name": "renamed"}).status_code == 200
    assert alice.patch(f"/issuers/{issuer_id}", {"client_secret": SECRET}).status_code == 200
    assert opened(published(store, demo)[0], demo, f"3:{ONE}") == SECRET


def test_a_write_seals_an_older_secret_anew(
    alice: Person, demo: Actor, store: redis.Redis, settings: Callable[..., None]
) -> None:
    path = f"/issuers/{alice.make('/issuers', asked())['id']}"
    settings(f"1:{ONE},2:{TWO}")
    alice.patch(path, {"name": "renamed"})
    assert opened(published(store, demo)[0], demo, f"2:{TWO}") == SECRET


def test_an_issuer_that_a_route_names_is_not_removed(alice: Person, demo: Actor, store: redis.Redis) -> None:
    made = alice.make("/issuers", an_issuer())
    other = alice.make("/issuers", an_issuer("second", issuer="urn:b"))
    origin = alice.make("/origins", an_origin())["id"]
    route = alice.make("/routes", a_route(origin, issuers=[other["id"], made["id"]], enabled=False))
    answer = alice.delete(f"/issuers/{made['id']}")
    assert answer.status_code == 409
    assert answer.get_json()["routes"] == [{"id": route["id"], "path_pattern": "/api/users/*"}]
    alice.patch(f"/routes/{route['id']}", {"issuers": [other["id"]]})
    assert alice.delete(f"/issuers/{made['id']}").status_code == 204
    assert [config.name for config in published(store, demo)] == ["second"]
    assert alice.get("/audit-log").get_json()["items"][0]["action"] == "issuer.removed"


def test_a_route_never_has_two_issuers_to_ask_about_an_opaque_token(
    alice: Person, settings: Callable[..., None]
) -> None:
    """Such a token does not say who made it, and whoever is asked learns it."""
    origin = alice.make("/origins", an_origin())["id"]
    one = alice.make("/issuers", asked())["id"]
    alice.make("/issuers", an_issuer())
    every, some, named, keyed = (
        alice.make("/routes", a_route(origin, auth_mode=mode, path_pattern=path, **more))
        for mode, path, more in (
            ("oauth_required", "/every", {}),
            ("any", "/some", {"accept": ["apikey", "oauth"]}),
            ("oauth_required", "/named", {"issuers": [one]}),
            ("any", "/keyed", {"accept": ["apikey"]}),
        )
    )
    second = asked(name="second", issuer="urn:b")
    refused = alice.post("/issuers", second)
    assert refused.status_code == 409
    assert [route["path_pattern"] for route in refused.get_json()["routes"]] == ["/every", "/some"]
    for route in (every, some):
        assert alice.patch(f"/routes/{route['id']}", {"issuers": [one]}).status_code == 200
    two = alice.make("/issuers", second)["id"]
    for route, change in (
        (every, {"issuers": []}),
        (named, {"issuers": [one, two]}),
        (keyed, {"accept": ["apikey", "oauth"]}),
    ):
        answer = alice.patch(f"/routes/{route['id']}", change)
        assert answer.status_code == 422
        (error,) = answer.get_json()["errors"]
        assert error["location"] == "issuers"
        assert error["message"].startswith("must name at most one of kind introspection")
    assert alice.post("/routes", a_route(origin, auth_mode="oauth_required")).status_code == 422
    assert alice.patch(f"/routes/{every['id']}", {"issuers": [two]}).status_code == 200


def test_the_openapi_document_says_that_the_secret_is_write_only(nobody: Person) -> None:
    schemas = nobody.get("/openapi.json").get_json()["components"]["schemas"]
    assert schemas["IssuerNew"]["properties"]["client_secret"]["writeOnly"] is True
    assert schemas["IssuerPatch"]["properties"]["client_secret"]["writeOnly"] is True
    assert "client_secret" not in schemas["IssuerView"]["properties"]
