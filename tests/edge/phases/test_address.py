"""Who may come at all (edge.phases.address): the tenant's rules, then the route's, before anything else is asked."""

import pytest

from contracts.snapshot import AccessConfig, AddressRules, SnapshotError
from edge.phases import address
from edge.snapshot import compile_snapshot
from tests.edge.fakes import Stage, a_route, a_snapshot

RULES = AddressRules(allow=("192.0.2.0/24",), deny=("192.0.2.7/32",))


def guarded(**fields):
    return a_route("/*", fields.pop("auth", "public"), access=AccessConfig(addresses=RULES), **fields)


@pytest.mark.parametrize(
    ("client_ip", "status", "internal"),
    [
        ("192.0.2.8", 200, ""),
        ("::ffff:192.0.2.8", 200, ""),
        ("192.0.2.7", 403, "192.0.2.7/32 is denied by the route"),
        ("::ffff:192.0.2.7", 403, "192.0.2.7/32 is denied by the route"),
        ("198.51.100.1", 403, "nothing allows it by the route"),
    ],
)
def test_a_route_lets_in_whom_its_rules_let_in(client_ip, status, internal):
    answer = Stage(guarded()).get("/", client_ip=client_ip)
    assert answer.status == status
    if status == 403:
        assert answer.exchange.error.problem.slug == "address-denied"
        assert answer.exchange.error.internal == internal
        assert b"192.0.2" not in answer.body, "which rule it was is nobody's business"
        assert answer.exchange.attempts == 0


def test_a_tenants_rules_come_before_its_routes_are_looked_at():
    stage = Stage(snapshot=a_snapshot(a_route("/x"), addresses=RULES))
    assert stage.get("/nowhere", client_ip="192.0.2.7").status == 403
    assert stage.get("/nowhere", client_ip="192.0.2.8").status == 404
    assert stage.get("/x", client_ip="192.0.2.7").exchange.route is None
    assert stage.send("OPTIONS", "*", client_ip="192.0.2.7").status == 403


def test_both_must_let_in():
    stage = Stage(snapshot=a_snapshot(guarded(), addresses=AddressRules(deny=("192.0.2.8/32",))))
    assert stage.get("/", client_ip="192.0.2.8").exchange.error.internal == "192.0.2.8/32 is denied by the tenant"
    assert stage.get("/", client_ip="192.0.2.7").exchange.error.internal == "192.0.2.7/32 is denied by the route"
    assert stage.get("/", client_ip="192.0.2.9").status == 200


def test_who_may_not_come_is_not_asked_who_he_is():
    stage = Stage(guarded(auth="apikey_required"))
    answer = stage.get("/", ("X-API-Key", "demo_key_abc123"), client_ip="192.0.2.7")
    assert (answer.status, stage.keys.asked, stage.counters.asked) == (403, [], [])


def test_an_address_is_judged_once_and_anew_by_other_rules():
    address.judged.cache_clear()
    stage = Stage(guarded())
    for _ in range(3):
        stage.get("/", client_ip="192.0.2.8")
    assert address.judged.cache_info().misses == 1
    stage.publish(a_snapshot(a_route("/*", access=AccessConfig(addresses=AddressRules(deny=("192.0.2.8/32",))))))
    assert stage.get("/", client_ip="192.0.2.8").status == 403


def test_where_there_are_no_rules_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(address, "admit", None)
    empty = AccessConfig(addresses=AddressRules())
    assert Stage(snapshot=a_snapshot(a_route("/*", access=empty), addresses=AddressRules())).get("/").status == 200


@pytest.mark.parametrize(
    ("snapshot", "said"),
    [
        (a_snapshot(addresses=AddressRules(deny=("nowhere",))), "tenant: a network must be a network like"),
        (
            a_snapshot(a_route("/*", id="r", access=AccessConfig(addresses=AddressRules(allow=("10.0.0.1/8",))))),
            "route r: a network has host bits set",
        ),
    ],
)
def test_rules_that_cannot_be_read_are_never_left_out(snapshot, said):
    with pytest.raises(SnapshotError, match=said):
        compile_snapshot(snapshot)
