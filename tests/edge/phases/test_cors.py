"""Pages of other origins (edge.phases.cors and where edge.pipeline asks it)."""

import pytest

from contracts.snapshot import AccessConfig, AddressRules, CorsConfig
from tests.edge.fakes import Pieces, Stage, a_bucket, a_cache, a_route, a_snapshot

APP = "https://app.example.com"
OTHER = "https://other.example.com"
ORIGIN = ("Origin", APP)
VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


def cors_route(path="/*", auth="public", **fields):
    config = {"origins": (APP, OTHER), "credentials": True, **fields.pop("cors", {})}
    access = AccessConfig(cors=CorsConfig(**config), **fields.pop("access", {}))
    return a_route(path, auth, access=access, **fields)


def preflight(stage, method="GET", target="/", origin=APP, *fields, **more):
    asked = ("Access-Control-Request-Method", method)
    return stage.send("OPTIONS", target, ("Origin", origin), asked, *fields, **more)


def test_a_preflight_is_answered_before_authentication_limits_and_origin():
    stage = Stage(cors_route("/*", "apikey_required", policies=(a_bucket(burst=1),), cache=a_cache()))
    for _ in range(3):
        answer = preflight(stage, "DELETE")
        assert (answer.status, answer.body) == (204, b"")
        assert answer["Access-Control-Allow-Origin"] == APP
        assert answer["Access-Control-Allow-Credentials"] == "true"
        assert answer["Access-Control-Allow-Methods"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
        assert answer["Vary"] == VARY
        assert answer["X-Request-Id"]
        assert answer["RateLimit"] is None
        assert answer["X-Cache"] is None
    assert (stage.origin.requests, stage.counters.asked, stage.keys.asked) == ([], [], [])
    assert answer.exchange.preflight == b"DELETE"


def test_a_preflight_is_about_the_route_of_the_method_it_names():
    stage = Stage(
        cors_route("/x", id="reads", methods=("GET",)),
        cors_route("/x", id="writes", methods=("PUT",), cors={"origins": (OTHER,)}),
        a_route("/x", id="options", methods=("OPTIONS",)),
    )
    assert preflight(stage, "GET", "/x")["Access-Control-Allow-Methods"] == "GET, HEAD"
    assert preflight(stage, "PUT", "/x")["Access-Control-Allow-Origin"] is None
    allowed = preflight(stage, "PUT", "/x", OTHER)
    assert (allowed["Access-Control-Allow-Methods"], allowed.exchange.route.id) == ("PUT", "writes")


def test_named_methods_are_said_instead_of_the_routes():
    stage = Stage(cors_route(cors={"methods": ("GET", "POST")}))
    assert preflight(stage, "DELETE")["Access-Control-Allow-Methods"] == "GET, POST"


def test_a_page_that_is_not_allowed_gets_no_hint():
    stage = Stage(cors_route())
    for origin in ("https://evil.example", "null", f"{APP}.evil.example"):
        answer = preflight(stage, origin=origin)
        assert (answer.status, answer["Vary"]) == (204, VARY)
        assert "access-control-allow" not in answer.text.lower()
    twice = stage.send("OPTIONS", "/", ORIGIN, ORIGIN, ("Access-Control-Request-Method", "GET"))
    assert (twice.status, twice["Access-Control-Allow-Origin"]) == (204, None)


def test_a_body_behind_a_preflight_is_read_by_nobody():
    stage = Stage(cors_route())
    body = Pieces(b"x")
    assert preflight(stage, body=body).status == 204
    assert stage.origin.bodies == []


@pytest.mark.parametrize(
    "fields",
    [
        [ORIGIN],
        [("Access-Control-Request-Method", "GET")],
        [ORIGIN, ("Access-Control-Request-Method", "G T")],
        [ORIGIN, ("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Method", "PUT")],
    ],
)
def test_an_options_that_is_no_preflight_is_a_request_like_any_other(fields):
    stage = Stage(cors_route())
    answer = stage.send("OPTIONS", "/", *fields)
    assert (answer.status, answer.body, len(stage.origin.requests)) == (200, b"hello", 1)
    guarded = Stage(cors_route("/*", "apikey_required"))
    assert guarded.send("OPTIONS", "/", *fields).status == 401


def test_a_preflight_for_a_route_without_cors_goes_the_way_it_always_went():
    stage = Stage(cors_route("/with"), a_route("/without"), a_route("/reads", methods=("GET",)))
    assert preflight(stage, "GET", "/without").body == b"hello"
    assert preflight(stage, "GET", "/reads").status == 405
    assert preflight(stage, "GET", "/nowhere").status == 404
    assert preflight(stage, "GET", "/%00").status == 400
    assert len(stage.origin.requests) == 1
    alone = Stage(a_route("/*"))
    assert preflight(alone).body == b"hello"


def test_a_preflight_from_a_denied_address_is_denied():
    stage = Stage(cors_route(access={"addresses": AddressRules(deny=("192.0.2.7/32",))}))
    assert preflight(stage, client_ip="192.0.2.7").status == 403
    assert preflight(stage, client_ip="192.0.2.8").status == 204


def test_every_answer_of_the_route_says_who_may_read_it():
    policies = (a_bucket(rate=0.001, burst=1),)
    stage = Stage(
        cors_route("/open", policies=policies),
        cors_route("/key", "apikey_required", required_scopes=("admin",)),
        cors_route("/denied", access={"addresses": AddressRules(deny=("192.0.2.7/32",))}),
        cors_route("/broken"),
    )
    stage.knows_key("demo_key_abc123")
    key = ("X-API-Key", "demo_key_abc123")
    answers = [
        stage.get("/open", ORIGIN),
        stage.get("/open", ORIGIN),
        stage.get("/key", ORIGIN),
        stage.get("/key", ORIGIN, ("X-API-Key", "other")),
        stage.get("/key", ORIGIN, key),
        stage.get("/denied", ORIGIN),
    ]
    stage.origin.script = [ZeroDivisionError()]
    answers.append(stage.get("/broken", ORIGIN))
    assert [answer.status for answer in answers] == [200, 429, 401, 401, 403, 403, 500]
    for answer in answers:
        assert answer["Access-Control-Allow-Origin"] == APP
        assert answer["Access-Control-Allow-Credentials"] == "true"
        assert answer["Vary"] == "Origin"


def test_without_an_origin_or_with_another_only_a_cache_is_told():
    stage = Stage(cors_route())
    for fields in ((), (("Origin", "https://evil.example"),), (ORIGIN, ORIGIN)):
        answer = stage.get("/", *fields)
        assert (answer.status, answer["Vary"]) == (200, "Origin")
        assert answer["Access-Control-Allow-Origin"] is None
        assert answer["Access-Control-Allow-Credentials"] is None


def test_what_the_origin_says_of_cors_is_left_out_where_the_gateway_speaks():
    said = {
        "Access_Control_Allow_Origin": "*", "access_control_allow_credentials": "true", "Vary": "Accept-Encoding",
        "Access_Control_Expose_Headers": "x-secret", "Access_Control_Max_Age": "9", "Timing_Allow_Origin": "*",
    }  # fmt: skip
    stage = Stage(cors_route("/with"), a_route("/without"))
    stage.origin.answers(200, b"", **said)
    answer = stage.get("/with", ("Origin", "https://evil.example"))
    assert "access-control" not in answer.text.lower()
    assert answer["Vary"] == "Accept-Encoding, Origin"
    assert answer["Timing-Allow-Origin"] == "*"
    passed = stage.get("/without", ORIGIN)
    assert passed["Access-Control-Allow-Origin"] == "*"
    assert passed["Vary"] == "Accept-Encoding"


def test_a_stored_answer_names_whoever_asks_now_and_nobody_else():
    stage = Stage(cors_route(cache=a_cache()))
    stage.origin.answers(200, b"kept", Access_Control_Allow_Origin=OTHER)
    first = stage.get("/", ORIGIN)
    assert (first["X-Cache"], first["Access-Control-Allow-Origin"]) == ("MISS", APP)
    second = stage.get("/", ("Origin", OTHER))
    assert (second["X-Cache"], second["Access-Control-Allow-Origin"], second["Vary"]) == ("HIT", OTHER, "Origin")
    third = stage.get("/")
    assert (third["X-Cache"], third["Access-Control-Allow-Origin"], third["Vary"]) == ("HIT", None, "Origin")
    (stored,) = stage.cache.stored.values()
    assert b"ccess-" not in stored.lines


def test_what_was_stored_before_the_route_had_cors_is_not_served_after():
    stage = Stage(a_route("/*", cache=a_cache()))
    stage.origin.answers(200, b"kept", Access_Control_Allow_Origin="*")
    stage.get("/")
    stage.publish(a_snapshot(cors_route(cache=a_cache())))
    answer = stage.get("/", ORIGIN)
    assert (answer["X-Cache"], answer["Access-Control-Allow-Origin"]) == ("MISS", APP)


def test_an_answer_that_varies_by_origin_at_the_origin_is_kept_per_origin():
    stage = Stage(cors_route(cache=a_cache()))
    stage.origin.answers(200, b"for app", Vary="Origin")
    stage.get("/", ORIGIN)
    assert stage.get("/", ORIGIN)["X-Cache"] == "HIT"
    stage.origin.answers(200, b"for other", Vary="Origin")
    assert stage.get("/", ("Origin", OTHER)).body == b"for other"
    assert stage.get("/", ORIGIN).body == b"for app"


def test_the_origin_learns_whose_page_it_is():
    stage = Stage(cors_route())
    stage.get("/", ORIGIN)
    assert f"\r\nOrigin: {APP}\r\n" in stage.origin.heads[0]
