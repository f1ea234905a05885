"""What would happen to a request, and why (edge.explain)."""

import msgspec
import pytest

from contracts.clerk import Expectation
from contracts.snapshot import AccessConfig, AddressRules, CorsConfig
from edge.errors import GatewayError
from edge.explain import Described, Identities, _Announced, _Stage, explain
from edge.http.parser import Memo
from edge.phases.auth.credential import classify
from edge.phases.ratelimit import quota
from edge.ports import TokenStatus
from edge.snapshot import compile_snapshot
from tests.edge.fakes import (
    ISSUER,
    NOW,
    PARTY,
    a_bucket,
    a_cache,
    a_concurrency,
    a_key_record,
    a_route,
    a_section,
    a_snapshot,
    an_origin,
    with_keys,
)
from tests.edge.phases.test_auth import DEMO_KEY, KEY, a_token
from tests.edge.phases.test_auth_tokens import the_keys, the_snapshot
from tests.edge.test_introspection import an_issuer
from tests.forging import CLERK, MINTS, RSA
from tests.forging import PARTY as PARTY_OF_MINTS

SNAPSHOT = a_snapshot(
    a_route("/k/{id}", "apikey_required", policies=(a_bucket(),), cache=a_cache()),
    a_route("/k/*", methods=("POST",)),
    a_route("/*", body_bytes_max=10),
    a_route("/me", "jwt_required"),
)
IDENTITIES = Identities({DEMO_KEY.encode(): a_key_record()})


def steps(explanation):
    return [(step.phase, step.decision) for step in explanation.steps]


def test_a_request_that_would_be_served_is_followed_to_the_origin():
    told = explain(SNAPSHOT, Described("GET", "/k/1?x=1", (("X-API-Key", DEMO_KEY),)), IDENTITIES)
    assert (told.status, told.problem) == (200, None)
    assert steps(told) == [
        ("identify", "found"), ("match", "chosen"), ("match", "other method"), ("match", "outranked"),
        ("authenticate", "believed"), ("admit", "counted"), ("lookup", "asked"), ("send", "would be sent"),
        ("store", "would be kept"), ("cache", "miss"),
    ]  # fmt: skip
    facts = {step.phase: step.facts for step in told.steps if step.decision not in ("other method", "outranked")}
    assert facts["match"]["captures"] == ("id=1",)
    assert facts["admit"]["quota"] == quota(a_bucket())
    assert facts["send"]["head"][0] == "GET /k/1?x=1 HTTP/1.1"


def test_a_refusal_says_why_in_the_words_of_the_log():
    told = explain(SNAPSHOT, Described("GET", "/k/1", (("X-API-Key", "unknown_key_1"),)), IDENTITIES)
    assert (told.status, told.problem) == (401, "credentials-invalid")
    assert steps(told)[-3:] == [
        ("authenticate", "refused"), ("attempts", "would be counted"), ("answer", "credentials-invalid"),
    ]  # fmt: skip
    assert told.steps[-1].facts["because"] == "unknown key"


def test_which_rule_of_addresses_it_was_is_said():
    rules = AddressRules(allow=("192.0.2.0/24",), deny=("192.0.2.7/32",))
    access = AccessConfig(addresses=AddressRules(deny=("192.0.2.8/32",)))
    snapshot = a_snapshot(a_route("/x", "apikey_required", access=access), addresses=rules)
    denied = explain(snapshot, Described("GET", "/x", client_ip="192.0.2.7"))
    assert steps(denied) == [("identify", "found"), ("address", "denied"), ("answer", "address-denied")]
    assert denied.steps[1].facts["because"] == "192.0.2.7/32 is denied"
    by_route = explain(snapshot, Described("GET", "/x", client_ip="192.0.2.8"))
    assert steps(by_route) == [
        ("identify", "found"), ("address", "allowed"), ("match", "chosen"), ("address", "denied"),
        ("answer", "address-denied"),
    ]  # fmt: skip
    assert by_route.steps[3].facts == {
        "rules_of": "route", "client_ip": "192.0.2.8", "because": "192.0.2.8/32 is denied",
    }  # fmt: skip
    let_in = explain(snapshot, Described("GET", "/x", client_ip="192.0.2.9"))
    assert steps(let_in)[3:] == [
        ("address", "allowed"), ("authenticate", "refused"), ("answer", "credentials-missing"),
    ]  # fmt: skip
    suspended = a_snapshot(a_route("/x"), status="suspended", addresses=rules)
    assert steps(explain(suspended, Described("GET", "/x"))) == [
        ("identify", "suspended"), ("answer", "tenant-suspended"),
    ]  # fmt: skip


