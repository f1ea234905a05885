"""Believing a signed request (edge.phases.auth.signatures). The shop signs; the other tenant's shop signs elsewhere."""

import msgspec
import pytest

from contracts.snapshot import ServiceConfig, service_secret_place
from edge.errors import GatewayError, Retry
from edge.explain import Described, explain
from edge.phases.auth import signatures
from tests.edge.fakes import NOW, OTHER_TENANT, TENANT, Pieces, Stage, a_route, a_snapshot
from tests.edge.phases.test_auth import INVALID, MISSING, OUR_KEY, a_token, bearer, problem, with_key
from tests.edge.signing import KEY_ID, SECRET, Signer, content_digest

HOST = "demo.example.com"
NEW_SECRET = b"n" * 32
BODY = b'{"amount": 1}'
JSON = ("Content-Type", "application/json")


def a_service(**fields):
    fields = {
        "id": "service-1", "name": "shop", "kind": "hmac", "key_id": KEY_ID, "scopes": ("orders:write",),
        "secrets": ("sealed",), **fields,
    }  # fmt: skip
    return ServiceConfig(**fields)


def with_services(*services, routes=(), **tenant):
    snapshot = a_snapshot(*(routes or (a_route("/*", "service_required"),)), **tenant)
    return msgspec.structs.replace(snapshot, services=services)


def a_stage(*services, **more):
    stage = Stage(snapshot=with_services(*(services or (a_service(),)), **more))
    stage.secrets.known = {"sealed": SECRET, "newly sealed": NEW_SECRET}
    return stage


def ask(stage, method="POST", target="/orders?x=1", body=BODY, fields=(JSON,), signer=None, host=HOST, **changed):
    """Sign and send; `changed` as for Signer.sign, `body_sent` and `target_sent` where something changed on the way."""
    sent = {name: changed.pop(name) for name in list(changed) if name in ("body_sent", "target_sent", "client_ip")}
    signed = (signer or Signer()).sign(method, target, host, body, fields, at=changed.pop("at", NOW), **changed)
    more = {"client_ip": sent["client_ip"]} if "client_ip" in sent else {}
    return stage.send(
        method, sent.get("target_sent", target), *signed, body=sent.get("body_sent", body), host=host, **more
    )


def test_a_signed_request_is_believed_and_its_signature_stays_here():
    stage = a_stage()
    answer = ask(stage)
    assert answer.status == 200
    principal = answer.exchange.principal
    assert (principal.kind, principal.subject, principal.scopes) == ("service", "service-1", ("orders:write",))
    head = stage.origin.heads[0]
    assert 'X-Vantage-Principal: {"v":1,"kind":"service","sub":"service-1","scopes":["orders:write"]}\r\n' in head
    assert "Signature" not in head
    assert "Content-Digest: sha-256=" in head
    assert stage.origin.bodies == [BODY]
    assert stage.secrets.places == [service_secret_place(TENANT, "service-1")]


def test_a_route_may_forward_the_signature():
    stage = a_stage(routes=(a_route("/*", "service_required", forward_credential=True),))
    ask(stage)
    assert "Signature-Input: ve=(" in stage.origin.heads[0] and "Signature: ve=:" in stage.origin.heads[0]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_a_request_without_a_body_needs_no_digest(method):
    assert ask(a_stage(), method, body=None, fields=()).status == 200


def test_scopes_of_the_service_are_what_the_route_asks_for():
    routes = (a_route("/*", "service_required", required_scopes=("orders:read",)),)
    assert ask(a_stage(routes=routes)).status == 403
    assert ask(a_stage(a_service(scopes=("orders:read",)), routes=routes)).status == 200


# --- Which requests are signed --------------------------------------------------------------------------------------


def test_without_a_signature_credentials_are_missing():
    assert problem(a_stage().get("/")) == MISSING
    assert problem(a_stage().get("/", ("Signature", "ve=:YQ==:"))) == MISSING
    assert problem(a_stage().get("/", ("Signature-Input", "sig1=()"), ("Signature", "sig1=:YQ==:"))) == MISSING


@pytest.mark.parametrize("other", [bearer("x"), bearer(OUR_KEY), with_key()])
def test_a_signature_and_another_credential_are_400(other):
    answer = ask(a_stage(), fields=(JSON, other))
    assert problem(answer)[:2] == (400, "credentials-ambiguous")


