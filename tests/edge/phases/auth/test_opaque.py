"""Opaque tokens (edge.phases.auth.opaque), with an authority that says what it is told to."""

import dataclasses

import msgspec
import pytest

from contracts.snapshot import AccessConfig, ServiceConfig
from edge.exchange import Exchange
from edge.ports import TokenStatus
from tests.edge.fakes import ISSUER, NOW, OTHER_TENANT, TENANT, Stage, a_route, a_snapshot
from tests.edge.test_introspection import an_issuer

OURS, CLERKS, MACHINES = "3fe8b8a1", "oat_4", "mt_7"
INVALID = (401, "credentials-invalid", 'Bearer realm="demo", error="invalid_token"')


def bearer(token=OURS):
    return ("Authorization", f"Bearer {token}")


def problem(answer):
    """Without where the metadata of the resource is (RFC 9728 section 5.1), which routes for access tokens add."""
    challenge = (answer["WWW-Authenticate"] or "").partition(", resource_metadata=")[0]
    return answer.status, answer.exchange.error.problem.slug, challenge


def a_machine(**fields):
    fields = {
        "id": "svc-1",
        "name": "billing",
        "kind": "clerk_machine",
        "key_id": "mch_1",
        "scopes": ("bill",),
        **fields,
    }
    return ServiceConfig(**fields)


def a_stage(auth="oauth_required", issuers=(), services=(), subdomain="demo", **route):
    stage = Stage(a_route("/public"))
    snapshot = msgspec.structs.replace(
        a_snapshot(a_route("/*", auth, **route), subdomain=subdomain), issuers=tuple(issuers), services=tuple(services)
    )
    stage.publish(snapshot)
    return stage


@pytest.fixture
def partners():
    """demo-company takes opaque tokens of one issuer."""
    stage = a_stage(issuers=[an_issuer()])
    stage.tokens.words[TENANT, "issuer-1", OURS.encode()] = TokenStatus("carol", ("read",), "app", "org_of_carol")
    return stage


@pytest.fixture
def machines():
    stage = a_stage("service_required", services=[a_machine()])
    stage.tokens.words[TENANT, "clerk_machine", MACHINES.encode()] = TokenStatus("mch_1", ("mch_gateway",))
    return stage


def says(stage, **status):
    """What the one authority says from now on."""
    ((name, said),) = stage.tokens.words.items()
    fields = {field: getattr(said, field) for field in TokenStatus.__dataclass_fields__}
    stage.tokens.words[name] = TokenStatus(**{**fields, **status})


# --- The tenant's issuers -------------------------------------------------------------------------------------------


def test_a_token_that_the_issuer_calls_active_is_believed_and_stays_here(partners):
    answer = partners.get("/", bearer())
    assert answer.status == 200
    who = answer.exchange.principal
    assert (who.kind, who.subject, who.scopes, who.client_id, who.issuer, who.org_id) == (
        "oauth", "carol", ("read",), "app", "https://id.example.com", "org_of_carol",
    )  # fmt: skip
    assert OURS not in partners.origin.heads[0]


def test_an_unknown_token_is_the_one_401(partners):
    answer = partners.get("/", bearer("unknown"))
    assert problem(answer) == INVALID
    assert b"The access token is not valid." in answer.body
    assert partners.origin.requests == []


@pytest.mark.parametrize("token", ["", "a b", "a\tb", "tök", "a,b", 'a"b', "=a", "a=b", "x" * 8_193, "a;b", "<script>"])
def test_what_is_no_b64token_is_refused_and_nobody_is_asked(partners, token):
    """RFC 6750 section 2.1: b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="."""
    assert problem(partners.get("/", bearer(token))) == INVALID
    assert partners.tokens.asked == []


@pytest.mark.parametrize("token", ["a-._~+/Z9==", "x" * 8_192, "a.b", "a.b.c.d"])
def test_what_is_one_is_asked_about(partners, token):
    partners.get("/", bearer(token))
    assert partners.tokens.asked == [(TENANT, "issuer-1", token.encode())]


def test_where_nobody_can_be_asked_nobody_is():
    for stage in (a_stage(), a_stage(issuers=[an_issuer(kind="jwt", jwks_uri="https://id.example.com/jwks")])):
        answer = stage.get("/", bearer())
        assert problem(answer) == INVALID
        assert answer.exchange.error.internal == "an opaque token, and no issuer to ask about it"
        assert stage.tokens.asked == []


