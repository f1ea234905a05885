"""An origin that verifies identity tokens with PyJWT, by the code of docs/identity.md, behind a running edge host."""

from __future__ import annotations

import http.client
import http.server
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from contracts import identity, sealing
from contracts.snapshot import AccessConfig, IdentityKeyConfig, Snapshot, identity_key_place
from devstack.valkey import Valkey
from tests.edge.publishing import DEMO, HOST, KEY, Publisher, route, snapshot_of
from tests.stored import everything_in
from tests.system.edge_host import EdgeHost, Load

pytestmark = pytest.mark.system
SEALED_BY = "1:" + "5a" * 32
OTHER = "0197a000-0000-7000-8000-0000000000ff"
OTHER_HOST = "other.localhost"
ISSUER = "https://demo.localhost"
VOUCHED = AccessConfig(identity_token=True)
ROUTES = (
    route(1, "/anybody/*", access=VOUCHED),
    route(2, "/keys/*", "apikey_required", access=VOUCHED),
    route(3, "/plain/*"),
)


def _example() -> Any:
    """The code that the document shows."""
    text = (Path(__file__).parents[2] / "docs" / "identity.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["Gateway"]


Gateway = _example()


class Pair:
    """A key of a tenant."""

    def __init__(self, kid: str, tenant: str = DEMO) -> None:
        self.kid = kid
        self.private = ec.generate_private_key(ec.SECP256R1())
        der = self.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        place = identity_key_place(tenant, kid)
        self.sealed = sealing.seal(sealing.parse_keys(SEALED_BY), der, place, os.urandom(12))
        self.jwk = identity.public_jwk(self.private.public_key(), kid)

    @property
    def signs(self) -> IdentityKeyConfig:
        return IdentityKeyConfig(id=self.kid, public_jwk=self.jwk, private_key=self.sealed)

    @property
    def shown(self) -> IdentityKeyConfig:
        return IdentityKeyConfig(id=self.kid, public_jwk=self.jwk)


class Origin:
    """Answers 200 to who can prove to have come through the gateway, else 401; remembers what it saw."""

    def __init__(self) -> None:
        self.gateway: Any = None
        self.claims: list[dict[str, Any]] = []
        self.tokens: list[list[str]] = []
        self.refused: list[str] = []
        outer = self

        class Answers(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                tokens = self.headers.get_all("X-Vantage-Identity") or []
                outer.tokens.append(tokens)
                try:
                    (token,) = tokens
                    outer.claims.append(outer.gateway.caller(token))
                    status = 200
                except (ValueError, jwt.PyJWTError) as error:
                    outer.refused.append(f"{type(error).__name__}: {error}")
                    status = 401
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def believes(self, host: EdgeHost, **options: Any) -> None:
        """Have it ask this edge for the demo tenant's keys, by address: `.localhost` is in no resolver."""
        uri = f"http://127.0.0.1:{host.port}{identity.JWKS_PATH.decode()}"
        self.gateway = Gateway(ISSUER, "origin-1", uri=uri, headers={"Host": HOST}, **options)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def published(version: int, url: str, *keys: IdentityKeyConfig, **whose: str) -> Snapshot:
    return msgspec.structs.replace(snapshot_of(version, ROUTES, url, **whose), identity_keys=keys)


def ask(host: EdgeHost, path: str, at: str = HOST, **fields: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": at, "Connection": "close", **fields})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class World:
    def __init__(self, store: Valkey, folder: Path) -> None:
        self.origin = Origin()
        self.publisher = Publisher(store.url)
        self.host = EdgeHost(store.url, folder, SEALING_KEYS=SEALED_BY)
        self.publisher.key(KEY)

    def __enter__(self) -> World:
        self.host.start()
        self.origin.believes(self.host)
        return self

    def __exit__(self, *_: object) -> None:
        self.host.stop()
        self.publisher.close()
        self.origin.close()

    def publish(self, snapshot: Snapshot, at: str = HOST) -> None:
        self.publisher.await_live(self.publisher.config(snapshot, (at,)), 2)

    def forged(self, pair: Pair, **changed: Any) -> str:
        """A token as the gateway would make it, but for what is changed (None takes it away)."""
        now = int(time.time())
        header = {"kid": pair.kid, "typ": identity.TYPE, **changed.pop("header", {})}
        claims = {
            "iss": ISSUER,
            "aud": "origin-1",
            "iat": now,
            "exp": now + 60,
            "kind": "user",
            "sub": "root",
        } | changed
        return jwt.encode({k: v for k, v in claims.items() if v is not None}, pair.private, "ES256", headers=header)


def refusal(world: World, token: str) -> str:
    with pytest.raises(jwt.PyJWTError) as refused:
        world.origin.gateway.caller(token)
    return type(refused.value).__name__


def test_an_origin_proves_who_called_and_refuses_all_that_is_not_for_it(tmp_path, valkey):
    mine, theirs = Pair("kid-a"), Pair("kid-a", OTHER)
    with World(valkey, tmp_path) as world:
        world.publish(published(1, world.origin.url, mine.signs))
        world.publish(published(1, world.origin.url, theirs.signs, tenant_id=OTHER, subdomain="other"), OTHER_HOST)
        forged = {"X-Vantage-Identity": "forged", "x-vantage.identity": "forged", "X_Vantage_Identity": "forged"}
        assert ask(world.host, "/keys/1", **{"X-API-Key": KEY}, **forged)[0] == 200
        assert ask(world.host, "/anybody/1", **forged)[0] == 200
        by_key, anonymous = world.origin.claims
        assert (by_key["sub"], by_key["kind"], by_key["scopes"]) == (f"key-{KEY}", "key", ["read", "write"])
        assert (by_key["tenant"], by_key["route"], by_key["v"]) == (DEMO, "route-2", 1)
        assert by_key["exp"] - by_key["iat"] == 60
        assert (anonymous["kind"], "sub" in anonymous) == ("anonymous", False)

        # Another tenant's call to the very same origin, whose ids and kid are all the same: not for this verifier.
        assert ask(world.host, "/anybody/1", OTHER_HOST)[0] == 401
        assert "InvalidSignatureError" in world.origin.refused[-1]
        # Straight to the origin, without the gateway: nothing to show.
        assert ask_origin(world.origin) == 401

        genuine = world.forged(mine)
        assert world.origin.gateway.caller(genuine)["sub"] == "root"  # the forger has the right key here, and only here
        past = int(time.time()) - 120
        unsigned = jwt.encode({"iss": ISSUER}, None, "none", headers={"typ": identity.TYPE, "kid": "kid-a"})
        assert {
            "expired": refusal(world, world.forged(mine, iat=past, exp=past + 60)),
            "other issuer": refusal(world, world.forged(mine, iss="https://other.localhost")),
            "other audience": refusal(world, world.forged(mine, aud="origin-2")),
            "many audiences": refusal(world, world.forged(mine, aud=["origin-1", "origin-2"])),
            "no expiry": refusal(world, world.forged(mine, exp=None)),
            "another kind": refusal(world, world.forged(mine, header={"typ": "at+jwt"})),
            "another key": refusal(world, world.forged(theirs)),
            "unknown kid": refusal(world, world.forged(Pair("kid-z"))),
            "none": refusal(world, unsigned),
        } == {
            "expired": "ExpiredSignatureError", "other issuer": "InvalidIssuerError",
            "other audience": "InvalidAudienceError", "many audiences": "InvalidAudienceError",
            "no expiry": "MissingRequiredClaimError", "another kind": "InvalidTokenError",
            "another key": "InvalidSignatureError", "unknown kid": "PyJWKClientError", "none": "InvalidAlgorithmError",
        }  # fmt: skip


def ask_origin(origin: Origin) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", int(origin.url.rpartition(":")[2]), timeout=5)
    try:
        connection.request("GET", "/anybody/1", headers={"X-Vantage-Principal": '{"v":1,"kind":"user","sub":"root"}'})
        return connection.getresponse().status
    finally:
        connection.close()


def test_keys_change_in_the_middle_of_traffic_without_one_refused_token(tmp_path, valkey):
    """An origin that keeps the set for a second and never fetches it for an unknown kid: the lead has to do."""
    old, new = Pair("kid-a"), Pair("kid-b")
    with World(valkey, tmp_path) as world:
        world.publish(published(1, world.origin.url, old.signs))
        world.origin.believes(world.host, lifespan=1, cooldown_duration=3_600)
        with Load(world.host, "/keys/1", threads=3, key=KEY) as load:
            time.sleep(0.5)
            world.publish(published(2, world.origin.url, old.signs, new.shown))
            time.sleep(1.5)  # its lead: more than anybody keeps the set
            world.publish(published(3, world.origin.url, new.signs, old.shown))
            time.sleep(1.5)
            world.publish(published(4, world.origin.url, new.signs))
            time.sleep(1.5)
        kids = [jwt.get_unverified_header(token)["kid"] for (token,) in world.origin.tokens]
        assert load.failures == []
        assert world.origin.refused == []
        assert len(kids) > 50
        assert kids[0] == "kid-a"
        assert kids[-1] == "kid-b"

        # The same without the lead is refused: what is seen above is the lead's doing.
        newest = Pair("kid-c")
        ask(world.host, "/keys/1", **{"X-API-Key": KEY})
        world.publish(published(5, world.origin.url, newest.signs))
        assert ask(world.host, "/keys/1", **{"X-API-Key": KEY})[0] == 401
        assert "kid-c" in world.origin.refused[0]


def test_a_sealed_key_that_was_moved_between_tenants_does_not_open_and_stops_nothing_else(tmp_path, valkey):
    mine = Pair("kid-a")
    with World(valkey, tmp_path) as world:
        world.publish(published(1, world.origin.url, mine.signs))
        world.publish(published(1, world.origin.url, mine.signs, tenant_id=OTHER, subdomain="other"), OTHER_HOST)
        for _ in range(4):
            status, body = ask(world.host, "/anybody/1", OTHER_HOST)
            assert (status, b"identity-unavailable" in body, b"kid-a" in body) == (503, True, False)
        seen = len(world.origin.tokens)
        assert ask(world.host, "/plain/1", OTHER_HOST)[0] == 401  # passed on, and refused by an origin that wants proof
        assert len(world.origin.tokens) == seen + 1
        assert ask(world.host, "/anybody/1")[0] == 200
        assert world.host.metric("vantageedge_identity_errors_total") == 4
        assert world.host.metric("vantageedge_identity_tokens_signed_total") >= 1
        assert world.host.log.read_text().count("identity key kid-a cannot be used") in (1, 2)  # once in each worker
        der = mine.private.private_numbers().private_value.to_bytes(32, "big")
        assert der not in everything_in(world.publisher.redis)
        assert ask(world.host, identity.JWKS_PATH.decode(), OTHER_HOST)[0] == 200


def test_the_key_set_over_a_real_socket(tmp_path, valkey):
    mine = Pair("kid-a")
    with World(valkey, tmp_path) as world:
        world.publish(published(1, world.origin.url, mine.signs))
        connection = http.client.HTTPConnection("127.0.0.1", world.host.port, timeout=10)
        path = identity.JWKS_PATH.decode()
        connection.request("GET", path, headers={"Host": HOST})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        connection.request("HEAD", path, headers={"Host": HOST})
        head = connection.getresponse()
        assert (head.status, head.read(), head.headers["Content-Length"]) == (200, b"", str(len(body)))
        connection.request("GET", path, headers={"Host": HOST, "If-None-Match": answer.headers["ETag"]})
        held = connection.getresponse()
        assert (held.status, held.read()) == (304, b"")
        connection.close()
        assert jwt.PyJWKSet.from_json(body.decode())["kid-a"].algorithm_name == "ES256"