@pytest.mark.parametrize("name", ["Signature-Input", "Signature"])
def test_a_signature_field_that_is_sent_twice_is_400(name):
    stage = a_stage()
    signed = Signer().sign("GET", "/", HOST, at=NOW)
    answer = stage.get("/", *signed, (name, "other=()" if name == "Signature-Input" else "other=:YQ==:"))
    assert problem(answer)[:2] == (400, "credentials-ambiguous")


def test_another_scheme_in_authorization_is_the_origins_business():
    stage = a_stage()
    assert ask(stage, fields=(JSON, ("Authorization", "Basic YWxpY2U6eA=="))).status == 200
    assert "Authorization: Basic YWxpY2U6eA==" in stage.origin.heads[0]


def test_where_a_route_does_not_take_signatures_they_are_the_origins_business():
    """A webhook's signature passes through public and other routes untouched, and is no second credential there."""
    stage = a_stage(routes=(a_route("/*"), a_route("/k", "apikey_required"), a_route("/j", "jwt_required")))
    stage.knows_key(OUR_KEY)
    assert ask(stage).status == 200
    assert "Signature: ve=:" in stage.origin.heads[0]
    assert ask(stage, target="/k", fields=(JSON, with_key(OUR_KEY))).status == 200
    assert "Signature: ve=:" in stage.origin.heads[1]
    assert problem(ask(stage, target="/j")) == MISSING
    assert stage.nonces.used == set()


def test_what_was_found_for_one_route_is_not_believed_for_another():
    """Equal header sections are one section: a route for keys must not hand its reading to one for services."""
    routes = (a_route("/k", "apikey_required"), a_route("/s", "service_required"))
    stage = a_stage(routes=routes)
    stage.knows_key(OUR_KEY)
    signed = Signer().sign("GET", "/k", HOST, fields=[with_key(OUR_KEY)], at=NOW)
    first = stage.get("/k", *signed)
    head = first.exchange.head
    assert first.status == 200
    head.path = head.target = b"/s"
    assert problem(stage.take(head))[:2] == (400, "credentials-ambiguous")
    head.path = head.target = b"/k"
    assert stage.take(head).status == 200


def test_a_route_for_any_kind_takes_signatures_beside_others():
    from contracts.snapshot import AccessConfig

    routes = (a_route("/*", "any", access=AccessConfig(accept=("apikey", "service"))),)
    stage = a_stage(routes=routes)
    stage.knows_key(OUR_KEY)
    assert ask(stage).status == 200
    assert stage.get("/", with_key(OUR_KEY)).status == 200
    assert problem(stage.get("/", bearer(a_token()))) == INVALID


# --- What is wrong with it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"signer": Signer(b"x" * 32)},
        {"signer": Signer(bytes(32))},
        {"signer": Signer(bytes(32), "svc_unknown")},
        {"signer": Signer(SECRET, "svc_unknown")},
        {"target_sent": "/orders?x=2"},
        {"target_sent": "/orders?x=1&"},
        {"target_sent": "/other?x=1"},
        {"target_sent": "/orders"},
        {"at": NOW - 61},
        {"at": NOW + 61},
        {"expires": int(NOW) - 1, "at": NOW - 10},
        {"tag": '"other"'},
        {"alg": '"hmac-sha512"'},
        {"without": ["@query"]},
        {"without": ["content-digest"]},
        {"nonce": None},
        {"digest": ("Content-Digest", "md5=:AAAA:")},
        {"digest": ("Content-Digest", "sha-256=AAAA")},
    ],
)
def test_whatever_is_wrong_the_answer_is_one_and_the_origin_sees_nothing(wrong):
    stage = a_stage()
    answer = ask(stage, **wrong)
    assert problem(answer) == INVALID
    assert b"The service's credentials are not valid." in answer.body
    assert stage.origin.requests == []
    assert stage.nonces.used == set()


