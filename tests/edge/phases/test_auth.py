"""Who calls (edge.phases.auth). alice works at demo-company, charlie is a stranger with a tenant of his own."""

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from contracts import apikey
from edge.errors import GatewayError
from edge.phases.auth import beliefs, sessions
from tests.edge.fakes import (
    ISSUER,
    NOW,
    OTHER_TENANT,
    PARTY,
    TENANT,
    Stage,
    a_bucket,
    a_cache,
    a_key_record,
    a_route,
    a_snapshot,
)

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NEW_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
DEMO_KEY = "demo_key_abc123"
OUR_KEY = apikey.make_key("live", lambda below: 7 % below)


def a_token(key=KEY, kid="ins_1", **changes):
    claims = {
        "iss": ISSUER, "sub": "user_alice", "sid": "sess_alice", "iat": NOW - 5, "nbf": NOW - 15, "exp": NOW + 55,
        "azp": PARTY, "org_id": "org_demo", "org_role": "org:admin", "org_permissions": ["org:posts:read"], **changes,
    }  # fmt: skip
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid})


def bearer(token):
    return ("Authorization", f"Bearer {token}")


def with_key(key=DEMO_KEY):
    return ("X-API-Key", key)


@pytest.fixture
def keyed():
    stage = Stage(a_route("/*", "apikey_required"))
    stage.knows_key(DEMO_KEY)
    stage.knows_key(OUR_KEY, id="key-2")
    return stage


@pytest.fixture
def signed():
    stage = Stage(a_route("/*", "jwt_required"))
    stage.sessions.published = {"ins_1": KEY.public_key()}
    return stage


def problem(answer):
    return answer.status, answer.exchange.error.problem.slug, answer["WWW-Authenticate"]


MISSING = (401, "credentials-missing", 'Bearer realm="demo"')
INVALID = (401, "credentials-invalid", 'Bearer realm="demo", error="invalid_token"')


# --- Which credential -----------------------------------------------------------------------------------------------


def test_a_public_route_reads_no_credential_and_forwards_it_as_sent():
    stage = Stage(a_route("/*"))
    assert stage.get("/", bearer("for-the-origin"), with_key("for-the-origin-too")).status == 200
    assert "Authorization: Bearer for-the-origin\r\nX-API-Key: for-the-origin-too\r\n" in stage.origin.heads[0]
    assert stage.keys.asked == []
    assert "X-Vantage-Principal" not in stage.origin.heads[0]


@pytest.mark.parametrize("mode", ["apikey_required", "jwt_required"])
def test_no_credential_is_401_without_an_error_word(mode):
    """RFC 6750 section 3.1: if the request lacks any authentication information, no error code is included."""
    assert problem(Stage(a_route("/*", mode)).get("/")) == MISSING


def test_two_kinds_of_credential_at_once_are_400(keyed):
    answer = keyed.get("/", with_key(), bearer(a_token()))
    assert problem(answer)[:2] == (400, "credentials-ambiguous")


@pytest.mark.parametrize("field", [with_key(), bearer("abc")])
def test_a_credential_sent_twice_is_400(keyed, field):
    assert problem(keyed.get("/", field, field))[:2] == (400, "credentials-ambiguous")


def test_an_ambiguous_request_is_ambiguous_every_time(keyed):
    for _ in range(2):
        assert keyed.get("/", with_key(), with_key()).status == 400


def test_another_scheme_in_authorization_is_the_origins_business(keyed, signed):
    assert problem(signed.get("/", ("Authorization", "Basic YWxpY2U6eA=="))) == MISSING
    assert keyed.get("/", with_key(), ("Authorization", "Basic YWxpY2U6eA==")).status == 200
    assert "Authorization: Basic YWxpY2U6eA==" in keyed.origin.heads[0]


# --- API keys -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", [with_key(DEMO_KEY), with_key(OUR_KEY), bearer(OUR_KEY), ("Authorization", f"bearer {OUR_KEY}")]
)
def test_a_known_key_is_believed_and_never_reaches_the_origin(keyed, field):
    assert keyed.get("/", field).status == 200
    head = keyed.origin.heads[0]
    assert 'X-Vantage-Principal: {"v":1,"kind":"key","sub":"key-' in head
    assert DEMO_KEY not in head
    assert OUR_KEY not in head


