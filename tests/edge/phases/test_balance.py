"""To whom a request goes (edge.phases.balance)."""

from collections import Counter
from itertools import repeat

from hypothesis import given
from hypothesis import strategies as st

from edge.phases.balance import ATTEMPTS_MAX, ORIGINS_MAX, Balancer
from edge.snapshot import compile_snapshot
from tests.edge.fakes import TENANT, FakeHealth, a_route, a_snapshot, an_origin


def a_tenant(*weights, **changes):
    urls = [f"http://t{number}.example.com" for number in range(len(weights))]
    return compile_snapshot(a_snapshot(a_route(**changes), origins=[an_origin(*urls, weights=weights)]))


def firsts(balancer, tenant, count):
    return [next(balancer.candidates(tenant, tenant.origins["origin-1"])).id for _ in range(count)]


def test_a_lone_target_is_its_own_alternative_even_when_probes_say_it_is_down():
    tenant, health = a_tenant(1), FakeHealth()
    health.down.add((TENANT, "target-1"))
    assert [t.id for t in Balancer(health).candidates(tenant, tenant.origins["origin-1"])] == [
        "target-1"
    ] * ATTEMPTS_MAX


def test_equal_targets_take_turns():
    assert firsts(Balancer(FakeHealth()), a_tenant(1, 1, 1), 6) == ["target-1", "target-2", "target-3"] * 2


def test_a_heavy_target_gets_its_share_spread_out():
    order = firsts(Balancer(FakeHealth()), a_tenant(5, 1, 1), 7)
    assert Counter(order) == {"target-1": 5, "target-2": 1, "target-3": 1}
    assert order == ["target-1", "target-1", "target-2", "target-1", "target-3", "target-1", "target-1"]


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6))
def test_every_full_round_gives_each_target_exactly_its_weight(weights):
    tenant, balancer = a_tenant(*weights), Balancer(FakeHealth())
    for _ in range(2):
        counted = Counter(firsts(balancer, tenant, sum(weights)))
        assert [counted[f"target-{number}"] for number in range(1, len(weights) + 1)] == weights


def test_alternatives_are_other_targets_first():
    tenant = a_tenant(1, 1)
    order = [target.id for target in Balancer(FakeHealth()).candidates(tenant, tenant.origins["origin-1"])]
    assert order == ["target-1", "target-2", "target-1"]


def test_an_unhealthy_target_gets_nothing():
    tenant, health = a_tenant(1, 1, 1), FakeHealth()
    health.down.add((TENANT, "target-2"))
    assert set(firsts(Balancer(health), tenant, 6)) == {"target-1", "target-3"}


def test_with_less_than_half_of_the_weight_healthy_all_targets_are_used():
    tenant, health = a_tenant(1, 1, 1), FakeHealth()
    health.down |= {(TENANT, "target-1"), (TENANT, "target-2")}
    assert set(firsts(Balancer(health), tenant, 3)) == {"target-1", "target-2", "target-3"}


def test_whose_turn_it_is_survives_a_change_that_does_not_concern_the_targets():
    balancer = Balancer(FakeHealth())
    assert firsts(balancer, a_tenant(1, 1, 1), 1) == ["target-1"]
    assert firsts(balancer, a_tenant(1, 1, 1, auth="jwt_required"), 1) == ["target-2"]
    assert firsts(balancer, a_tenant(1, 2, 1), 1) == ["target-2"], "new weights begin anew: the heaviest is first"


def test_the_memory_of_turns_is_bounded():
    tenant, balancer = a_tenant(1, 1), Balancer(FakeHealth())
    balancer._turns.update(zip(((str(n), "o") for n in range(ORIGINS_MAX)), repeat(None), strict=False))
    firsts(balancer, tenant, 1)
    assert len(balancer._turns) == 1
