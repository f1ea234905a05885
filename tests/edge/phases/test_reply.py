"""What the client gets (edge.phases.reply)."""

import json

import pytest

from contracts.problems import PROBLEMS
from edge.errors import GatewayError, Retry
from edge.phases import reply
from tests.edge.fakes import Stage, a_response, a_route


def test_a_failure_is_a_problem_with_what_helps_and_nothing_more():
    stage = Stage()
    stage.origin.script = [GatewayError("origin-unreachable", "The origin refused.", internal="10.0.0.7:8082 refused")]
    answer = stage.get("/")
    assert json.loads(answer.body) == {
        "type": "urn:vantageedge:problem:origin-unreachable",
        "title": "The origin could not be reached",
        "status": 502,
        "detail": "The origin refused.",
        "code": "origin-unreachable",
        "at_fault": "origin",
        "request_id": "00000000-0000-7000-8000-000000000001",
    }
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["Cache-Control"] == "no-store"
    assert answer["Proxy-Status"] == "vantageedge; error=connection_refused"
    assert answer["X-Request-Id"] == "00000000-0000-7000-8000-000000000001"
    assert answer["Via"] is None, "it is our own answer"


def test_an_origins_502_differs_from_ours():
    stage = Stage()
    stage.origin.script = [a_response(502, body=b"its own words")]
    answer = stage.get("/")
    assert (answer.status, answer.body) == (502, b"its own words")
    assert (answer["Proxy-Status"], answer["Via"]) == (None, "1.1 vantageedge")


@pytest.mark.parametrize(
    ("slug", "named", "expected"),
    [
        ("origin-timeout", "connection_timeout", "connection_timeout"),
        ("origin-timeout", "", "http_response_timeout"),
        ("loop-detected", "", "proxy_loop_detected"),
        ("credentials-missing", "", "http_request_denied"),
        ("quota-exceeded", "", "http_request_denied"),
        ("route-unknown", "", "http_request_error"),
        ("gateway-failure", "", "proxy_internal_error"),
    ],
)
def test_proxy_status_names_the_kind_of_failure(slug, named, expected):
    """RFC 9209 section 2.3."""
    assert reply.proxy_error(GatewayError(slug, "x", proxy_error=named)) == expected


@pytest.mark.parametrize("slug", PROBLEMS)
def test_every_problem_has_a_reply(slug):
    made = reply.problem(GatewayError(slug, "Detail.", fields=((b"Allow", b"GET"),)), b"id")
    assert made.status == PROBLEMS[slug].status
    assert made.reason
    assert made.lines.endswith(b"\r\nAllow: GET\r\n")


def test_server_timing_tells_the_origins_time_from_ours():
    stage = Stage()
    stage.origin.takes_s = 0.25
    assert stage.get("/")["Server-Timing"] == "edge;dur=0.0, origin;dur=250.0"


def test_a_failing_origins_time_is_not_counted_as_ours():
    stage = Stage()
    stage.origin.takes_s = 0.25
    stage.origin.script = [GatewayError("origin-timeout", "Too late.", retry=Retry.NEVER)]
    assert stage.get("/")["Server-Timing"] == "edge;dur=0.0, origin;dur=250.0"


def test_without_an_origin_all_time_is_ours():
    assert Stage(a_route("/x")).get("/")["Server-Timing"] == "edge;dur=0.0"


def test_an_origins_request_id_does_not_mix_with_ours():
    stage = Stage()
    stage.origin.answers(200, X_Request_Id="theirs", Server_Timing="db;dur=3", Via="1.1 theirs")
    answer = stage.get("/")
    assert answer["X-Request-Id"] == "00000000-0000-7000-8000-000000000001"
    assert answer["Server-Timing"] == "db;dur=3, edge;dur=0.0, origin;dur=0.0"
    assert answer["Via"] == "1.1 theirs, 1.1 vantageedge"
