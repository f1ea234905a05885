"""devstack.clerk.flaws: each flaw is the only thing wrong, and no token of another kind passes for a session."""

from __future__ import annotations

import base64
import json
import time

import jwt
import pytest
from flask.testing import FlaskClient

from contracts import clerk, tokens
from devstack.clerk import flaws, machines, people

EXPECTED = clerk.Expectation(issuer="http://127.0.0.1:8081", authorized_parties=("http://localhost:8080",))
FOR_US = clerk.Expectation("http://127.0.0.1:8081", (), machine_id=machines.GATEWAY_ID)
PAIRS = [(kind, name) for name, flaw in flaws.FLAWS.items() for kind in flaws.KINDS if kind in flaw.kinds]
OTHERS = [(kind, name) for kind, name in PAIRS if kind != "session"]
BY_OTHER_KEYS = {
    "wrong-key", "unknown-kid", "tampered", "alg-none", "alg-none-mixed", "alg-hs256", "alg-es256", "alg-ps256",
    "alg-rs512", "jku", "x5u", "x5c", "jwk", "two-parts", "five-parts",
}  # fmt: skip


def mint(shared: FlaskClient, kind: str, **more: object) -> str:
    person = {} if kind == "machine" else {"person": "alice"}
    answer = shared.post("/__dev/tokens", json={"kind": kind, **person, **more})
    assert answer.status_code == 200, answer.text
    return str(answer.json["jwt"])  # type: ignore[index]


def read(token: str) -> tuple[dict, dict]:
    head, said = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")[:2])
    return json.loads(head), json.loads(said)


def public_key(shared: FlaskClient):
    return next(iter(clerk.parse_keyset(shared.get("/.well-known/jwks.json").data).values()))


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_a_flaw_in_what_is_said_has_a_good_signature_and_a_flaw_in_the_signature_has_none(
    shared: FlaskClient, kind: str, name: str
) -> None:
    token = mint(shared, kind, flaw=name)
    signed, _, signature = token.rpartition(".")
    good = False
    if signature and signed.count(".") == 1:
        algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
        proof = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        good = algorithm.verify(signed.encode(), public_key(shared), proof)
    assert good == (name not in BY_OTHER_KEYS)


@pytest.mark.parametrize("kind", flaws.KINDS)
def test_the_good_token_of_each_kind_says_what_its_kind_says(shared: FlaskClient, kind: str) -> None:
    head, said = read(mint(shared, kind))
    assert head["alg"] == "RS256" and head["kid"] == people.INSTANCE_ID
    assert said["iss"] == "http://127.0.0.1:8081"
    if kind == "oauth":
        assert head["typ"] == "at+jwt" and "cat" not in head
        assert said["jti"].startswith("oat_") and said["exp"] - said["iat"] == 86_400
        assert said["sub"] == people.ALICE.user_id and said["scope"] == "profile email"
        assert "aud" not in said and "org_id" not in said
    if kind == "machine":
        assert head["cat"] == "cl_B7d4PD333AAA" and said["jti"].startswith("mt_")
        assert said["sub"] == machines.CALLER_ID
        assert said["aud"] == [machines.GATEWAY_ID] and said["scopes"] == machines.GATEWAY_ID


@pytest.mark.parametrize(("kind", "name"), [("oauth", None), ("machine", None), *OTHERS])
def test_no_other_kind_good_or_bad_passes_for_a_session(shared: FlaskClient, kind: str, name: str | None) -> None:
    token = mint(shared, kind, **({"flaw": name} if name else {}))
    keys = clerk.parse_keyset(shared.get("/.well-known/jwks.json").data)
    with pytest.raises(clerk.SessionRefused):
        clerk.verify_session(token, keys, EXPECTED, time.time())


def believed(shared: FlaskClient, kind: str, token: str) -> clerk.Access | clerk.Machine:
    keys = clerk.parse_keyset(shared.get("/.well-known/jwks.json").data)
    verify = clerk.believe_access if kind == "oauth" else clerk.believe_machine
    return verify(tokens.take_apart(token.encode()), keys, FOR_US, time.time())


def test_good_tokens_of_the_other_kinds_are_believed_as_what_they_are(shared: FlaskClient) -> None:
    access = believed(shared, "oauth", mint(shared, "oauth", scope="profile user:org:read"))
    assert isinstance(access, clerk.Access)
    assert (access.user_id, access.org_id) == (people.ALICE.user_id, people.DEMO_COMPANY.org_id)
    assert access.scopes == ("profile", "user:org:read")
    machine = believed(shared, "machine", mint(shared, "machine"))
    assert isinstance(machine, clerk.Machine) and machine.machine_id == machines.CALLER_ID


@pytest.mark.parametrize(("kind", "name"), OTHERS)
def test_each_flaw_of_the_other_kinds_is_refused_by_the_verifier_of_its_kind(
    shared: FlaskClient, kind: str, name: str
) -> None:
    token = mint(shared, kind, flaw=name)
    with pytest.raises(clerk.SessionRefused):
        believed(shared, kind, token)


def test_a_flaw_of_another_kind_is_not_on_offer(shared: FlaskClient) -> None:
    answer = shared.post("/__dev/tokens", json={"kind": "machine", "flaw": "pending"})
    assert answer.status_code == 422 and "wrong-machine" in answer.text
    listed = shared.get("/__dev/flaws").json
    assert "pending" in listed["session"] and "pending" not in listed["machine"]  # type: ignore[index]
    assert sum(map(len, listed.values())) == len(PAIRS)  # type: ignore[union-attr]


def test_the_header_flaws_say_what_their_names_say(shared: FlaskClient) -> None:
    for name, member in (("jku", "jku"), ("x5u", "x5u"), ("x5c", "x5c"), ("jwk", "jwk")):
        assert member in read(mint(shared, "session", flaw=name))[0]
    assert "kid" not in read(mint(shared, "session", flaw="no-kid"))[0]
    assert read(mint(shared, "session", flaw="alg-list"))[0]["alg"] == ["RS256"]
    assert len(mint(shared, "session", flaw="huge")) > 8_192
    twice = base64.urlsafe_b64decode(mint(shared, "session", flaw="duplicate-claims").split(".")[1] + "==")
    assert twice.count(b'"sub"') == 2