def test_a_route_may_forward_the_credential():
    stage = Stage(a_route("/*", "apikey_required", forward_credential=True))
    stage.knows_key(DEMO_KEY)
    stage.get("/", with_key())
    assert f"X-API-Key: {DEMO_KEY}\r\n" in stage.origin.heads[0]


@pytest.mark.parametrize(
    "record", [None, {"enabled": False}, {"expires_at": NOW}, {"tenant_id": OTHER_TENANT}], ids=str
)
def test_whatever_is_wrong_with_a_key_the_answer_is_that_of_an_unknown_one(record):
    stage = Stage(a_route("/*", "apikey_required"))
    if record is not None:
        stage.keys.records[a_key_record().tenant_id, DEMO_KEY.encode()] = a_key_record(**record)
    answer = stage.get("/", with_key())
    assert problem(answer) == INVALID
    assert b"The API key is not valid." in answer.body
    assert stage.origin.requests == []


def test_a_key_that_expires_is_refused_to_the_second(keyed):
    keyed.knows_key(DEMO_KEY, expires_at=NOW + 10)
    assert keyed.get("/", with_key()).status == 200
    keyed.clock.passes(10)
    assert problem(keyed.get("/", with_key())) == INVALID


@pytest.mark.parametrize(
    ("addresses", "client_ip", "status"),
    [
        (("192.0.2.0/24",), "192.0.2.7", 200),
        (("192.0.2.0/24",), "192.0.3.0", 401),
        (("192.0.2.7/32",), "192.0.2.6", 401),
        (("192.0.2.0/24",), "::ffff:192.0.2.7", 200),
        (("::ffff:192.0.2.0/120",), "192.0.2.7", 200),
        (("2001:db8::/32",), "2001:db8::7", 200),
        (("2001:db8::/32",), "fe80::7%eth0", 401),
        (("::/0",), "192.0.2.7", 401),
        (("10.0.0.0/8", "192.0.2.7/32"), "192.0.2.7", 200),
        (("no network",), "192.0.2.7", 401),
        ((), "192.0.2.7", 200),
    ],
)
def test_a_key_may_be_used_from_its_networks_alone(keyed, addresses, client_ip, status):
    keyed.knows_key(DEMO_KEY, addresses=addresses)
    for _ in range(2):
        answer = keyed.get("/", with_key(), client_ip=client_ip)
        assert answer.status == status
    if status == 401:
        assert problem(answer) == INVALID
        assert answer.exchange.error.internal == f"key key-1 may not be used from {client_ip}"


def test_the_checks_of_a_key_have_an_order():
    stage = Stage(a_route("/*", "apikey_required", required_scopes=("admin",)))
    wrong = {"enabled": False, "expires_at": NOW, "addresses": ("10.0.0.0/8",), "scopes": ()}
    reasons = []
    for mended in ({}, {"enabled": True}, {"expires_at": None}, {"addresses": ()}, {"scopes": ("admin", "read")}):
        wrong |= mended
        stage.knows_key(DEMO_KEY, **wrong)
        answer = stage.get("/", with_key())
        reasons.append(answer.exchange.error and (answer.status, answer.exchange.error.internal))
    assert reasons == [
        (401, "key key-1 is disabled"), (401, "key key-1 expired"),
        (401, "key key-1 may not be used from 192.0.2.7"), (403, ""), None,
    ]  # fmt: skip


ROTATED = {"deprecated_at": NOW - 60.5, "expires_at": NOW + 86_400.25}