@pytest.mark.parametrize("auth", ["jwt_required", "apikey_required"])
def test_a_route_that_takes_other_kinds_asks_nobody(auth):
    stage = a_stage(auth, issuers=[an_issuer()], services=[a_machine()])
    for token in (OURS, CLERKS, MACHINES):
        assert problem(stage.get("/", bearer(token))) == INVALID
    assert stage.tokens.asked == []


def test_an_authority_that_cannot_be_asked_is_503_and_never_401(partners, machines):
    partners.tokens.away = machines.tokens.away = True
    for stage, token in ((partners, OURS), (partners, CLERKS), (machines, MACHINES)):
        assert problem(stage.get("/", bearer(token)))[:2] == (503, "identity-unavailable")


def test_the_time_is_checked_on_every_use_whatever_is_remembered(partners):
    says(partners, expires_at=NOW + 10, not_before=NOW + 5)
    assert partners.get("/", bearer()).status == 200, "a beginning may be 5 s off"
    partners.clock.passes(9.9)
    assert partners.get("/", bearer()).status == 200
    partners.clock.passes(0.1)
    assert problem(partners.get("/", bearer())) == INVALID, "an end is an end"
    partners.clock.passes(-10.1)
    assert problem(partners.get("/", bearer())) == INVALID


def test_the_issuers_required_scopes_are_403_and_named():
    stage = a_stage(issuers=[an_issuer(required_scopes=("api", "read"))])
    stage.tokens.words[TENANT, "issuer-1", OURS.encode()] = TokenStatus("carol", ("read",))
    assert problem(stage.get("/", bearer())) == (
        403, "scope-insufficient", 'Bearer realm="demo", error="insufficient_scope", scope="api read"',
    )  # fmt: skip
    says(stage, scopes=("read", "api"))
    assert stage.get("/", bearer()).status == 200


def test_the_routes_required_scopes_are_those_of_the_token():
    stage = a_stage(issuers=[an_issuer()], required_scopes=("posts:write",))
    stage.tokens.words[TENANT, "issuer-1", OURS.encode()] = TokenStatus("carol", ("read",))
    assert stage.get("/", bearer()).status == 403
    says(stage, scopes=("posts:write",))
    assert stage.get("/", bearer()).status == 200


def test_a_route_that_names_its_issuer_asks_that_one_about_whatever_is_opaque():
    stage = a_stage(issuers=[an_issuer(), an_issuer("issuer-2")], access=AccessConfig(issuers=("issuer-2",)))
    for token in (OURS, CLERKS):
        stage.get("/", bearer(token))
    assert stage.tokens.asked == [(TENANT, "issuer-2", OURS.encode()), (TENANT, "issuer-2", CLERKS.encode())]


def again(stage, first):
    """The principal of a request equal to the first one."""
    return stage.serve(Exchange(first.exchange.head, None, "192.0.2.7", b"http", b"id", NOW, 0.0)).exchange.principal


def test_the_same_word_gives_the_very_same_principal_and_another_word_a_new_one(partners):
    first = partners.get("/", bearer())
    assert again(partners, first) is first.exchange.principal
    says(partners)
    assert again(partners, first) is not first.exchange.principal


# --- Clerk's access tokens ------------------------------------------------------------------------------------------


def clerk_says(stage, **status):
    stage.tokens.words[TENANT, "clerk_access", CLERKS.encode()] = TokenStatus(
        "user_alice", ("email",), "app_1", **status
    )


def test_clerks_token_of_the_tenants_organisation_is_believed(partners):
    clerk_says(partners, org_id="org_demo")
    who = partners.get("/", bearer(CLERKS)).exchange.principal
    assert (who.kind, who.subject, who.scopes, who.client_id, who.issuer, who.org_id) == (
        "oauth", "user_alice", ("email",), "app_1", ISSUER, "org_demo",
    )  # fmt: skip
    assert partners.tokens.asked == [(TENANT, "clerk_access", CLERKS.encode())]


@pytest.mark.parametrize("org_id", [None, "org_charlie", "org_demo "])
def test_clerks_token_of_another_organisation_or_of_none_gets_the_answer_of_an_unknown_one(org_id):
    stage = a_stage()
    unknown = stage.get("/", bearer(CLERKS))
    clerk_says(stage, org_id=org_id)
    stranger = stage.get("/", bearer(CLERKS))
    assert problem(stranger) == problem(unknown) == INVALID
    assert stranger.body.replace(stranger.exchange.request_id, b"") == unknown.body.replace(
        unknown.exchange.request_id, b""
    )


