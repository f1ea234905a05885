"""Whose request it is (edge.phases.tenant)."""

from edge.errors import GatewayError
from edge.phases.tenant import Bulkhead
from tests.edge.fakes import OTHER_TENANT, Pieces, Stage, a_route, a_snapshot


def test_an_unknown_host_is_404_and_never_another_tenant():
    stage = Stage()
    answer = stage.get("/", host="stranger.example.com")
    assert answer.status == 404
    assert b'"tenant-unknown"' in answer.body
    assert stage.origin.requests == []


def test_a_suspended_tenant_is_403():
    stage = Stage(snapshot=a_snapshot(a_route(), status="suspended"))
    answer = stage.get("/")
    assert answer.status == 403
    assert b'"tenant-suspended"' in answer.body


def test_a_request_that_went_through_us_before_is_508():
    stage = Stage()
    assert stage.get("/", ("Via", "1.1 proxy.example, 1.1 vantageedge")).status == 508
    assert stage.get("/", ("Via", "1.1 proxy.example")).status == 200


def test_a_config_that_cannot_be_loaded_is_503():
    stage = Stage()
    stage.config.tenants[b"demo.example.com"] = GatewayError("config-unavailable", "Try again.")
    assert stage.get("/").status == 503


def test_a_tenant_with_too_many_requests_in_flight_is_503_and_its_neighbour_is_served():
    stage = Stage(snapshot=a_snapshot(a_route(), in_flight_max=1))
    stage.publish(a_snapshot(a_route(), id=OTHER_TENANT, subdomain="other"), "other.example.com")
    seen = []

    class AsksAgain(Pieces):
        def read(self):
            if not seen:
                seen.append(stage.get("/"))
                seen.append(stage.get("/", host="other.example.com"))
            return super().read()

    stage.origin.script = [stage.origin.script[0]]
    assert stage.send("POST", "/", body=AsksAgain(b"x")).status == 200
    own, neighbour = seen
    assert (own.status, own["Retry-After"]) == (503, "1")
    assert b'"tenant-overloaded"' in own.body
    assert neighbour.status == 200
    assert stage.get("/").status == 200, "the place is free again"


def test_the_bulkhead_remembers_only_tenants_with_requests_in_flight():
    tenant = Stage().config.tenants[b"demo.example.com"]
    bulkhead = Bulkhead()
    bulkhead.enter(tenant)
    bulkhead.enter(tenant)
    bulkhead.leave(tenant)
    assert bulkhead.in_flight(tenant.id) == 1
    bulkhead.leave(tenant)
    assert bulkhead._in_flight == {}