def test_every_answer_to_a_rotated_key_says_so_and_when_it_ends(keyed):
    """RFC 9745 section 2.1: "Deprecation: @1688169599". RFC 8594 section 3: Sunset = HTTP-date."""
    keyed.knows_key(DEMO_KEY, scopes=("read",), **ROTATED)
    for answer in (keyed.get("/", with_key()), keyed.get("/", with_key()), keyed.send("POST", "/", with_key())):
        assert answer["Deprecation"] == "@1799999939"
        assert answer["Sunset"] == "Sat, 16 Jan 2027 08:00:00 GMT"
    assert answer.status == 403
    keyed.origin.script = [GatewayError("origin-timeout", "late")]
    assert (keyed.get("/", with_key())["Deprecation"], answer["Sunset"]) == ("@1799999939", answer["Sunset"])


def test_what_is_said_of_a_key_takes_the_place_of_what_the_origin_says_of_itself(keyed):
    keyed.knows_key(DEMO_KEY, **ROTATED)
    keyed.origin.answers(200, b"", deprecation="@1", SUNSET="Thu, 01 Jan 1970 00:00:00 GMT", x_sunset="kept")
    answer = keyed.get("/", with_key())
    assert (answer["Deprecation"], answer["Sunset"]) == ("@1799999939", "Sat, 16 Jan 2027 08:00:00 GMT")
    assert answer["X-Sunset"] == "kept"
    answer = keyed.get("/", with_key(OUR_KEY))
    assert (answer["Deprecation"], answer["Sunset"]) == ("@1", "Thu, 01 Jan 1970 00:00:00 GMT")


def test_what_is_said_of_a_keys_own_limit_takes_the_place_of_what_the_origin_says_of_its():
    """On a route without policies an origin's RateLimit passes; with ours beside it a client would see two."""
    stage = Stage(a_route("/*", "apikey_required", cache=a_cache(shared=True)))
    stage.knows_key(DEMO_KEY, policies=(a_bucket(burst=5, id="own", name="own"),))
    stage.knows_key(OUR_KEY, id="key-2", policies=(a_bucket(id="own", name="own", mode="shadow"),))
    stage.origin.answers(200, b"", ratelimit='"o";r=1;t=1', X_RATELIMIT_LIMIT="7", X_RateLimit_Plan="kept")
    for key in (OUR_KEY, DEMO_KEY, OUR_KEY, DEMO_KEY):
        answer = stage.get("/", with_key(key))
        limited = key == DEMO_KEY
        assert answer["X-RateLimit-Limit"] == ("5" if limited else "7")
        assert answer["RateLimit"].startswith('"own";r=' if limited else '"o";r=1')
        assert (answer["RateLimit"].count(";r="), answer["X-RateLimit-Plan"]) == (1, "kept")
    assert answer["X-Cache"] == "HIT"


def test_a_stored_answer_carries_the_notice_of_who_asks_and_of_nobody_else():
    stage = Stage(a_route("/*", "apikey_required", cache=a_cache(shared=True)))
    stage.knows_key(DEMO_KEY, **ROTATED)
    stage.knows_key(OUR_KEY, id="key-2")
    told = [stage.get("/", with_key(key)) for key in (DEMO_KEY, OUR_KEY, DEMO_KEY)]
    assert [answer.exchange.cache_result for answer in told] == ["miss", "hit", "hit"]
    assert [answer["Deprecation"] for answer in told] == ["@1799999939", None, "@1799999939"]


def test_a_key_that_is_refused_says_nothing_of_its_rotation(keyed):
    keyed.knows_key(DEMO_KEY, deprecated_at=NOW - 60, expires_at=NOW)
    answer = keyed.get("/", with_key())
    assert (problem(answer), answer["Deprecation"], answer["Sunset"]) == (INVALID, None, None)


def test_a_rotated_key_without_an_end_has_no_sunset(keyed):
    keyed.knows_key(DEMO_KEY, deprecated_at=NOW)
    answer = keyed.get("/", with_key())
    assert (answer["Deprecation"], answer["Sunset"]) == ("@1800000000", None)


def test_a_use_is_noted_of_a_key_that_was_believed_and_of_no_other(keyed):
    keyed.knows_key("disabled-key-1", id="key-3", enabled=False)
    for key in (DEMO_KEY, "disabled-key-1", "unknown-key-1"):
        keyed.get("/", with_key(key))
    keyed.clock.passes(5)
    keyed.send("DELETE", "/", with_key(OUR_KEY))
    assert keyed.keys.uses == {TENANT: {"key-1": NOW, "key-2": NOW + 5}}


