"""The attack matrix against the rooms for real: listener, pipeline, key sets fetched from servers, two tenants."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from typing import Any

import msgspec
import pytest

from contracts.messages import Change
from contracts.snapshot import AccessConfig
from edge.net.issuer_keys import IssuerKeySets
from edge.net.jwks import SessionKeySet
from edge.pipeline import Pipeline
from edge.ports import Ports
from edge.settings import ClerkSettings
from tests import forging
from tests.edge.fakes import OTHER_TENANT, a_route, a_snapshot, an_origin
from tests.edge.net.gateway import Client, Clock, Gateway, Identifiers, WholeGateway, eventually
from tests.edge.phases.test_auth_tokens import OWN_MINTS, PATHS, ROUTES, a_machine, an_issuer
from tests.forging import CLERK, GONE, MINTS, OUR_MACHINE, PARTY
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

HEAD_BYTES_MAX = 262_144
INVALID = b'Bearer realm="demo", error="invalid_token"'


class KeyServer(Origin):
    """Serves each issuer's key set at /<name>.json, and Clerk's at /clerk.json. Counts what is asked for."""

    def __init__(self) -> None:
        self.documents = {b"/clerk.json": forging.jwks(forging.jwk(forging.RSA, "ins_1"))}
        for name, mint in OWN_MINTS.items():
            self.documents[f"/{name}.json".encode()] = forging.jwks(forging.jwk(mint.key, mint.kid))
        self.asked: list[bytes] = []
        super().__init__(self._answer)

    def _answer(self, sock: socket.socket) -> None:
        while got := origins.head(sock):
            path = got.split(b" ")[1]
            self.asked.append(path)
            body = self.documents[path]
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


class TokenGateway(WholeGateway):
    """Two tenants: demo with all issuers and a machine, other with the same issuers' names and keys of its own."""

    def __init__(self, url: str, key_url: str, **more: Any) -> None:
        super().__init__(url, head_bytes_max=HEAD_BYTES_MAX, **more)
        self.key_url = key_url
        clerk = ClerkSettings(CLERK, key_url + "/clerk.json", (PARTY,), machine_id=OUR_MACHINE)
        self.stage.sessions = SessionKeySet(clerk)  # type: ignore[assignment]
        self.publish(url)

    def publish(self, url: str, **jwks_uris: str) -> None:
        issuers = [an_issuer(name, jwks_uri=jwks_uris.get(name, f"{self.key_url}/{name}.json")) for name in OWN_MINTS]
        snapshot = a_snapshot(*ROUTES, origins=[an_origin(url)])
        demo = msgspec.structs.replace(snapshot, issuers=tuple(issuers), services=(a_machine(),))
        self.stage.publish(demo)
        other = {"id": OTHER_TENANT, "subdomain": "other", "clerk_org_id": "org_charlie"}
        self.stage.publish(a_snapshot(*ROUTES, origins=[an_origin(url)], **other), "other.example.com")

    def _pipeline(self) -> Pipeline:
        stage = self.stage
        self.issuers = IssuerKeySets(self.upstream)
        return Pipeline(Ports(
            Clock(), Identifiers(), stage.config, stage.keys, stage.sessions, stage.counters, stage.cache, stage.health,
            self.upstream, stage.recorder, self.issuers, stage.tokens, stage.signer, stage.secrets, stage.nonces,
        ))  # fmt: skip