def test_method_authority_and_type_are_signed():
    stage = a_stage()
    signed = Signer().sign("POST", "/", HOST, BODY, [JSON], at=NOW)
    stage.config.tenants[b"other.example.com"] = stage.config.tenants[HOST.encode()]
    retyped = [("Content-Type", "text/plain") if field == JSON else field for field in signed]
    assert problem(stage.send("PUT", "/", *signed, body=BODY)) == INVALID
    assert problem(stage.send("POST", "/", *signed, body=BODY, host="other.example.com")) == INVALID
    assert problem(stage.send("POST", "/", *retyped, body=BODY)) == INVALID
    assert stage.send("POST", "/", *signed, body=BODY).status == 200


def test_the_path_is_the_one_on_the_wire_whatever_the_gateway_makes_of_it():
    stage = a_stage(routes=(a_route("/api/*", "service_required", strip_prefix="/api"),))
    assert ask(stage, target="/api/%7Ex/./a?q=%41").status == 200
    assert stage.origin.heads[0].startswith("POST /~x/a?q=%41 ")
    assert problem(ask(stage, target="/api/~x/a", target_sent="/api/%7Ex/a")) == INVALID


def test_a_service_of_another_tenant_is_an_unknown_one():
    stage = a_stage()
    stage.publish(
        with_services(a_service(key_id="svc_other"), id=OTHER_TENANT, subdomain="demo", clerk_org_id="org_o"),
        "other.example.com",
    )
    foreign = ask(stage, host="other.example.com")
    unknown = ask(stage, host="other.example.com", signer=Signer(SECRET, "svc_nobody"))
    assert problem(foreign) == problem(unknown) == INVALID
    assert foreign.body.replace(foreign.exchange.request_id, b"") == unknown.body.replace(
        unknown.exchange.request_id, b""
    )
    assert ask(stage, host="other.example.com", signer=Signer(SECRET, "svc_other")).status == 200


def test_an_unknown_service_costs_as_many_macs_as_a_known_one(monkeypatch):
    counted = []
    digest = signatures.signatures.hmac.digest
    monkeypatch.setattr(signatures.signatures.hmac, "digest", lambda *given: counted.append(1) or digest(*given))
    both = a_service(secrets=("newly sealed", "sealed"), previous_until=NOW + 9)
    for stage, signer in ((a_stage(), Signer()), (a_stage(both), Signer()), (a_stage(), Signer(SECRET, "svc_unknown"))):
        counted.clear()
        ask(stage, signer=signer)
        assert len(counted) == 2


def test_a_service_that_does_not_sign_is_no_service_here():
    for service in (a_service(secrets=()), a_service(kind="clerk_machine", secrets=())):
        for secret in (SECRET, bytes(32)):
            assert problem(ask(a_stage(service), signer=Signer(secret))) == INVALID


def test_a_service_expires_to_the_second():
    stage = a_stage(a_service(expires_at=NOW + 10))
    assert ask(stage).status == 200
    stage.clock.passes(10)
    assert problem(ask(stage)) == INVALID


def test_a_service_calls_from_its_networks_only():
    stage = a_stage(a_service(addresses=("192.0.2.0/24", "2001:db8::/32")))
    assert ask(stage, client_ip="192.0.2.9").status == 200
    assert ask(stage, client_ip="2001:db8::1").status == 200
    assert problem(ask(stage, client_ip="198.51.100.1")) == INVALID
    assert problem(ask(stage, client_ip="2001:db9::1")) == INVALID


def test_a_replaced_secret_is_believed_until_its_grace_ends():
    stage = a_stage(a_service(secrets=("newly sealed", "sealed"), previous_until=NOW + 30))
    assert ask(stage).status == 200
    assert ask(stage, signer=Signer(NEW_SECRET)).status == 200
    stage.clock.passes(29.9)
    assert ask(stage, at=NOW + 29).status == 200
    stage.clock.passes(0.1)
    assert problem(ask(stage, at=NOW + 29)) == INVALID
    assert ask(stage, signer=Signer(NEW_SECRET)).status == 200


def test_a_second_secret_without_an_end_is_not_believed():
    assert problem(ask(a_stage(a_service(secrets=("newly sealed", "sealed"))))) == INVALID


def test_a_changed_service_is_judged_anew():
    stage = a_stage()
    assert ask(stage).status == 200
    stage.publish(with_services(a_service(scopes=("x",), addresses=("198.51.100.0/24",))))
    assert problem(ask(stage)) == INVALID
    stage.publish(with_services())
    assert problem(ask(stage)) == INVALID