def test_a_route_for_any_user_takes_it():
    stage = a_stage(any_user=True)
    clerk_says(stage)
    assert stage.get("/", bearer(CLERKS)).status == 200
    clerk_says(stage, org_id="org_charlie", refusal="revoked, says Clerk")
    assert problem(stage.get("/", bearer(CLERKS))) == INVALID, "but not a refused one"


# --- Machines -------------------------------------------------------------------------------------------------------


def test_a_machine_of_the_tenant_is_believed_with_the_scopes_of_its_service(machines):
    who = machines.get("/", bearer(MACHINES)).exchange.principal
    assert (who.kind, who.subject, who.scopes, who.issuer) == ("service", "mch_1", ("bill",), ISSUER)


def test_a_machine_is_one_principal_whichever_of_its_tokens_it_shows(machines):
    first = machines.get("/", bearer(MACHINES))
    says(machines)
    assert again(machines, first) is first.exchange.principal


def test_where_the_gateway_is_a_machine_itself_a_token_must_be_meant_for_it(machines):
    machines.sessions.expectation = dataclasses.replace(machines.sessions.expectation, machine_id="mch_us")
    assert problem(machines.get("/", bearer(MACHINES))) == INVALID
    says(machines, scopes=("mch_gateway", "mch_us"))
    assert machines.get("/", bearer(MACHINES)).status == 200


@pytest.mark.parametrize(
    "service", [{"key_id": "mch_2"}, {"expires_at": NOW}, {"addresses": ("198.51.100.0/24",)}], ids=str
)
def test_whatever_is_wrong_with_a_machine_the_answer_is_that_of_an_unknown_one(service):
    stage = a_stage("service_required", services=[a_machine(**service)])
    unknown = stage.get("/", bearer(MACHINES))
    stage.tokens.words[TENANT, "clerk_machine", MACHINES.encode()] = TokenStatus("mch_1")
    wrong = stage.get("/", bearer(MACHINES))
    assert problem(wrong) == problem(unknown) == INVALID
    assert wrong.body.replace(wrong.exchange.request_id, b"") == unknown.body.replace(unknown.exchange.request_id, b"")


def test_a_machine_may_call_until_its_service_ends_and_from_its_networks():
    stage = a_stage("service_required", services=[a_machine(expires_at=NOW + 1, addresses=("192.0.2.0/24",))])
    stage.tokens.words[TENANT, "clerk_machine", MACHINES.encode()] = TokenStatus("mch_1")
    assert stage.get("/", bearer(MACHINES)).status == 200
    assert stage.get("/", bearer(MACHINES), client_ip="198.51.100.7").status == 401
    stage.clock.passes(1)
    assert problem(stage.get("/", bearer(MACHINES))) == INVALID


def test_a_tenant_without_machines_does_not_ask_clerk_about_one():
    stage = a_stage("service_required", services=[a_machine(kind="hmac")])
    assert problem(stage.get("/", bearer(MACHINES))) == INVALID
    assert stage.tokens.asked == []


def test_what_clerk_calls_scopes_of_a_machines_token_opens_nothing():
    stage = a_stage("service_required", services=[a_machine(scopes=())], required_scopes=("mch_gateway",))
    stage.tokens.words[TENANT, "clerk_machine", MACHINES.encode()] = TokenStatus("mch_1", ("mch_gateway",))
    assert stage.get("/", bearer(MACHINES)).status == 403


def test_a_machines_token_does_not_open_a_route_for_access_tokens_nor_the_other_way(machines):
    stage = a_stage(issuers=[an_issuer()], services=[a_machine()])
    assert problem(stage.get("/", bearer(MACHINES))) == INVALID
    assert problem(machines.get("/", bearer(OURS))) == INVALID
    assert problem(machines.get("/", bearer(CLERKS))) == INVALID
    assert stage.tokens.asked == machines.tokens.asked == []


# --- Tenants --------------------------------------------------------------------------------------------------------


def test_a_token_believed_at_one_tenant_is_asked_about_anew_at_another(partners):
    other = a_snapshot(a_route("/*", "oauth_required"), id=OTHER_TENANT, subdomain="other")
    partners.publish(msgspec.structs.replace(other, issuers=(an_issuer(),)), "other.example.com")
    assert partners.get("/", bearer()).status == 200
    assert partners.get("/", bearer(), host="other.example.com").status == 401
    assert [asked[0] for asked in partners.tokens.asked] == [TENANT, OTHER_TENANT]
