"""How often a client may fail to authenticate (edge.phases.auth.attempts)."""

import pytest

from edge.errors import GatewayError
from edge.phases.auth import attempts
from edge.phases.auth.attempts import FAILURES_MAX, WINDOW_S, Attempts
from edge.pipeline import Pipeline
from edge.ports import Verdict
from tests.edge.fakes import OTHER_TENANT, Stage, a_bucket, a_route, a_snapshot

GOOD = ("X-API-Key", "demo_key_abc123")
BAD = ("X-API-Key", "demo_key_unknown")


@pytest.fixture
def stage():
    made = Stage(a_route("/*", "apikey_required"), a_route("/open"))
    made.pipeline = Pipeline(made.pipeline._ports, FAILURES_MAX)
    made.knows_key("demo_key_abc123")
    return made


def fail(stage, times=FAILURES_MAX, **more):
    return [stage.get("/", BAD, **more).status for _ in range(times)]


def test_after_twenty_failures_within_a_minute_a_client_waits_for_one(stage):
    assert fail(stage) == [401] * FAILURES_MAX
    answer = stage.get("/", BAD)
    assert (answer.status, answer["Retry-After"]) == (429, "60")
    assert answer.exchange.error.problem.slug == "auth-attempts-exceeded"
    asked = len(stage.keys.asked)
    stage.clock.passes(59.5)
    assert stage.get("/", BAD)["Retry-After"] == "1"
    assert len(stage.keys.asked) == asked, "refused unread"
    stage.clock.passes(1)
    assert stage.get("/", GOOD).status == 200
    assert stage.pipeline.attempts.blocked == {}


def test_a_good_credential_waits_too_or_a_guesser_would_learn_which_guess_was_right(stage):
    fail(stage)
    assert stage.get("/", GOOD).status == 429
    assert stage.get("/open", BAD).status == 200, "nothing is believed on a public route, so nothing can be guessed"


def test_failures_that_come_slowly_never_add_up(stage):
    for _ in range(3 * FAILURES_MAX):
        assert stage.get("/", BAD).status == 401
        stage.clock.passes(4)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((), 401),
        ((GOOD, ("Authorization", "Bearer x")), 400),
        (((GOOD[0], "scopeless_key_1"),), 403),
    ],
)
def test_what_is_no_failed_attempt_does_not_count(stage, fields, status):
    stage.publish(a_snapshot(a_route("/*", "apikey_required", required_scopes=("admin",))))
    stage.knows_key("scopeless_key_1", id="key-2", scopes=())
    for _ in range(2 * FAILURES_MAX):
        assert stage.get("/", *fields).status == status
    assert stage.counters.asked == []


def test_a_credential_that_cannot_be_checked_does_not_count(stage):
    stage.keys.away = True
    assert [stage.get("/", GOOD).status for _ in range(2 * FAILURES_MAX)] == [503] * 2 * FAILURES_MAX
    assert stage.counters.asked == []


def test_who_is_blocked_and_sends_nothing_is_told_what_to_send(stage):
    fail(stage)
    assert stage.get("/").status == 401


def test_another_client_and_another_tenant_do_not_notice(stage):
    other = a_snapshot(a_route("/*", "apikey_required"), id=OTHER_TENANT, subdomain="other")
    stage.publish(other, "other.example.com")
    fail(stage)
    assert stage.get("/", GOOD).status == 429
    assert stage.get("/", GOOD, client_ip="192.0.2.8").status == 200
    assert stage.get("/", BAD, host="other.example.com").status == 401
    assert len({check.policy.id for (check,) in stage.counters.asked}) == 2, "counters are told apart by it"


def test_an_ipv6_client_is_its_network_and_a_mapped_address_is_ipv4(stage):
    fail(stage, client_ip="2001:db8::1")
    assert stage.get("/", GOOD, client_ip="2001:db8::ffff:1").status == 429
    assert stage.get("/", GOOD, client_ip="2001:db8:0:1::1").status == 200
    fail(stage, client_ip="192.0.2.9")
    assert stage.get("/", GOOD, client_ip="::ffff:192.0.2.9").status == 429


def test_a_refusal_of_all_workers_together_blocks_here_too(stage, monkeypatch):
    monkeypatch.setattr(stage.counters, "admit", lambda checks: [Verdict(checks[0].policy, False, 0, 90.0, 75.0)])
    assert fail(stage, 1) == [401]
    assert stage.get("/", GOOD)["Retry-After"] == "75"


def test_limits_of_routes_are_counted_beside_and_only_for_who_is_believed(stage):
    stage.publish(a_snapshot(a_route("/*", "apikey_required", policies=(a_bucket(burst=5),))))
    stage.get("/", BAD)
    stage.get("/", GOOD)
    assert [check.policy.name for (check,) in stage.counters.asked] == ["failed-authentication", "default"]


def test_it_can_be_set_and_switched_off(stage):
    stage.pipeline = Pipeline(stage.pipeline._ports, auth_failures_max=2)
    assert fail(stage, 3) == [401, 401, 429]
    asked = len(stage.counters.asked)
    stage.pipeline = Pipeline(stage.pipeline._ports, auth_failures_max=0)
    assert fail(stage, 30) == [401] * 30
    assert len(stage.counters.asked) == asked


def test_while_nobody_waits_nothing_is_looked_up(stage, monkeypatch):
    monkeypatch.setattr(Attempts, "check", None)
    assert stage.get("/", GOOD).status == 200


def test_those_who_waited_long_enough_are_forgotten_though_they_never_come_back(stage):
    fail(stage, client_ip="192.0.2.1")
    stage.clock.passes(30)
    fail(stage, client_ip="192.0.2.2")
    stage.clock.passes(WINDOW_S - 29)
    stage.get("/", GOOD, client_ip="192.0.2.3")
    assert len(stage.pipeline.attempts.blocked) == 1
    stage.clock.passes(WINDOW_S)
    stage.get("/", GOOD, client_ip="192.0.2.3")
    assert stage.pipeline.attempts.blocked == {}


def test_what_is_remembered_is_bounded(stage, monkeypatch):
    monkeypatch.setattr(attempts, "BLOCKED_MAX", 2)
    stage.pipeline = Pipeline(stage.pipeline._ports, auth_failures_max=1)
    for last in (1, 2, 3):
        fail(stage, 1, client_ip=f"192.0.2.{last}")
    assert [stage.get("/", GOOD, client_ip=f"192.0.2.{last}").status for last in (1, 2, 3)] == [200, 429, 429]
    stage.clock.passes(WINDOW_S - 5)
    stage.get("/", GOOD, client_ip="192.0.2.5")  # looks for those who waited long enough, and finds none yet
    stage.clock.passes(6)
    fail(stage, 1, client_ip="192.0.2.4")
    assert len(stage.pipeline.attempts.blocked) == 1, "those who waited long enough go first"


def test_the_refusal_names_neither_client_nor_limit(stage):
    fail(stage)
    answer = stage.get("/", BAD)
    assert isinstance(answer.exchange.error, GatewayError)
    assert b"192.0.2" not in answer.body
    assert b"20" not in answer.body.split(b'"detail"')[1].split(b",")[0]
