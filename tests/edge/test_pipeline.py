"""THE LIFE OF A REQUEST (edge.pipeline): order, endings, and what is recorded."""

import pytest

from edge.errors import ClientGone, GatewayError
from edge.exchange import Exchange
from edge.phases import cache
from tests.edge.fakes import NOW, Pieces, Stage, a_bucket, a_cache, a_head, a_response, a_route, drained


def an_exchange(target="/"):
    return Exchange(a_head("GET", target), None, "192.0.2.7", b"http", b"id", NOW, 1_000.0)


def test_a_public_request_goes_to_the_origin_and_back_and_is_recorded_once():
    stage = Stage()
    answer = stage.get("/")
    assert (answer.status, answer.body, answer["Content-Type"]) == (200, b"hello", "text/plain")
    (record,) = stage.recorder.records
    assert record is answer.exchange
    assert (record.tenant.subdomain, record.attempts, record.error) == ("demo", 1, None)
    assert record.finished_mono == record.upstream_last_mono >= record.upstream_first_mono > 0


def test_a_request_refused_early_is_recorded_too():
    stage = Stage(a_route("/x"))
    answer = stage.get("/")
    assert stage.recorder.records == [answer.exchange]
    assert answer.exchange.error.problem.slug == "route-unknown"


def test_the_limit_is_not_touched_by_who_may_not_enter():
    stage = Stage(a_route("/*", "apikey_required", policies=(a_bucket(),)))
    assert stage.get("/").status == 401
    assert stage.counters.asked == []


def test_memory_is_not_asked_for_who_is_over_the_limit():
    stage = Stage(a_route("/*", policies=(a_bucket(rate=0.001, burst=1),), cache=a_cache()))
    assert stage.get("/")["X-Cache"] == "MISS"
    asked = len(stage.cache.asked)
    answer = stage.get("/")
    assert (answer.status, answer["X-Cache"], len(stage.cache.asked)) == (429, None, asked)


def test_an_answer_from_memory_counts_against_the_limit_and_says_so():
    stage = Stage(a_route("/*", policies=(a_bucket(burst=5),), cache=a_cache()))
    stage.get("/")
    answer = stage.get("/")
    assert (answer["X-Cache"], answer["X-RateLimit-Remaining"]) == ("HIT", "3")


def test_an_exchange_keeps_the_snapshot_it_began_with():
    stage = Stage(a_route("/*", id="old"))

    class ChangesConfig(Pieces):
        def read(self):
            from tests.edge.fakes import a_snapshot

            stage.publish(a_snapshot(a_route("/*", id="new"), version=2))
            return super().read()

    answer = stage.send("POST", "/", body=ChangesConfig(b"x"))
    assert (answer.status, answer.exchange.route.id) == (200, "old")
    assert stage.get("/").exchange.route.id == "new"


def test_a_bug_ends_the_exchange_with_500_and_not_the_worker():
    stage = Stage()
    stage.origin.script = [ZeroDivisionError("one by zero")]
    answer = stage.get("/")
    assert answer.status == 500
    assert b"zero" not in answer.body
    error = answer.exchange.error
    assert error.internal == "ZeroDivisionError: one by zero"
    assert isinstance(error.__cause__, ZeroDivisionError), "the log can show where it came from"
    stage.origin.answers(200)
    assert stage.get("/").status == 200


def test_an_origins_body_nobody_will_read_is_closed(monkeypatch):
    stage = Stage(a_route("/*", cache=a_cache()))
    body = Pieces(b"x")
    stage.origin.script = [a_response(200, (), body)]
    monkeypatch.setattr(cache, "store", lambda *_: 1 / 0)
    assert stage.get("/").status == 500
    assert body.closed == 1


def test_a_client_that_left_while_the_origin_worked_is_not_answered():
    stage = Stage()
    stage.origin.script = [ClientGone()]
    exchange, written = an_exchange(), []
    stage.pipeline.serve(exchange, written.append)
    assert (written, exchange.client_gone, exchange.error) == ([], True, None)
    assert stage.recorder.records == [exchange]


def test_a_client_that_left_while_a_problem_was_written_is_no_error():
    stage = Stage(a_route("/x"))
    exchange = an_exchange()

    def write(reply):
        raise ClientGone

    stage.pipeline.serve(exchange, write)
    assert exchange.client_gone
    assert stage.recorder.records == [exchange]


def started(exchange, written):
    def write(reply):
        exchange.started_reply = True
        written.append(reply)
        drained(reply.body)

    return write


@pytest.mark.parametrize("broken", [GatewayError("origin-invalid-response", "It broke off."), ValueError("bug")])
def test_a_reply_that_breaks_after_it_began_is_cut_and_not_followed_by_a_problem(broken):
    stage = Stage()
    stage.origin.script = [a_response(200, (), Pieces(b"half", broken))]
    exchange, written = an_exchange(), []
    with pytest.raises(GatewayError):
        stage.pipeline.serve(exchange, started(exchange, written))
    assert len(written) == 1
    assert exchange.error is not None
    assert stage.recorder.records == [exchange]
    assert stage.pipeline._bulkhead.in_flight(exchange.tenant.id) == 0


def test_a_reply_that_breaks_before_its_first_byte_becomes_a_problem():
    stage = Stage()
    body = Pieces(GatewayError("origin-invalid-response", "It broke off."))
    stage.origin.script = [a_response(200, (), body)]
    exchange, written = an_exchange(), []

    def write(reply):
        if not isinstance(reply.body, bytes):
            drained(reply.body)
        written.append(reply)

    stage.pipeline.serve(exchange, write)
    assert [reply.status for reply in written] == [502]
    assert body.closed == 1, "the writer had it already"


def test_bytes_that_never_became_a_request_are_answered_and_recorded():
    stage = Stage()
    error = GatewayError("request-malformed", "A space before the colon.")
    reply = stage.pipeline.refuse(error, "192.0.2.7", b"some-id")
    assert (reply.status, reply.extra) == (400, [b"X-Request-Id: some-id\r\n"])
    assert stage.recorder.refusals == [(error, "192.0.2.7", b"some-id")]


def test_the_whole_chain_in_one_request():
    stage = Stage(
        a_route(
            "/api/admin/*", "apikey_required", strip_prefix="/api/admin", policies=(a_bucket(burst=9),), cache=a_cache()
        )
    )
    stage.knows_key("demo_key_abc123")
    answer = stage.get("/api/admin/users", ("X-API-Key", "demo_key_abc123"))
    assert answer.status == 200
    assert [name for name in ("X-Request-Id", "Via", "Server-Timing", "RateLimit", "X-Cache") if not answer[name]] == []
    assert stage.origin.heads[0].startswith("GET /users HTTP/1.1\r\n")


def test_the_fake_counters_are_all_or_nothing():
    """The stage's own limiter is honest: otherwise the plays above prove nothing."""
    stage = Stage(a_route("/*", policies=(a_bucket(rate=0.001, burst=1), a_bucket(rate=0.001, burst=9, id="second"))))
    for _ in range(3):
        stage.get("/")
    assert sorted(state.level for state in stage.counters.states.values()) == [1.0, 1.0]
