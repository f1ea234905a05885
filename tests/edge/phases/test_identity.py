"""The identity token: what an origin is told of a caller, signed (edge.phases.identity)."""

import gc
import json
import weakref

import pytest

from contracts.identity import LIFE_S, REUSE_S, SigningKey, claims_of
from contracts.snapshot import AccessConfig, identity_key_place
from edge.errors import Retry
from edge.phases import identity
from tests.edge.fakes import (
    NOW,
    OTHER_TENANT,
    TENANT,
    Stage,
    a_cache,
    a_head,
    a_response,
    a_route,
    an_identity_key,
    an_origin,
    with_keys,
)
from tests.edge.phases.test_auth import KEY, a_token
from tests.edge.phases.test_forward import failure

VOUCHED = AccessConfig(identity_token=True)


def a_stage(*routes, **more):
    stage = Stage(snapshot=with_keys(*(routes or (a_route(auth="apikey_required", access=VOUCHED),)), **more))
    stage.knows_key("key-of-alice")
    return stage


def tokens(stage):
    prefix = "X-Vantage-Identity: "
    return [
        [line.removeprefix(prefix) for line in head.split("\r\n") if line.startswith(prefix)]
        for head in stage.origin.heads
    ]


def claims(stage, index=-1):
    return json.loads(claims_of(stage.signer.signed[index][1]))


ALICE = ("X-API-Key", "key-of-alice")


def test_a_route_that_asks_for_it_sends_a_token_for_its_origin_signed_with_the_tenants_key():
    stage = a_stage()
    answer = stage.get("/", ALICE)
    assert answer.status == 200
    assert claims(stage) == {
        "iss": "https://demo.example.com", "aud": "origin-1", "iat": NOW, "exp": NOW + LIFE_S,
        "jti": "00000000-0000-7000-8000-000000000001", "v": 1, "kind": "key", "sub": "key-1",
        "scopes": ["read", "write"], "tenant": TENANT, "route": "route-",
    }  # fmt: skip
    key, signed = stage.signer.signed[0]
    assert key == SigningKey("kid-1", "sealed", identity_key_place(TENANT, "kid-1"))
    assert tokens(stage) == [[signed.decode() + ".c2lnbmVkIGJ5IGtpZC0x"]]
    assert answer["X-Vantage-Identity"] is None


def test_a_route_that_does_not_ask_sends_none_and_nothing_is_signed():
    stage = a_stage(a_route(auth="apikey_required"))
    stage.get("/", ALICE)
    assert (tokens(stage), stage.signer.signed) == ([[]], [])


def test_a_public_route_vouches_for_having_been_passed_and_for_nobody():
    stage = a_stage(a_route(access=VOUCHED))
    stage.get("/")
    said = claims(stage)
    assert said["kind"] == "anonymous"
    assert "sub" not in said


def test_equal_callers_share_a_token_for_half_a_minute_and_no_longer():
    stage = a_stage()
    stage.knows_key("key-of-bob", id="key-2")
    for _ in range(3):
        stage.get("/a", ALICE)
        stage.send("POST", "/b", ALICE)
        stage.get("/a", ("X-API-Key", "key-of-bob"))
    assert len(stage.signer.signed) == 2
    assert len({token for (token,) in tokens(stage)}) == 2
    stage.clock.passes(REUSE_S - 1)
    stage.get("/a", ALICE)
    assert len(stage.signer.signed) == 2
    stage.clock.passes(1)
    stage.get("/a", ALICE)
    assert (len(stage.signer.signed), claims(stage)["iat"]) == (3, NOW + REUSE_S)


def test_an_equal_head_gets_a_new_token_when_the_old_one_is_old():
    """What forward remembers of an equal request must not outlive the token."""
    stage = a_stage()
    head = a_head("GET", "/", [ALICE])
    stage.take(head)
    stage.clock.passes(REUSE_S)
    stage.take(head)
    assert tokens(stage)[0] != tokens(stage)[1]


def test_a_clock_that_steps_back_leaves_no_token_from_the_future():
    stage = a_stage()
    stage.get("/", ALICE)
    stage.clock.passes(-3_600)
    stage.get("/", ALICE)
    assert claims(stage)["iat"] == NOW - 3_600


def test_a_token_is_for_one_route_and_its_origin():
    routes = [a_route(path, access=VOUCHED, origin_id=origin) for path, origin in (("/a", "o-1"), ("/b", "o-2"))]
    stage = a_stage(*routes, origins=[an_origin(id="o-1"), an_origin(id="o-2")])
    stage.get("/a")
    stage.get("/b")
    assert [(claims(stage, i)["aud"], claims(stage, i)["route"]) for i in (0, 1)] == [
        ("o-1", "route-a"), ("o-2", "route-b"),
    ]  # fmt: skip