def test_what_a_page_of_another_origin_is_told_is_said():
    access = AccessConfig(cors=CorsConfig(origins=("https://app.example",)))
    snapshot = a_snapshot(a_route("/x", "apikey_required", methods=("PUT",), access=access), a_route("/x"))
    asked = ("Access-Control-Request-Method", "PUT")
    told = explain(snapshot, Described("OPTIONS", "/x", (("Origin", "https://app.example"), asked)))
    assert (told.status, steps(told)) == (
        204,
        [
            ("identify", "found"), ("match", "chosen"), ("match", "outranked"), ("cors", "allowed"),
            ("authenticate", "not asked"), ("options", "answered here"),
        ],
    )  # fmt: skip
    assert told.steps[3].facts == {"origin": ("https://app.example",), "preflight_for": "PUT"}
    for fields, decision in (((), "no origin"), ((("Origin", "https://evil.example"),), "not allowed")):
        told = explain(snapshot, Described("PUT", "/x", fields))
        assert [step.decision for step in told.steps if step.phase == "cors"] == [decision]


def test_a_secret_is_never_repeated():
    snapshot = a_snapshot(a_route("/*"))
    fields = (("X-API-Key", "s3cret"), ("Authorization", "Bearer s3cret"), ("Cookie", "s3cret"))
    assert "s3cret" not in repr(explain(snapshot, Described("GET", "/", fields)))


def test_what_was_presented_is_in_no_repr():
    described = Described("GET", "/", (("X-API-Key", "s3cret"),))
    identities = Identities(keys={b"s3cret": a_key_record()}, tokens={b"s3cret": TokenStatus()})
    credential = classify(a_section(described.fields), "", Memo(1, 1))
    assert "s3cret" not in repr((described, identities, credential))
    assert "'key'" in repr(credential)


@pytest.mark.parametrize("auth", ["jwt_required", "service_required"])
def test_the_kind_that_was_presented_is_said_on_every_kind_of_route(auth):
    told = explain(a_snapshot(a_route("/*", auth)), Described("GET", "/", (("Authorization", "Bearer mt_x"),)))
    (step,) = [step for step in told.steps if step.phase == "authenticate"]
    assert (step.decision, step.facts["credential"]) == ("refused", "opaque_machine")


def test_a_session_is_judged_at_the_described_time():
    identities = Identities(session_keys={"ins_1": KEY.public_key()}, expectation=Expectation(ISSUER, (PARTY,)))
    fields = (("Authorization", f"Bearer {a_token()}"),)
    assert explain(SNAPSHOT, Described("GET", "/me", fields, at=NOW), identities).status == 200
    assert (
        explain(SNAPSHOT, Described("GET", "/me", fields, at=NOW + 3600), identities).problem == "credentials-invalid"
    )
    forged = (("Authorization", f"Bearer {a_token(kid='other')}"),)
    assert explain(SNAPSHOT, Described("GET", "/me", forged, at=NOW), identities).problem == "credentials-invalid"


def test_a_path_without_a_route_and_one_that_is_refused():
    snapshot = a_snapshot(a_route("/x"))
    assert steps(explain(snapshot, Described("GET", "/y"))) == [
        ("identify", "found"), ("match", "no route"), ("answer", "route-unknown"),
    ]  # fmt: skip
    assert steps(explain(snapshot, Described("GET", "/%00"))) == [("identify", "found"), ("answer", "path-invalid")]


def test_a_body_is_judged_by_its_length_alone():
    assert explain(SNAPSHOT, Described("POST", "/x", body_bytes=10)).status == 200
    assert explain(SNAPSHOT, Described("POST", "/x", body_bytes=11)).problem == "body-too-large"


