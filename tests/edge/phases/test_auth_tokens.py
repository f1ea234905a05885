"""Signed tokens of every kind (edge.phases.auth): the good are believed, each bad one of the matrix is not."""

import dataclasses

import msgspec
import pytest

from contracts import keysets
from contracts.clerk import Expectation
from contracts.snapshot import AccessConfig, IssuerConfig, ServiceConfig
from edge.phases.auth import authenticator, credential, instance, tokens
from edge.phases.auth.beliefs import BELIEFS_MAX, Belief, Beliefs
from edge.pipeline import Pipeline
from edge.ports import Ports
from tests import forging
from tests.edge.fakes import NOW, OTHER_TENANT, TENANT, Stage, a_bucket, a_cache, a_key_record, a_route, a_snapshot
from tests.edge.phases.test_auth import OUR_KEY
from tests.forging import AUDIENCE, CLERK, GONE, MACHINE, MINTS, ORG, OUR_MACHINE, PARTY

PATHS = {"session": "/me", "user_token": "/me", "access_token": "/oauth", "machine_token": "/svc"}
ALL = AccessConfig(accept=("jwt", "apikey", "oauth", "service"))
ROUTES = (
    a_route("/me", "jwt_required"), a_route("/oauth", "oauth_required"), a_route("/svc", "service_required"),
    a_route("/any", "any", access=ALL), a_route("/key", "apikey_required"),
)  # fmt: skip
OWN_MINTS = {name: mint for name, mint in MINTS.items() if mint.said(NOW)["iss"] != CLERK}
CHALLENGE = 'Bearer realm="demo", error="invalid_token"'


def an_issuer(name, **fields):
    mint = MINTS[name]
    fields = {
        "id": name, "name": name, "kind": "jwt" if mint.kind == "user_token" else "oauth",
        "issuer": mint.said(NOW)["iss"], "audience": (AUDIENCE,), "algorithms": (mint.algorithm,),
        "jwks_uri": f"https://login.alice.example/{name}.json", **fields,
    }  # fmt: skip
    return IssuerConfig(**fields)


def a_machine(**fields):
    return ServiceConfig(**{
        "id": "svc-1", "name": "caller", "kind": "clerk_machine", "key_id": MACHINE, "scopes": ("jobs:run",), **fields,
    })  # fmt: skip


def the_snapshot(*routes, issuers=None, services=None, **tenant):
    issuers = tuple(an_issuer(name) for name in OWN_MINTS) if issuers is None else tuple(issuers)
    services = (a_machine(),) if services is None else tuple(services)
    snapshot = a_snapshot(*(routes or ROUTES), **tenant)
    return msgspec.structs.replace(snapshot, issuers=issuers, services=services)


def the_stage(*routes, **parts):
    stage = Stage()
    stage.sessions.expectation = Expectation(CLERK, (PARTY,), machine_id=OUR_MACHINE)
    stage.pipeline = fresh_pipeline(stage)
    stage.sessions.published = {"ins_1": forging.RSA.public_key()}
    stage.issuers.published = {name: the_keys(name) for name in OWN_MINTS}
    stage.publish(the_snapshot(*routes, **parts))
    return stage


def fresh_pipeline(stage):
    """After the settings changed: a worker reads them once."""
    return Pipeline(Ports(
        stage.clock, stage.identifiers, stage.config, stage.keys, stage.sessions, stage.counters, stage.cache,
        stage.health, stage.origin, stage.recorder, stage.issuers, stage.tokens, stage.signer, stage.secrets,
        stage.nonces,
    ))  # fmt: skip


def the_keys(name):
    mint = MINTS[name]
    document = forging.jwks(forging.jwk(mint.key, mint.kid), forging.jwk(forging.EVIL["ES256"], "another"))
    return keysets.parse_jwks(document, (mint.algorithm,))


@pytest.fixture
def stage():
    return the_stage()


@pytest.fixture(scope="module")
def crowd():
    """One stage for the whole matrix: what a bad token leaves behind must not help the next one."""
    return the_stage()


def bearer(token, scheme="Bearer"):
    return ("Authorization", f"{scheme} {token}")


def ask(stage, path, token, **more):
    return stage.get(path, bearer(token), **more)


