"""What the gateway itself says to OPTIONS (edge.phases.options)."""

import pytest

from tests.edge.fakes import Stage, a_bucket, a_cache, a_route


def test_options_of_the_server_is_answered_here():
    """RFC 9110 section 9.3.7: an asterisk "applies to the server in general rather than to a specific resource"."""
    stage = Stage(a_route("/*", "apikey_required"))
    answer = stage.send("OPTIONS", "*")
    assert (answer.status, answer.body, answer["Via"]) == (204, b"", None)
    assert answer["Allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert (stage.origin.requests, answer.exchange.path, answer.exchange.route) == ([], b"*", None)
    assert stage.recorder.records == [answer.exchange]


def test_options_of_the_server_at_nobodys_host_is_404():
    assert Stage().send("OPTIONS", "*", host="nobody.example.com").status == 404


def test_the_last_hop_answers_and_nothing_goes_to_the_origin():
    """RFC 9110 section 7.6.2: at zero the intermediary "MUST NOT forward the request"."""
    stage = Stage(a_route("/a", methods=("GET", "OPTIONS")), a_route("/a", methods=("POST",), id="second"))
    answer = stage.send("OPTIONS", "/a", ("Max-Forwards", "0"))
    assert (answer.status, answer["Allow"], stage.origin.requests) == (204, "GET, HEAD, POST, OPTIONS", [])


def test_a_path_that_takes_any_method_says_so():
    answer = Stage().send("OPTIONS", "/", ("Max-Forwards", "0"))
    assert answer["Allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


def test_who_may_not_enter_or_comes_too_often_is_told_that_instead():
    stage = Stage(a_route("/*", "apikey_required", policies=(a_bucket(rate=0.001, burst=1),)))
    stage.knows_key("demo_key_abc123")
    key = ("X-API-Key", "demo_key_abc123")
    assert stage.send("OPTIONS", "/", ("Max-Forwards", "0")).status == 401
    assert stage.send("OPTIONS", "/", ("Max-Forwards", "0"), key).status == 204
    assert stage.send("OPTIONS", "/", ("Max-Forwards", "0"), key).status == 429


@pytest.mark.parametrize(("value", "sent"), [("1", 0), ("10", 9), ("100000", 255)])
def test_more_hops_are_counted_down_on_the_way(value, sent):
    """RFC 9110 section 7.6.2: "the intermediary MUST generate an updated Max-Forwards field" in what it forwards."""
    stage = Stage()
    assert stage.send("OPTIONS", "/", ("max-forwards", value)).status == 200
    assert stage.origin.heads[0].lower().count("max-forwards") == 1
    assert f"Max-Forwards: {sent}\r\n" in stage.origin.heads[0]


def test_without_max_forwards_the_origin_is_asked_and_nothing_is_added():
    stage = Stage(a_route("/*", cache=a_cache()))
    assert stage.send("OPTIONS", "/").body == b"hello"
    assert "Max-Forwards" not in stage.origin.heads[0]


def test_a_count_that_is_no_number_is_400():
    stage = Stage()
    answer = stage.send("OPTIONS", "/", ("Max-Forwards", "some"))
    assert (answer.status, answer.exchange.error.problem.slug, stage.origin.requests) == (400, "request-malformed", [])


def test_other_methods_do_not_count():
    """RFC 9110 section 7.6.2: a recipient MAY ignore it with any other method."""
    stage = Stage()
    assert stage.get("/", ("Max-Forwards", "0")).status == 200
    assert "Max-Forwards: 0\r\n" in stage.origin.heads[0]