def test_what_the_gateway_says_to_options_itself_is_shown_as_such():
    told = explain(SNAPSHOT, Described("OPTIONS", "*"))
    assert (told.status, steps(told)) == (
        204, [("identify", "found"), ("match", "not asked"), ("options", "answered here")],
    )  # fmt: skip
    told = explain(SNAPSHOT, Described("OPTIONS", "/k/1", (("Max-Forwards", "0"), ("X-API-Key", DEMO_KEY))), IDENTITIES)
    assert (told.status, steps(told)[-2:]) == (204, [("admit", "counted"), ("options", "answered here")])
    assert told.steps[-1].facts == {"says": "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}
    told = explain(SNAPSHOT, Described("OPTIONS", "/x"))
    assert steps(told)[-1] == ("send", "would be sent")


def test_fields_that_the_parser_lets_nobody_see_are_not_shown_as_sent():
    told = explain(SNAPSHOT, Described("GET", "/x", (("X_Api_Key", "k"), ("X-Other", "o"))))
    head = told.steps[-1].facts["head"]
    assert ("X-Other: o" in head, "X_Api_Key: k" in head) == (True, False)


def test_a_suspended_tenant_says_so():
    told = explain(a_snapshot(a_route("/x"), status="suspended"), Described("GET", "/x"))
    assert steps(told) == [("identify", "suspended"), ("answer", "tenant-suspended")]


def test_targets_of_a_draft_all_count_as_healthy():
    origin = an_origin("http://a.example.com", "http://b.example.com")
    told = explain(a_snapshot(a_route(), origins=[origin]), Described("GET", "/"))
    assert told.steps[-1].facts["target"] == "http://a.example.com"


def test_the_stage_is_whole_though_the_life_of_a_request_needs_little_of_it():
    stage = _Stage(compile_snapshot(SNAPSHOT), Described("GET", "/", at=NOW), IDENTITIES)
    assert (stage.wall(), len(stage.request_id())) == (NOW, 36)
    reply = stage.pipeline().refuse(GatewayError("request-malformed", "No request."), "192.0.2.1", stage.request_id())
    assert (reply.status, stage.steps) == (400, [])
    assert stage.take("tenant", "svc_1", "nonce"), "nothing is used up"
    body = _Announced(5)
    body.close()
    assert (body.length, body.read()) == (5, b"")


# --- Who calls ------------------------------------------------------------------------------------------------------


def told_of(snapshot, path, token=None, **identities):
    fields = () if token is None else (("Authorization", f"Bearer {token}"),)
    return explain(snapshot, Described("GET", path, fields, at=NOW), Identities(**identities))


def test_each_step_of_authentication_is_told():
    admins = AccessConfig(required_roles=("org:admin",), required_permissions=("p",))
    snapshot = the_snapshot(
        a_route("/me", "jwt_required", required_scopes=("posts:read",)),
        a_route("/admin", "jwt_required", access=admins),
    )
    mint = MINTS["user-EdDSA"]
    keys = {"issuer_keys": {"user-EdDSA": the_keys("user-EdDSA")}}
    told = told_of(snapshot, "/me", mint.good(NOW), **keys)
    authenticated, authorised = told.steps[2:4]
    issuer = mint.said(NOW)["iss"]
    assert (authenticated.phase, authenticated.decision) == ("authenticate", "believed")
    assert authenticated.facts == {
        "mode": "jwt_required", "credential": "user_token", "says_issuer": issuer, "kind": "user", "subject": "bob",
        "scopes": ("posts:read",), "issuer": issuer,
    }  # fmt: skip
    assert (authorised.phase, authorised.decision, authorised.facts) == (
        "authorise", "covered", {"scopes": ("posts:read",)},
    )  # fmt: skip
    refused = told_of(snapshot, "/admin", mint.good(NOW), **keys).steps[3]
    assert (refused.decision, refused.facts["because"]) == ("refused", "role None is none of org:admin")
    assert refused.facts["one_role_of"] == ("org:admin",)


def test_a_refused_token_is_told_by_its_kind_and_its_flaw_and_never_repeated():
    snapshot = the_snapshot(a_route("/me", "jwt_required"))
    mint = MINTS["user-EdDSA"]
    for token, kind, because in (
        (mint.token(NOW, aud="other"), "user_token", "issuer user-EdDSA: token-invalid-audience"),
        (mint.token(NOW, iss="https://nobody.example"), "user_token", "of an issuer that is not the tenant's"),
        (mint.token(NOW, {"crit": []}), "malformed", "token-invalid"),
        ("0paque-s3cret", "opaque_access", "an opaque access token is not what the route takes"),
    ):
        told = told_of(snapshot, "/me", token, issuer_keys={"user-EdDSA": the_keys("user-EdDSA")})
        step = told.steps[2]
        assert (told.status, step.decision, step.facts["credential"]) == (401, "refused", kind)
        assert step.facts["because"].startswith(because)
        assert token not in repr(told)


def test_a_session_says_its_role_and_permissions_and_an_issuers_keys_are_not_fetched():
    snapshot = the_snapshot()
    identities = {"session_keys": {"ins_1": RSA.public_key()}, "expectation": Expectation(CLERK, (PARTY_OF_MINTS,))}
    facts = told_of(snapshot, "/me", MINTS["session"].good(NOW), **identities).steps[2].facts
    assert (facts["org"], facts["role"], facts["permissions"]) == ("org_demo", "org:admin", ("org:posts:read",))
    told = told_of(snapshot, "/me", MINTS["user-RS256"].good(NOW), **identities)
    assert told.problem == "identity-unavailable"
    assert told.steps[2].facts["because"] == "the keys of issuer user-RS256 are not fetched here"
    unknown = MINTS["user-RS256"].token(NOW, {"kid": "other"})
    told = told_of(snapshot, "/me", unknown, issuer_keys={"user-RS256": the_keys("user-RS256")}, **identities)
    assert told.problem == "credentials-invalid"


def test_no_credential_is_told_as_such():
    step = told_of(the_snapshot(), "/me").steps[2]
    assert (step.decision, step.facts) == (
        "refused", {"mode": "jwt_required", "because": "This route needs a session token in Authorization: Bearer."},
    )  # fmt: skip


def test_about_an_opaque_token_nobody_is_asked_but_one_is_told_who_would_be():
    snapshot = msgspec.structs.replace(a_snapshot(a_route("/*", "oauth_required")), issuers=(an_issuer(),))
    fields = (("Authorization", "Bearer 3fe8b8a1"),)
    told = explain(snapshot, Described("GET", "/", fields))
    assert told.problem == "credentials-invalid"
    assert ("introspect", {"authority": "https://id.example.com"}) in [(step.phase, step.facts) for step in told.steps]
    assert told.steps[-1].facts["because"] == "nobody was asked: this is only a description"
    assert "3fe8b8a1" not in repr(told)
    known = Identities(tokens={b"3fe8b8a1": TokenStatus("carol"), b"oat_1": TokenStatus("user_1", org_id="org_demo")})
    assert explain(snapshot, Described("GET", "/", fields), known).status == 200
    told = explain(snapshot, Described("GET", "/", (("Authorization", "Bearer oat_1"),)), known)
    assert ("introspect", {"authority": "clerk_access"}) in [(step.phase, step.facts) for step in told.steps]


def test_a_route_with_an_identity_token_tells_the_claims_and_signs_nothing():
    snapshot = with_keys(a_route("/*", access=AccessConfig(identity_token=True)))
    told = explain(snapshot, Described("GET", "/", host="demo.example.com"))
    (step,) = [step for step in told.steps if step.phase == "identity"]
    assert (told.status, step.decision, step.facts["key"]) == (200, "would be signed", "kid-1")
    assert '"iss":"https://demo.example.com","aud":"origin-1"' in step.facts["claims"]
    assert "X-Vantage-Identity" not in repr(told.steps[-1].facts)


def test_a_document_of_the_gateways_own_is_asked_of_no_route():
    told = explain(with_keys(a_route("/*")), Described("GET", "/.well-known/jwks.json"))
    assert told.status == 200
    assert [(step.phase, step.decision) for step in told.steps] == [("identify", "found"), ("match", "not asked")]
    assert "itself" in told.steps[-1].facts["because"]


def test_limits_say_what_a_first_request_would_leave_and_places_are_not_taken():
    limits = a_concurrency(1), a_bucket(burst=5, cost=6)
    snapshot = a_snapshot(a_route("/one", policies=limits[:1]), a_route("/two", policies=limits))
    told = explain(snapshot, Described("GET", "/one"), IDENTITIES)
    assert told.status == 200
    assert ("admit", "counted") in steps(told)
    told = explain(snapshot, Described("GET", "/two"), IDENTITIES)
    assert (told.status, told.problem) == (429, "quota-exceeded"), "six of five never fit"