def test_another_tenant_with_the_same_ids_gets_a_token_of_its_own():
    stage = a_stage()
    other = with_keys(
        a_route(auth="apikey_required", access=VOUCHED), keys=[an_identity_key("kid-2")], id=OTHER_TENANT,
        subdomain="other",
    )  # fmt: skip
    stage.publish(other, "other.example.com")
    stage.knows_key("key-of-alice", tenant_id=OTHER_TENANT)
    stage.get("/", ALICE)
    stage.get("/", ALICE, host="other.example.com")
    assert [key.kid for key, _ in stage.signer.signed] == ["kid-1", "kid-2"]
    assert claims(stage)["iss"] == "https://other.example.com"


def test_everything_of_a_session_is_said_once_and_again_in_the_principal():
    stage = a_stage(a_route(auth="jwt_required", access=VOUCHED))
    stage.sessions.published = {"ins_1": KEY.public_key()}
    stage.get("/", ("Authorization", f"Bearer {a_token()}"))
    (line,) = [line for line in stage.origin.heads[0].split("\r\n") if line.startswith("X-Vantage-Principal: ")]
    said = json.loads(line.partition(": ")[2])
    assert {name: claims(stage)[name] for name in said} == said


def test_a_new_version_signs_with_its_own_first_private_key_at_once():
    stage = a_stage()
    stage.get("/", ALICE)
    keys = [an_identity_key("old", None), an_identity_key("new"), an_identity_key("newer")]
    stage.publish(with_keys(a_route(auth="apikey_required", access=VOUCHED), keys=keys))
    stage.get("/", ALICE)
    assert [key.kid for key, _ in stage.signer.signed] == ["kid-1", "new"]


@pytest.mark.parametrize("keys", [[], [an_identity_key("old", None)]])
def test_without_a_key_the_route_is_unavailable_and_others_are_not(keys):
    routes = (a_route("/v/*", access=VOUCHED), a_route("/*"))
    stage = Stage(snapshot=with_keys(*routes, keys=keys))
    refused = stage.get("/v/1")
    assert (refused.status, json.loads(refused.body)["code"]) == (503, "identity-unavailable")
    assert refused.exchange.error.internal == "the tenant has no key for identity tokens"
    assert stage.get("/x").status == 200
    assert len(stage.origin.requests) == 1


def test_a_key_that_does_not_open_ends_the_request_with_nothing_sent_or_remembered():
    stage = a_stage()
    stage.signer.away = "it was moved"
    assert stage.get("/", ALICE).status == 503
    assert stage.origin.requests == []
    stage.signer.away = ""
    assert stage.get("/", ALICE).status == 200


def test_an_attempt_that_comes_late_has_a_token_that_still_lives():
    stage = a_stage(origins=[an_origin("http://a.example", "http://b.example")])
    stage.origin.script = [failure(Retry.NOTHING_SENT), a_response(200)]
    stage.origin.takes_s = 55.0
    assert stage.get("/", ALICE).status == 200
    assert claims(stage, 1)["iat"] == NOW + 55


def test_an_answer_from_memory_needs_no_token_and_what_is_kept_depends_on_the_route_asking_for_one():
    cached = {"auth": "apikey_required", "cache": a_cache()}
    stage = a_stage(a_route(access=VOUCHED, **cached))
    stage.origin.answers(200, b"for alice", Content_Type="text/plain")
    for _ in range(2):
        stage.get("/", ALICE)
        stage.clock.passes(REUSE_S)
    assert (len(stage.origin.requests), len(stage.signer.signed)) == (1, 1)
    stage.publish(with_keys(a_route(**cached)))
    stage.get("/", ALICE)
    assert len(stage.origin.requests) == 2


def test_the_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(identity, "TOKENS_MAX", 3)
    stage = a_stage()
    for number in range(10):
        stage.knows_key(f"key-number-{number}", id=f"key-{number}")
        stage.get("/", ("X-API-Key", f"key-number-{number}"))
        assert sum(map(len, stage.pipeline._tokens._made.values())) <= 3
    stage.clock.passes(REUSE_S)
    stage.get("/", ("X-API-Key", "key-number-9"))  # the last one made anew takes no more room
    assert stage.pipeline._tokens._count == 1


def test_what_is_remembered_goes_with_the_version_it_was_made_under():
    """A route holds its origin and its certificates: a tenant that publishes often must not leave all of them here."""
    stage = a_stage()
    kept = weakref.ref(stage.config.tenants[b"demo.example.com"].routes[0])
    stage.get("/", ALICE)
    stage.publish(with_keys(a_route(auth="apikey_required", access=VOUCHED)))
    stage.recorder.records.clear()
    gc.collect()
    assert kept() is None
    assert not stage.pipeline._tokens._made