@pytest.fixture(scope="module")
def servers():
    with Origin(origins.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as origin, KeyServer() as keys:
        yield origin, keys


@pytest.fixture(scope="module")
def gateway(servers):
    origin, keys = servers
    with TokenGateway(origin.url, keys.url) as gateway:
        yield gateway


def ask(client: Client, path: str, *lines: str, host: str = "demo.example.com"):
    client.send("\r\n".join((f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", "")).encode("latin-1"))
    return client.answer()


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def is_refused(answer) -> bool:
    challenge = (answer.field(b"WWW-Authenticate") or b"").partition(b", resource_metadata")[0]
    return (answer.status, challenge) == (401, INVALID) and json.loads(answer.body)["code"] == "credentials-invalid"


def good(name: str, **claims: Any) -> str:
    return MINTS[name].token(time.time(), **claims)


@pytest.mark.parametrize("name", MINTS)
def test_a_good_token_of_each_kind_is_served_before_and_after_the_whole_matrix(gateway, name):
    """... and no attack reaches the origin, is answered otherwise, or ends the connection it came on."""
    path = PATHS[MINTS[name].kind]
    began = time.monotonic()
    with gateway.client() as client:
        assert ask(client, path, bearer(good(name))).status == 200
        for mint, attack, make in forging.matrix():
            if mint != name:
                continue
            now = time.time()
            token = make(MINTS[name], now)
            for of in (path, "/any"):
                answer = ask(client, of, bearer(token))
                assert is_refused(answer), (attack, of, answer)
        assert ask(client, path, bearer(good(name))).status == 200
        assert ask(client, "/any", bearer(good(name))).status == 200
    assert time.monotonic() - began < 60
    eventually(lambda: all(record.error is None for record in gateway.records if record.reply.status == 200))


def test_forged_tokens_made_no_traffic_to_the_issuers(servers, gateway):
    """After the matrix: each issuer was asked for its keys, and then at most once in ten seconds."""
    _, keys = servers
    for path in keys.documents:
        assert keys.asked.count(path) <= 1 + 60 / 10, path


@pytest.mark.parametrize("name", MINTS)
def test_a_token_of_one_tenant_is_nobodys_at_the_other(gateway, name):
    path = PATHS[MINTS[name].kind]
    with gateway.client() as client:
        stranger = ask(client, path, bearer(good(name)), host="other.example.com")
        broken = ask(client, path, bearer("e30.e30.AA"), host="other.example.com")
        assert (stranger.status, broken.status) == (401, 401)
        assert stranger.field(b"WWW-Authenticate") == broken.field(b"WWW-Authenticate")
        for answer in (stranger, broken):
            body = json.loads(answer.body)
            body.pop("request_id")
            assert body["detail"] == json.loads(broken.body)["detail"]


def test_two_credentials_at_once_or_one_twice_are_400(gateway):
    token = bearer(good("session"))
    with gateway.client() as client:
        for lines in (
            (token, token),
            (token, "X-API-Key: k"),
            (token, "authorization: Basic eDp5"),
            ("X-API-Key: k",) * 2,
        ):
            answer = ask(client, "/any", *lines)
            assert (answer.status, json.loads(answer.body)["code"]) == (400, "credentials-ambiguous")


def test_a_token_is_taken_from_the_header_field_alone(gateway):
    """RFC 6750 section 2: the form and query methods are not supported."""
    with gateway.client() as client:
        assert ask(client, f"/me?access_token={good('session')}").status == 401
        assert ask(client, "/me", f"Cookie: __session={good('session')}").status == 401


def test_a_token_of_100_kb_is_431_where_heads_are_bounded_as_by_default(servers):
    with Gateway(servers[0].url) as plain, plain.client() as client:
        client.send(
            b"GET / HTTP/1.1\r\nHost: demo.example.com\r\nAuthorization: Bearer " + b"x" * 100_000 + b"\r\n\r\n"
        )
        assert client.answer().status == 431


def test_a_session_that_was_signed_out_is_refused_though_its_token_was_believed(gateway):
    token = bearer(good("session", sid="sess_leaving"))
    with gateway.client() as client:
        assert ask(client, "/me", token).status == 200
        gateway.call(gateway.stage.sessions.on_change, Change(kind="session", tenant_id="", session_id="sess_leaving"))
        eventually(lambda: ask(client, "/me", token).status == 401)
        assert is_refused(ask(client, "/me", token))


@pytest.mark.parametrize("name", MINTS)
def test_a_believed_token_ends_with_its_time(gateway, name):
    now = time.time()
    token = bearer(MINTS[name].token(now, iat=now - 60, nbf=now - 60, exp=now - 3.5))
    with gateway.client() as client:
        path = PATHS[MINTS[name].kind]
        assert ask(client, path, token).status == 200
        eventually(lambda: is_refused(ask(client, path, token)))
        assert now - 3.5 + 4.9 < time.time() < now + 4


# --- Issuers that misbehave -----------------------------------------------------------------------------------------


def big(sock: socket.socket) -> None:
    while origins.head(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b" " * 100_000)


BEHAVIOURS = {
    "hangs": origins.silent,
    "redirects inside": origins.answers(
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n"
    ),
    "is huge": big,
    "is garbage": origins.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{{{"),
    "resets": origins.resets,
}


@pytest.mark.parametrize("how", BEHAVIOURS)
def test_an_issuer_whose_key_set(servers, how):
    """... is bad in this way is 503, soon, and remembered; the tenant's other issuers and the origin do not notice."""
    origin, keys = servers
    name = "user-ES256"
    with Origin(BEHAVIOURS[how]) as bad, TokenGateway(origin.url, keys.url) as gateway:
        gateway.publish(origin.url, **{name: bad.url + "/jwks.json"})
        with gateway.client(10.0) as client, gateway.client() as neighbour:
            began = time.monotonic()
            client.send(f"GET /me HTTP/1.1\r\nHost: demo.example.com\r\n{bearer(good(name))}\r\n\r\n".encode())
            assert ask(neighbour, "/me", bearer(good("user-EdDSA"))).status == 200
            if how == "hangs":
                assert time.monotonic() - began < 2, "a neighbour does not wait"
            answer = client.answer()
            assert (answer.status, json.loads(answer.body)["code"]) == (503, "identity-unavailable")
            assert time.monotonic() - began < 5
            for token in (good(name), forging.ATTACKS["another key under the same kid"](MINTS[name], time.time())):
                again = time.monotonic()
                assert ask(client, "/me", bearer(token)).status == 503
                assert time.monotonic() - again < 1
            assert bad.connections == 1
            assert ask(neighbour, "/me", bearer(good("user-EdDSA"))).status == 200


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/jwks", "http://10.0.0.1/jwks", "http://localhost:8081/jwks", "http://[::1]:8081/jwks"],
)
def test_a_jwks_uri_that_points_inside_is_503_at_once_and_nobody_is_connected_to(servers, url):
    origin, keys = servers
    with TokenGateway(origin.url, keys.url, allowed=()) as gateway:
        gateway.publish(origin.url, **{"user-RS256": url})
        with gateway.client() as client:
            began = time.monotonic()
            answer = ask(client, "/me", bearer(good("user-RS256")))
            assert (answer.status, json.loads(answer.body)["code"]) == (503, "identity-unavailable")
            assert b"169.254" not in answer.body
            assert time.monotonic() - began < 1
        eventually(lambda: bool(gateway.records))
        assert "origin-forbidden" in gateway.records[-1].error.internal


def test_a_key_rotated_at_its_issuer_is_found_and_the_old_one_no_longer_good(servers):
    origin, _ = servers
    name = "user-EdDSA"
    mint = MINTS[name]
    rotated = dataclasses.replace(mint, key=forging.EVIL["EdDSA"], kid="key-2")
    with KeyServer() as keys, TokenGateway(origin.url, keys.url) as gateway, gateway.client() as client:
        old = bearer(good(name))
        assert ask(client, "/me", old).status == 200
        keys.documents[f"/{name}.json".encode()] = forging.jwks(forging.jwk(rotated.key, rotated.kid))
        assert is_refused(ask(client, "/me", bearer(rotated.token(time.time())))), "asked less than 10 s ago"
        for held in gateway.issuers._held.values():
            held.tried_mono -= 10
        assert ask(client, "/me", bearer(rotated.token(time.time()))).status == 200
        assert is_refused(ask(client, "/me", old))


# --- What an OAuth client is told -----------------------------------------------------------------------------------


def test_a_challenge_leads_to_the_metadata_and_the_metadata_to_the_authorization_servers(gateway):
    """RFC 9728 sections 3 and 5.1."""
    with gateway.client() as client:
        challenge = ask(client, "/oauth").field(b"WWW-Authenticate")
        url = "http://demo.example.com/.well-known/oauth-protected-resource/oauth"
        assert challenge == b'Bearer realm="demo", resource_metadata="%b"' % url.encode()
        answer = ask(client, url.removeprefix("http://demo.example.com"))
        assert (answer.status, answer.field(b"Content-Type")) == (200, b"application/json")
        document = json.loads(answer.body)
        assert document["resource"] == "http://demo.example.com/oauth"
        assert document["authorization_servers"] == [CLERK, MINTS["access-own"].said(0)["iss"]]
        assert ask(client, "/.well-known/oauth-protected-resource/me").status == 404


def test_access_that_is_named_on_a_route_of_any_kind_is_kept_over_the_wire(servers):
    origin, keys = servers
    only = AccessConfig(accept=("oauth",), issuers=("access-own",))
    with TokenGateway(origin.url, keys.url) as gateway:
        snapshot = a_snapshot(a_route("/*", "any", access=only), origins=[an_origin(origin.url)])
        issuers = tuple(an_issuer(name, jwks_uri=f"{keys.url}/{name}.json") for name in OWN_MINTS)
        gateway.stage.publish(msgspec.structs.replace(snapshot, issuers=issuers))
        with gateway.client() as client:
            for name in MINTS:
                status = ask(client, "/x", bearer(good(name))).status
                assert (status == 200) is (name == "access-own"), name
            assert ask(client, "/x", bearer(good("access-own", client_id=GONE))).status == 401
