from __future__ import annotations

from edge.errors import GatewayError
from edge.ports import Verdict
from edge.snapshot import compile_snapshot
from edge.telemetry.access_log import AccessLog
from edge.telemetry.metrics import Meter, dump_meter
from edge.telemetry.recorder import Recorder
from tests.edge.publishing import bucket, route, snapshot_of


def record(*exchanges):
    meter = Meter()
    recorder = Recorder(meter, AccessLog("/dev/null"))
    for exchange in exchanges:
        recorder.record(exchange)
    return dump_meter(meter, lambda: None)


def test_requests_are_counted_by_tenant_route_method_and_status(make_exchange):
    dump = record(make_exchange(), make_exchange(), make_exchange(status=503), make_exchange(matched=False, status=404))
    assert dump.counters["requests_total"] == {
        'tenant="demo",route="route-1",method="GET",status="200"': 2,
        'tenant="demo",route="route-1",method="GET",status="503"': 1,
        'tenant="none",route="none",method="GET",status="404"': 1,
    }


def test_time_is_split_between_the_origin_and_us(make_exchange):
    dump = record(make_exchange())
    where = 'tenant="demo",route="route-1"'
    assert round(dump.histograms["request_duration_seconds"][where][-1], 6) == 0.004
    assert round(dump.histograms["upstream_duration_seconds"][where][-1], 6) == 0.002
    assert round(dump.histograms["overhead_seconds"][""][-1], 6) == 0.002


def test_a_method_of_the_clients_own_making_is_other(make_exchange):
    dump = record(*(make_exchange(method=b"M%d" % number) for number in range(10)))
    assert dump.counters["requests_total"] == {'tenant="demo",route="route-1",method="other",status="200"': 10}


def test_limits_cache_errors_and_retries_are_counted(make_exchange):
    exchange = make_exchange(status=429)
    exchange.verdicts = (Verdict(bucket("p"), False, 0, 1.0), Verdict(bucket("q", mode="shadow"), True, 0, 1.0))
    exchange.cache_result, exchange.cache_reason = "bypass", "method"
    exchange.error = GatewayError("quota-exceeded", "no")
    exchange.attempts = 3
    counters = record(exchange).counters
    assert counters["ratelimit_decisions_total"] == {
        'policy="p",decision="refused",mode="enforce"': 1,
        'policy="q",decision="allowed",mode="shadow"': 1,
    }
    assert counters["cache_requests_total"] == {'result="bypass",reason="method"': 1}
    assert counters["errors_total"] == {'code="quota-exceeded",at_fault="client"': 1}
    assert counters["retries_total"] == {"": 2}


def test_a_new_version_of_the_config_counts_into_the_same_series(make_exchange):
    first, second = make_exchange(), make_exchange()
    second.tenant = compile_snapshot(snapshot_of(2, (route(1, "/public/{id}"),)))
    second.route = second.tenant.routes[0]
    dump = record(first, second)
    assert dump.counters["requests_total"] == {'tenant="demo",route="route-1",method="GET",status="200"': 2}
    assert second.route.meter.fragment != b""


def test_an_exchange_that_cannot_be_recorded_harms_nobody(make_exchange, caplog):
    broken = make_exchange()
    broken.head = None
    record(broken, make_exchange())
    assert "could not be recorded" in caplog.text