@pytest.mark.parametrize("wrong", [OUR_KEY[:-1] + "?", OUR_KEY[:-1], "ve_live_", ""])
def test_a_key_whose_form_or_checksum_is_wrong_is_refused_without_a_look_up(keyed, wrong):
    assert problem(keyed.get("/", with_key(wrong))) == INVALID
    assert keyed.keys.asked == []


def test_an_overlong_key_is_refused_without_a_look_up(keyed):
    assert problem(keyed.get("/", with_key("k" * 257))) == INVALID
    assert keyed.keys.asked == []


def test_keys_that_cannot_be_known_now_are_503(keyed):
    keyed.keys.away = True
    assert problem(keyed.get("/", with_key()))[:2] == (503, "identity-unavailable")


def test_a_key_does_not_open_a_route_for_sessions_nor_a_session_one_for_keys(keyed, signed):
    assert problem(signed.get("/", with_key())) == INVALID
    assert problem(signed.get("/", bearer(OUR_KEY))) == INVALID
    assert problem(keyed.get("/", bearer(a_token()))) == INVALID
    assert keyed.keys.asked == signed.keys.asked == []


# --- Sessions -------------------------------------------------------------------------------------------------------


def test_alice_is_believed_and_her_token_stays_here(signed):
    answer = signed.get("/", bearer(a_token()))
    assert answer.status == 200
    principal = answer.exchange.principal
    assert (principal.kind, principal.subject, principal.org_id, principal.role) == (
        "user", "user_alice", "org_demo", "org:admin",
    )  # fmt: skip
    head = signed.origin.heads[0]
    assert "Authorization" not in head
    assert (
        'X-Vantage-Principal: {"v":1,"kind":"user","sub":"user_alice","scopes":["org:posts:read"],"org":"org_demo",'
        '"role":"org:admin","permissions":["org:posts:read"],"issuer":"https://clerk.example.com"}\r\n'
    ) in head


def test_charlie_of_another_organisation_gets_the_answer_of_a_broken_token(signed):
    stranger = signed.get("/", bearer(a_token(org_id="org_charlie")))
    broken = signed.get("/", bearer(a_token() + "x"))
    assert problem(stranger) == problem(broken) == INVALID
    assert stranger.body.replace(stranger.exchange.request_id, b"") == broken.body.replace(
        broken.exchange.request_id, b""
    )


def test_a_route_for_any_user_takes_charlie_too(signed):
    signed.publish(a_snapshot(a_route("/*", "jwt_required", any_user=True)))
    assert signed.get("/", bearer(a_token(org_id="org_charlie"))).status == 200


@pytest.mark.parametrize("token", ["", "a.b.c", "x" * 9000, "tök.e.n"])
def test_what_is_no_token_is_401(signed, token):
    assert problem(signed.get("/", bearer(token))) == INVALID


def test_a_token_believed_once_is_not_verified_again_but_its_time_is(signed, monkeypatch):
    token = a_token()
    assert signed.get("/", bearer(token)).status == 200
    with monkeypatch.context() as patched:
        patched.setattr(sessions.clerk, "believe_session", None)
        assert signed.get("/", bearer(token)).status == 200
        signed.clock.passes(59.9)
        assert signed.get("/", bearer(token)).status == 200, "5 s of skew are allowed"
    signed.clock.passes(0.1)
    assert problem(signed.get("/", bearer(token))) == INVALID
    assert len(signed.pipeline._authenticator.verifiers["session"].beliefs) == 0


def test_a_clock_that_steps_back_does_not_believe_tokens_of_the_future(signed):
    token = a_token()
    assert signed.get("/", bearer(token)).status == 200
    signed.clock.passes(-3600)
    assert problem(signed.get("/", bearer(token))) == INVALID


def test_a_believed_session_that_was_signed_out_is_refused(signed):
    token = a_token()
    assert signed.get("/", bearer(token)).status == 200
    signed.sessions.signed_out.add("sess_alice")
    assert problem(signed.get("/", bearer(token))) == INVALID


