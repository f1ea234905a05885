"""What would happen to a request, and why (edge.explain)."""

from contracts.clerk import Expectation
from edge.errors import GatewayError
from edge.explain import Described, Identities, _Announced, _Stage, explain
from edge.phases.ratelimit import quota
from edge.snapshot import compile_snapshot
from tests.edge.fakes import (
    ISSUER,
    NOW,
    PARTY,
    a_bucket,
    a_cache,
    a_key_record,
    a_route,
    a_snapshot,
    an_origin,
)
from tests.edge.phases.test_auth import DEMO_KEY, KEY, a_token

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
    assert steps(told)[-2:] == [("authenticate", "refused"), ("answer", "credentials-invalid")]
    assert told.steps[-1].facts["because"] == "unknown key"


def test_a_secret_is_never_repeated():
    snapshot = a_snapshot(a_route("/*"))
    fields = (("X-API-Key", "s3cret"), ("Authorization", "Bearer s3cret"), ("Cookie", "s3cret"))
    assert "s3cret" not in repr(explain(snapshot, Described("GET", "/", fields)))


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
    body = _Announced(5)
    body.close()
    assert (body.length, body.read()) == (5, b"")