def good(name, **changes):
    return MINTS[name].token(NOW, **changes)


def refused(answer):
    challenge = (answer["WWW-Authenticate"] or "").partition(", resource_metadata")[0]
    return (answer.status, answer.exchange.error.problem.slug, challenge) == (401, "credentials-invalid", CHALLENGE)


def because(answer):
    return answer.exchange.error.internal


# --- The good -------------------------------------------------------------------------------------------------------

PRINCIPALS = {
    "session": ("user", "user_alice", ("org:posts:read",), ORG, "org:admin", ("org:posts:read",), None, CLERK),
    "access-clerk": ("oauth", "user_alice", ("posts:read",), ORG, None, (), "app", CLERK),
    "machine": ("service", MACHINE, ("jobs:run",), None, None, (), None, CLERK),
    **{
        name: ("user", "bob", ("posts:read",), None, None, (), None, OWN_MINTS[name].said(NOW)["iss"])
        for name in OWN_MINTS
        if name.startswith("user")
    },
    "access-own": ("oauth", "bob", ("posts:read",), None, None, (), "app", MINTS["access-own"].said(NOW)["iss"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MINTS)
def test_a_good_token_is_believed_says_who_calls_and_stays_here(stage, name):
    for path in (PATHS[MINTS[name].kind], "/any"):
        answer = ask(stage, path, good(name))
        assert answer.status == 200, because(answer)
        who = answer.exchange.principal
        assert dataclasses.astuple(who)[:8] == PRINCIPALS[name]
        assert (who.policies, who.notice) == ((), b""), "these are of API keys alone"
        assert "Authorization" not in stage.origin.heads[-1]


@pytest.mark.parametrize("name", MINTS)
def test_a_good_token_opens_no_route_that_takes_another_kind(stage, name):
    for path in {"/me", "/oauth", "/svc", "/key"} - {PATHS[MINTS[name].kind]}:
        assert refused(ask(stage, path, good(name))), path
    assert stage.origin.requests == []


# --- The matrix -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "attack", "make"), forging.matrix(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_attack_on_each_kind_of_token_gets_the_one_answer(crowd, name, attack, make):
    token = make(MINTS[name], NOW)
    assert token != good(name), "an attack that changes nothing shows nothing"
    for path in (PATHS[MINTS[name].kind], "/any"):
        answer = ask(crowd, path, token)
        assert refused(answer), (answer.status, because(answer))
        assert token not in because(answer)
    assert crowd.origin.requests == []


def test_after_the_whole_matrix_the_good_are_still_believed(crowd):
    for name, mint in MINTS.items():
        assert ask(crowd, PATHS[mint.kind], good(name)).status == 200, name


@pytest.mark.parametrize("name", OWN_MINTS)
def test_one_changed_letter_anywhere_makes_a_token_nobodys(crowd, name):
    token = good(name)
    for place in range(0, len(token), 7):
        for letter in "Aa0_":
            if token[place] != letter:
                assert refused(ask(crowd, PATHS[MINTS[name].kind], token[:place] + letter + token[place + 1 :])), place


def test_two_credentials_or_one_twice_are_400_whatever_they_are(stage):
    token = bearer(good("user-ES256"))
    for fields in ((token, token), (token, ("X-API-Key", "k")), (bearer(good("session"), "DPoP"), ("X-API-Key", "k"))):
        answer = stage.get("/any", *fields)
        assert (answer.status, answer.exchange.error.problem.slug) == (400, "credentials-ambiguous")


def test_a_dpop_token_is_refused_and_never_taken_for_a_bearer_token(stage):
    """RFC 9449 section 7.2: a resource server that does not know DPoP must not take a bound token as a bearer one."""
    answer = stage.get("/oauth", bearer(good("access-clerk"), "DPoP"))
    assert refused(answer)
    assert because(answer) == "DPoP is not taken"


def test_a_key_of_ours_is_no_dpop_token_either(stage):
    answer = stage.get("/any", bearer(OUR_KEY, "DPoP"))
    assert refused(answer)
    assert because(answer) == "DPoP is not taken"
    assert not stage.keys.asked


@pytest.mark.parametrize("token", ["mt_secret", "oat_secret", "opaque", "ya29.a0Af_x-y", "tok=="])
@pytest.mark.parametrize("path", ["/me", "/oauth", "/svc", "/any"])
def test_an_opaque_token_is_not_believed_where_nobody_can_ask_about_it(stage, path, token):
    assert refused(ask(stage, path, token))


# --- Remembering ----------------------------------------------------------------------------------------------------


def forbid_verifying(monkeypatch):
    monkeypatch.setattr(instance, "take_apart", None)
    monkeypatch.setattr(tokens.tokens, "verify", None)


@pytest.mark.parametrize("name", MINTS)
def test_a_believed_token_is_not_verified_again_until_its_very_end(stage, monkeypatch, name):
    path, token = PATHS[MINTS[name].kind], good(name)
    first = ask(stage, path, token)
    with monkeypatch.context() as patched:
        forbid_verifying(patched)
        stage.clock.now = MINTS[name].said(NOW)["exp"] + 4.9
        again = ask(stage, path, token)
        assert (first.status, again.status) == (200, 200)
        assert again.exchange.principal is first.exchange.principal
    stage.clock.passes(0.1)
    assert refused(ask(stage, path, token))
    stage.clock.now = NOW - 3_600
    assert refused(ask(stage, path, token)), "a clock that steps back believes nothing of the future"


@pytest.mark.parametrize("name", OWN_MINTS)
def test_a_key_that_its_issuer_withdrew_believes_nobody_any_more(stage, name):
    path, token = PATHS[MINTS[name].kind], good(name)
    assert ask(stage, path, token).status == 200
    other = forging.jwk(forging.EVIL[MINTS[name].algorithm], "key-2")
    stage.issuers.published[name] = keysets.parse_jwks(forging.jwks(other), (MINTS[name].algorithm,))
    assert refused(ask(stage, path, token))


@pytest.mark.parametrize("name", ["access-clerk", "machine"])
def test_a_key_that_clerk_withdrew_believes_nobody_any_more(stage, name):
    path, token = PATHS[MINTS[name].kind], good(name)
    assert ask(stage, path, token).status == 200
    stage.sessions.published = {"ins_2": forging.EVIL["RS256"].public_key()}
    assert refused(ask(stage, path, token))


@pytest.mark.parametrize("name", OWN_MINTS)
def test_an_unknown_key_and_a_key_rotated_under_its_name_are_worth_one_refresh(stage, name):
    path, mint = PATHS[MINTS[name].kind], MINTS[name]
    for kid in (mint.kid, "key-2"):
        rotated = dataclasses.replace(mint, key=forging.EVIL[mint.algorithm], kid=kid)
        assert refused(ask(stage, path, rotated.token(NOW)))
        document = forging.jwks(forging.jwk(rotated.key, kid))
        stage.issuers.after_refresh[name] = keysets.parse_jwks(document, (mint.algorithm,))
        assert ask(stage, path, rotated.token(NOW)).status == 200
    assert stage.issuers.refreshes == 4


@pytest.mark.parametrize("name", OWN_MINTS)
def test_what_was_believed_under_another_configuration_is_judged_anew(stage, name):
    path, token = PATHS[MINTS[name].kind], good(name)
    assert ask(stage, path, token).status == 200
    changed = [an_issuer(other, **({"audience": ("else",)} if other == name else {})) for other in OWN_MINTS]
    stage.publish(the_snapshot(issuers=changed))
    assert refused(ask(stage, path, token))
    stage.publish(the_snapshot(issuers=[issuer for issuer in changed if issuer.id != name]))
    assert refused(ask(stage, path, token))
    stage.publish(the_snapshot())
    assert ask(stage, path, token).status == 200


@pytest.mark.parametrize("name", MINTS)
def test_a_token_that_comes_with_other_fields_each_time_is_read_once(stage, monkeypatch, name):
    path, token = PATHS[MINTS[name].kind], bearer(good(name))
    assert stage.get(path, token).status == 200
    with monkeypatch.context() as patched:
        patched.setattr(credential.tokens, "take_apart", None)
        for number in range(3):
            assert stage.get(path, token, ("Traceparent", f"00-{number}")).status == 200


def test_what_is_remembered_of_tokens_that_were_read_is_bounded(stage, monkeypatch):
    monkeypatch.setattr(authenticator, "SEEN_MAX", 4)
    stage.pipeline = fresh_pipeline(stage)
    for number in range(20):
        assert ask(stage, "/me", good("user-EdDSA", jti=str(number))).status == 200
        assert refused(ask(stage, "/me", f"bad{number}"))
        assert len(stage.pipeline._authenticator._seen) <= 8


def test_beliefs_are_bounded_and_start_over():
    beliefs = Beliefs()
    belief = Belief(None, None, b"", 0.0, 1.0)
    for number in range(BELIEFS_MAX):
        beliefs.keep("t", b"%d" % number, belief)
    assert len(beliefs) == BELIEFS_MAX
    beliefs.keep("t", b"one more", belief)
    assert (len(beliefs), repr(beliefs)) == (1, "<Beliefs 1>")
    assert beliefs.get("other", b"one more") is None, "another tenant's is not found"


# --- Across tenants -------------------------------------------------------------------------------------------------


def charlies(stage, **parts):
    snapshot = the_snapshot(id=OTHER_TENANT, subdomain="other", clerk_org_id="org_charlie", **parts)
    stage.publish(snapshot, "other.example.com")


@pytest.mark.parametrize("name", MINTS)
def test_a_token_good_at_one_tenant_is_nobodys_at_another(stage, name):
    charlies(stage, issuers=(), services=())
    path, token = PATHS[MINTS[name].kind], good(name)
    assert ask(stage, path, token).status == 200
    stranger, broken = (
        ask(stage, path, text, host="other.example.com") for text in (token, "eyJhbGciOiJub25lIn0.e30.")
    )
    assert (stranger.status, stranger["WWW-Authenticate"]) == (401, broken["WWW-Authenticate"])
    assert without_id(stranger) == without_id(broken)


def without_id(answer):
    return answer.body.replace(answer.exchange.request_id, b"")


@pytest.mark.parametrize("name", OWN_MINTS)
def test_two_tenants_with_one_issuer_share_neither_keys_nor_beliefs(stage, name):
    mint, path = MINTS[name], PATHS[MINTS[name].kind]
    charlies(stage, issuers=[an_issuer(name, id="charlies-own")])
    theirs = forging.jwk(forging.EVIL[mint.algorithm], mint.kid)
    stage.issuers.published["charlies-own"] = keysets.parse_jwks(forging.jwks(theirs), (mint.algorithm,))
    ours, evil = good(name), dataclasses.replace(mint, key=forging.EVIL[mint.algorithm]).token(NOW)
    for token, statuses in ((ours, (200, 401)), (evil, (401, 200))):
        for _ in range(2):
            assert (
                ask(stage, path, token).status,
                ask(stage, path, token, host="other.example.com").status,
            ) == statuses


@pytest.mark.parametrize("name", ["session", "access-clerk"])
def test_a_route_for_any_user_takes_other_organisations_of_the_instance(stage, name):
    stage.publish(
        the_snapshot(
            *(
                a_route(path, mode, any_user=True)
                for path, mode in (("/me", "jwt_required"), ("/oauth", "oauth_required"))
            )
        )
    )
    stranger = {"o": {"id": "org_charlie"}} if name == "session" else {"org_id": "org_charlie"}
    assert ask(stage, PATHS[MINTS[name].kind], good(name, **stranger)).status == 200


# --- Issuers --------------------------------------------------------------------------------------------------------


def test_a_route_that_names_issuers_takes_those_and_not_clerk(stage):
    named = AccessConfig(issuers=("user-ES256", "access-own"))
    stage.publish(the_snapshot(
        a_route("/me", "jwt_required", access=named), a_route("/oauth", "oauth_required", access=named)
    ))  # fmt: skip
    for name, mint in MINTS.items():
        if mint.kind != "machine_token":
            answer = ask(stage, PATHS[mint.kind], good(name))
            assert (answer.status == 200) is (name in named.issuers), name


def test_an_issuer_with_pinned_keys_needs_nobody_and_never_asks(stage):
    pem = forging.pem(forging.EC).decode() + forging.pem(forging.EVIL["ES256"]).decode()
    stage.publish(the_snapshot(issuers=[an_issuer("user-ES256", jwks_uri=None, public_keys=pem)]))
    stage.issuers.published = {}
    mint = MINTS["user-ES256"]
    assert ask(stage, "/me", mint.token(NOW, {"kid": GONE})).status == 200
    assert ask(stage, "/me", dataclasses.replace(mint, key=forging.EVIL["ES256"]).token(NOW)).status == 200
    stranger = dataclasses.replace(mint, key=forging.ec.generate_private_key(forging.ec.SECP256R1()))
    assert refused(ask(stage, "/me", stranger.token(NOW)))
    assert stage.issuers.refreshes == 0


def test_a_token_without_kid_is_believed_by_the_only_key_there_is(stage):
    mint = MINTS["user-EdDSA"]
    stage.issuers.published["user-EdDSA"] = keysets.parse_jwks(forging.jwks(forging.jwk(mint.key, None)), ("EdDSA",))
    assert ask(stage, "/me", mint.token(NOW, {"kid": GONE})).status == 200
    two = forging.jwks(forging.jwk(mint.key, "a"), forging.jwk(forging.EVIL["EdDSA"], "b"))
    stage.issuers.published["user-EdDSA"] = keysets.parse_jwks(two, ("EdDSA",))
    assert refused(ask(stage, "/me", mint.token(NOW, {"kid": GONE})))


@pytest.mark.parametrize("name", OWN_MINTS)
def test_an_issuer_that_cannot_be_asked_is_503_and_not_the_tokens_fault(stage, name):
    del stage.issuers.published[name]
    answer = ask(stage, PATHS[MINTS[name].kind], good(name))
    assert (answer.status, answer.exchange.error.problem.slug) == (503, "identity-unavailable")


@pytest.mark.parametrize("name", ["user-RS256", "access-own"])
def test_what_an_issuer_demands_of_all_its_tokens_is_403_where_it_lacks(stage, name):
    stage.publish(the_snapshot(issuers=[an_issuer(name, required_scopes=("posts:read", "api"))]))
    path = PATHS[MINTS[name].kind]
    lacking = ask(stage, path, good(name))
    assert lacking.status == 403
    assert 'error="insufficient_scope", scope="posts:read api"' in lacking["WWW-Authenticate"]
    assert ask(stage, path, good(name, scope="posts:read api")).status == 200


def test_an_access_token_of_clerk_that_names_an_audience_must_name_ours(stage):
    assert refused(ask(stage, "/oauth", good("access-clerk", aud=AUDIENCE)))
    stage.sessions.expectation = Expectation(CLERK, (PARTY,), oauth_audiences=(AUDIENCE,))
    stage.pipeline = fresh_pipeline(stage)
    assert ask(stage, "/oauth", good("access-clerk", aud=AUDIENCE)).status == 200
    assert ask(stage, "/oauth", good("access-clerk")).status == 200
    assert refused(ask(stage, "/oauth", good("access-clerk", aud=["https://other.example"])))


# --- Machines -------------------------------------------------------------------------------------------------------


def test_a_machine_token_is_not_believed_by_a_gateway_that_is_no_machine_itself(stage):
    stage.sessions.expectation = Expectation(CLERK, (PARTY,))
    stage.pipeline = fresh_pipeline(stage)
    for claims in ({}, {"aud": "", "scopes": ""}, {"aud": ["", "mch_"]}):
        assert refused(ask(stage, "/svc", good("machine", **claims)))


@pytest.mark.parametrize(
    "claims", [{"aud": OUR_MACHINE, "scopes": GONE}, {"aud": GONE, "scopes": f"mch_x {OUR_MACHINE}"}]
)
def test_our_machine_is_named_by_aud_or_by_clerks_scopes(stage, claims):
    assert ask(stage, "/svc", good("machine", **claims)).status == 200


def test_a_machine_without_a_category_is_one_by_its_subject(stage):
    mint = dataclasses.replace(MINTS["machine"], header={})
    assert ask(stage, "/svc", mint.token(NOW)).status == 200


def test_a_machine_that_the_tenant_let_go_is_out_at_once_though_its_token_lives(stage):
    token = good("machine")
    assert ask(stage, "/svc", token).status == 200
    stage.publish(the_snapshot(services=[a_machine(expires_at=NOW + 10)]))
    assert ask(stage, "/svc", token).status == 200
    stage.clock.passes(10)
    assert refused(ask(stage, "/svc", token))
    stage.publish(the_snapshot(services=()))
    assert refused(ask(stage, "/svc", token))


def test_a_machine_may_do_what_the_tenants_list_says(stage):
    stage.publish(the_snapshot(a_route("/svc", "service_required", required_scopes=("jobs:run",))))
    assert ask(stage, "/svc", good("machine")).status == 200
    stage.publish(the_snapshot(a_route("/svc", "service_required", required_scopes=(OUR_MACHINE,))))
    assert ask(stage, "/svc", good("machine")).status == 403


def test_a_machine_calls_from_where_it_may(stage):
    stage.publish(the_snapshot(services=[a_machine(addresses=("192.0.2.0/24", "2001:db8::/32"))]))
    token = good("machine")
    for client_ip, may in (
        ("192.0.2.9", True), ("::ffff:192.0.2.9", True), ("198.51.100.1", False), ("2001:db8::1%eth0", True),
        ("::1", False),
    ):  # fmt: skip
        assert (ask(stage, "/svc", token, client_ip=client_ip).status == 200) is may, client_ip


# --- Roles and permissions ------------------------------------------------------------------------------------------


def demanding(**access):
    return the_snapshot(a_route("/me", "jwt_required", access=AccessConfig(**access)))


@pytest.mark.parametrize(
    ("access", "status"),
    [
        ({"required_roles": ("org:admin",)}, 200),
        ({"required_roles": ("org:member", "org:admin")}, 200),
        ({"required_roles": ("org:member",)}, 403),
        ({"required_roles": ("admin",)}, 403),
        ({"required_permissions": ("org:posts:read",)}, 200),
        ({"required_permissions": ("org:posts:read", "org:posts:manage")}, 403),
        ({"required_roles": ("org:admin",), "required_permissions": ("org:teams:read",)}, 403),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_one_of_the_roles_and_all_of_the_permissions_are_needed(stage, access, status, version):
    stage.publish(demanding(**access))
    first = {"org_id": ORG, "org_role": "org:admin", "org_permissions": ["org:posts:read"]}
    claims = {} if version == 2 else {"v": GONE, "o": GONE, "fea": GONE, **first}
    answer = ask(stage, "/me", good("session", **claims))
    assert answer.status == status
    if status == 403:
        assert answer["WWW-Authenticate"] == 'Bearer realm="demo", error="insufficient_scope"'
        assert answer.exchange.error.problem.slug == "scope-insufficient"
        for word in ("org:posts:manage", "org:member", "org:teams:read"):
            assert word.encode() not in answer.body, "what a route asks for is not told"


def test_who_has_no_role_has_none_of_the_roles(stage):
    stage.publish(demanding(required_roles=("org:admin",)))
    assert ask(stage, "/me", good("user-RS256")).status == 403
    stage.publish(the_snapshot(a_route("/key", "apikey_required", access=AccessConfig(required_roles=("org:admin",)))))
    stage.keys.records[TENANT, b"k-1"] = a_key_record()
    assert stage.get("/key", ("X-API-Key", "k-1")).status == 403


# --- Two issuers, one name ------------------------------------------------------------------------------------------


def test_two_people_of_one_name_at_two_issuers_share_no_counter_and_no_stored_answer(stage):
    stage.publish(the_snapshot(a_route("/me", "jwt_required", policies=(a_bucket(burst=1, scope=("user",)),))))
    bobs = [good("user-RS256"), good("user-ES256")]
    assert [ask(stage, "/me", token).status for token in (*bobs, *bobs)] == [200, 200, 429, 429]
    stage.publish(the_snapshot(a_route("/me", "jwt_required", cache=a_cache())))
    assert [ask(stage, "/me", token)["X-Cache"] for token in (*bobs, *bobs)] == ["MISS", "MISS", "HIT", "HIT"]