def test_a_token_believed_at_one_tenant_is_judged_anew_at_another(signed):
    signed.publish(
        a_snapshot(a_route("/*", "jwt_required"), id=OTHER_TENANT, subdomain="other", clerk_org_id="org_other"),
        "other.example.com",
    )
    token = a_token()
    assert signed.get("/", bearer(token)).status == 200
    assert signed.get("/", bearer(token), host="other.example.com").status == 401


def test_an_unknown_kid_is_worth_one_refresh_of_the_keys(signed):
    signed.sessions.after_refresh = {"ins_2": NEW_KEY.public_key()}
    assert signed.get("/", bearer(a_token(NEW_KEY, "ins_2"))).status == 200
    assert signed.sessions.refreshes == 1


def test_a_key_rotated_under_its_name_is_worth_one_refresh_and_a_forged_token_stays_refused(signed):
    assert problem(signed.get("/", bearer(a_token(NEW_KEY)))) == INVALID
    assert signed.sessions.refreshes == 1
    signed.sessions.after_refresh = {"ins_1": NEW_KEY.public_key()}
    assert signed.get("/", bearer(a_token(NEW_KEY))).status == 200


def test_the_memory_of_sessions_is_bounded(signed, monkeypatch):
    monkeypatch.setattr(beliefs, "BELIEFS_MAX", 2)
    for number in range(5):
        assert signed.get("/", bearer(a_token(sid=f"sess_{number}"))).status == 200
        assert len(signed.pipeline._authenticator.verifiers["session"].beliefs) <= 2


# --- Scopes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (("read",), {"GET", "HEAD", "OPTIONS"}),
        (("write",), {"POST", "PUT", "PATCH", "DELETE", "BREW"}),
        (("read", "write"), {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "BREW"}),
        ((), set()),
    ],
)
def test_read_covers_get_head_and_options_and_write_the_rest(keyed, scopes, allowed):
    keyed.knows_key(DEMO_KEY, scopes=scopes)
    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "BREW"):
        assert (keyed.send(method, "/", with_key()).status == 200) is (method in allowed), method


def test_a_scope_that_is_lacking_is_403_and_named():
    stage = Stage(a_route("/*", "apikey_required", required_scopes=("read", "posts:admin")))
    stage.knows_key(DEMO_KEY, scopes=("read",))
    answer = stage.get("/", with_key())
    assert problem(answer) == (
        403, "scope-insufficient", 'Bearer realm="demo", error="insufficient_scope", scope="read posts:admin"',
    )  # fmt: skip
    stage.knows_key(DEMO_KEY, scopes=("read", "posts:admin"))
    assert stage.get("/", with_key()).status == 200


def test_a_users_scopes_are_the_permissions_of_the_organisation(signed):
    signed.publish(a_snapshot(a_route("/*", "jwt_required", required_scopes=("org:posts:read",))))
    assert signed.get("/", bearer(a_token())).status == 200
    assert signed.get("/", bearer(a_token(org_permissions=[]))).status == 403


def test_an_equal_request_gives_the_very_same_principal_and_a_changed_record_a_new_one(keyed):
    from edge.exchange import Exchange

    first = keyed.get("/", with_key())

    def again():
        return keyed.serve(Exchange(first.exchange.head, None, "192.0.2.7", b"http", b"id", NOW, 0.0))

    assert again().exchange.principal is first.exchange.principal
    keyed.knows_key(DEMO_KEY, scopes=("read",))
    assert again().exchange.principal.scopes == ("read",)


def test_a_session_believed_by_a_key_that_its_issuer_withdrew_is_believed_no_more(signed):
    token = bearer(a_token())
    assert [signed.get("/", token).status for _ in range(2)] == [200, 200]
    signed.sessions.published = {"ins_2": NEW_KEY.public_key()}
    assert problem(signed.get("/", token)) == INVALID
    signed.sessions.published = {"ins_1": KEY.public_key(), "ins_2": NEW_KEY.public_key()}
    assert signed.get("/", token).status == 200