def test_a_secret_that_cannot_be_opened_is_503():
    assert problem(ask(a_stage(a_service(secrets=("lost",)))))[:2] == (503, "identity-unavailable")


def test_a_service_is_one_principal_as_long_as_nothing_of_it_changes():
    stage = a_stage()
    assert ask(stage).exchange.principal is ask(stage).exchange.principal


# --- Once -----------------------------------------------------------------------------------------------------------


def test_a_nonce_is_used_once_by_each_service():
    stage = a_stage(a_service(), a_service(id="service-2", key_id="svc_2"))
    nonce = '"0123456789abcdef"'
    assert ask(stage, nonce=nonce).status == 200
    assert problem(ask(stage, nonce=nonce)) == INVALID
    assert ask(stage, nonce=nonce, signer=Signer(key_id="svc_2")).status == 200


def test_without_the_store_of_nonces_nobody_is_let_in():
    stage = a_stage()
    stage.nonces.away = True
    assert problem(ask(stage))[:2] == (503, "identity-unavailable")
    assert problem(ask(stage, signer=Signer(b"x" * 32))) == INVALID, "the store is not asked about a wrong signature"
    assert stage.origin.requests == []


# --- Bodies ---------------------------------------------------------------------------------------------------------


def test_a_wrong_body_that_is_here_is_not_sent_and_uses_up_no_nonce():
    stage = a_stage()
    nonce = '"0123456789abcdef"'
    assert problem(ask(stage, nonce=nonce, body_sent=BODY[:-1] + b"x"))[:2] == (400, "digest-mismatch")
    assert stage.origin.requests == []
    assert ask(stage, nonce=nonce).status == 200


def test_a_body_that_arrives_is_held_to_its_digest_on_its_way():
    stage = a_stage()
    body = b"onetwothree"
    assert ask(stage, body=body, body_sent=Pieces(b"one", b"two", b"three")).status == 200
    assert stage.origin.bodies == [body]
    wrong = ask(stage, body=body, body_sent=Pieces(b"one", b"two", b"tree"))
    assert problem(wrong)[:2] == (400, "digest-mismatch")
    assert stage.origin.bodies == [body], "what was read of it broke off"


def test_another_attempt_is_made_as_of_any_body_of_which_nothing_was_read():
    stage = a_stage()
    stage.origin.script = [GatewayError("origin-unreachable", "x", retry=Retry.NOTHING_SENT), *stage.origin.script]
    assert ask(stage, body=b"onetwo", body_sent=Pieces(b"one", b"two")).status == 200
    assert (len(stage.origin.requests), stage.origin.bodies) == (2, [b"onetwo"])
    stage.origin.script = [GatewayError("origin-unreachable", "x", retry=Retry.IF_IDEMPOTENT)]
    assert ask(stage, body=b"onetwo", body_sent=Pieces(b"one", b"two")).status == 502
    assert len(stage.origin.requests) == 3


def test_a_digest_that_is_signed_without_a_body_is_of_no_octets():
    stage = a_stage()
    components = ["@method", "@authority", "@path", "@query", "content-digest"]
    fields = [content_digest(b"")]
    assert ask(stage, "GET", body=None, fields=fields, components=components).status == 200
    answer = ask(stage, "GET", body=None, fields=[content_digest(b"x")], components=components)
    assert problem(answer)[:2] == (400, "digest-mismatch")


def test_other_bodies_are_not_held_to_their_digest():
    stage = a_stage(routes=(a_route("/*"),))
    assert stage.send("POST", "/", content_digest(b"x"), body=b"y").status == 200
    assert stage.send("POST", "/", content_digest(b"x"), body=Pieces(b"y")).status == 200
    assert stage.origin.bodies == [b"y", b"y"]


# --- Explain --------------------------------------------------------------------------------------------------------


def test_explain_checks_no_signatures():
    fields = tuple(Signer().sign("GET", "/", "tenant.example", at=NOW))
    told = explain(with_services(a_service()), Described("GET", "/", fields, at=NOW))
    assert (told.status, told.problem) == (503, "identity-unavailable")
