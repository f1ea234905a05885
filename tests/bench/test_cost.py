"""A peer that answers wrongly has no figure; where we do, there is no run."""

from types import SimpleNamespace

import pytest

from bench.budgets import BUDGETS, ECHO, FULL, JWT, OURS, PLAIN
from bench.closedloop import Cost
from bench.lab import Ask, BenchError
from bench.rows import Plan, cost

ASKS = [
    Ask(OURS, FULL, 1, 1, "/", ()), Ask(OURS, JWT, 1, 1, "/", ()), Ask(OURS, ECHO, 1, 1, "/", ()),
    Ask("nginx", PLAIN, 1, 1, "/", ()), Ask("Envoy", FULL, 1, 1, "/", ()),
]  # fmt: skip
MADE = {(OURS, FULL): 40.0, (OURS, JWT): 42.0, ("nginx", PLAIN): 20.0, ("Envoy", FULL): 80.0}


def rows_of(monkeypatch, wrong=(), fails_in_round=()):
    rounds = dict.fromkeys(MADE, 0)

    def verify(ask):
        if (ask.gateway, ask.what) in wrong:
            raise BenchError("500 instead of 200")

    def http_cost(ask, seconds):
        key = ask.gateway, ask.what
        rounds[key] += seconds == 2
        if (*key, rounds[key]) in fails_in_round:
            raise BenchError("a broken answer")
        return Cost(MADE[key] / 2, MADE[key] / 2, 1.0)

    def no_tunnel(ask, seconds):
        raise BenchError("the upgrade was refused: 404")

    monkeypatch.setattr(cost, "verify", verify)
    monkeypatch.setattr(cost, "http_cost", http_cost)
    monkeypatch.setattr(cost, "_echo", no_tunnel)
    monkeypatch.setattr(cost, "_start", lambda plan: (ASKS, {"traefik": "the wheel is not installed"}))
    plan = Plan(2, 3, (), BUDGETS)
    plan.lab = SimpleNamespace(empty_logs=lambda: None)
    return {row.budget.id: row for row in cost.run(plan, everything=True)}, plan


def test_ratios_are_made_and_what_is_missing_says_why(monkeypatch):
    rows, plan = rows_of(monkeypatch)
    assert rows["full-envoy"].value.median == 0.5
    assert (rows["full-envoy"].word, rows["full-nginx"].word, rows["jwt-key"].word) == ("goal", "goal", "goal")
    assert rows["jwt-key"].value.median == 1.05
    assert rows["full-traefik"].note == "Traefik, full chain: the wheel is not installed"
    assert rows["websocket"].note == f"{OURS}, {ECHO}: the upgrade was refused: 404"
    assert rows["routes"].value is None
    assert [len(one["rounds"]) for one in plan.evidence["costs"]] == [3, 3, 3, 3]


@pytest.mark.parametrize("how", [{"wrong": [("Envoy", FULL)]}, {"fails_in_round": [("Envoy", FULL, 2)]}])
def test_a_peer_that_answers_wrongly_has_no_figure_and_the_others_keep_theirs(monkeypatch, how):
    rows, plan = rows_of(monkeypatch, **how)
    assert rows["full-envoy"].value is None
    assert rows["full-envoy"].word is None
    assert any(line.startswith("Envoy, full chain: ") for line in plan.absent)
    assert rows["full-nginx"].value.median == 2.0


def test_where_we_answer_wrongly_there_is_no_run(monkeypatch):
    with pytest.raises(BenchError, match="500"):
        rows_of(monkeypatch, wrong=[(OURS, FULL)])
    with pytest.raises(BenchError, match="broken"):
        rows_of(monkeypatch, fails_in_round=[(OURS, JWT, 3)])
