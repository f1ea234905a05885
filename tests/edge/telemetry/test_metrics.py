from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from edge.telemetry import metrics
from edge.telemetry.metrics import Dump, Meter, dump_meter, merge, render


def no_pause() -> None: ...


def samples(dump):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(render(dump, no_pause).decode())
        for sample in family.samples
    }


def test_the_text_is_what_prometheus_reads():
    meter = Meter()
    cell = meter.cell("demo", "route-1", b"")
    cell.requests[b"GET", 200] = 3
    cell.duration.observe(0.003)
    cell.duration.observe(99.0)
    read = samples(dump_meter(meter, no_pause))
    where = (("route", "route-1"), ("tenant", "demo"))
    labels = (("method", "GET"), *where[:1], ("status", "200"), *where[1:])
    assert read["vantageedge_requests_total", labels] == 3
    buckets = "vantageedge_request_duration_seconds_bucket"
    assert read[buckets, (("le", "0.0025"), *where)] == 0
    assert read[buckets, (("le", "0.005"), *where)] == 1
    assert read[buckets, (("le", "30.0"), *where)] == 1
    assert read[buckets, (("le", "+Inf"), *where)] == 2
    assert read["vantageedge_request_duration_seconds_count", where] == 2
    assert read["vantageedge_request_duration_seconds_sum", where] == 99.003


def test_what_another_release_counts_does_not_break_a_scrape_or_a_burial():
    ours = Dump(histograms={"overhead_seconds": {"": [1.0] * 17}})
    theirs = Dump(counters={"new_total": {"": 2}}, histograms={"overhead_seconds": {"": [1.0] * 12}})
    for dumps in ([ours, theirs], [theirs, ours]):
        read = samples(merge(dumps))
        assert read["vantageedge_new_total", ()] == 2
        assert read["vantageedge_overhead_seconds_count", ()] == 16


def test_a_label_value_cannot_break_out():
    assert metrics.labels(policy='a"b\\c\nd') == 'policy="a\\"b\\\\c\\nd"'


def test_workers_add_up_and_gauges_are_merged_as_they_mean():
    one = Dump(
        counters={"retries_total": {"": 1}}, histograms={"overhead_seconds": {"": [1.0] * 17}},
        summed={"workers": {"": 1}}, largest={"redis_degraded": {"": 0}}, smallest={"config_version": {"t": 4}},
    )  # fmt: skip
    two = Dump(
        counters={"retries_total": {"": 2}}, histograms={"overhead_seconds": {"": [2.0] * 17}},
        summed={"workers": {"": 1}}, largest={"redis_degraded": {"": 1}}, smallest={"config_version": {"t": 3}},
    )  # fmt: skip
    both = merge([one, two])
    assert both.counters["retries_total"] == {"": 3}
    assert both.histograms["overhead_seconds"][""] == [3.0] * 17
    assert (both.summed["workers"], both.largest["redis_degraded"]) == ({"": 2}, {"": 1})
    assert both.smallest["config_version"] == {"t": 3}
    dead = merge([two], counters_only=True)
    assert dead.counters["retries_total"] == {"": 2}
    assert dead.summed == {}


def test_who_gets_a_subdomain_later_counts_on_and_leaves_the_lines_of_who_had_it_alone():
    meter = Meter()
    before = meter.cell("demo", "none", b"tenant 1")
    after = meter.cell("demo", "none", b"tenant 2")
    assert (before.fragment, after.fragment) == (b"tenant 1", b"tenant 2")
    assert meter.cell("demo", "none", b"tenant 1") is before
    before.requests[b"GET", 200] = after.requests.get((b"GET", 200), 0) + 1
    after.requests[b"GET", 200] += 1
    series = dump_meter(meter, no_pause).counters["requests_total"]
    assert series == {'tenant="demo",route="none",method="GET",status="200"': 2}


def test_too_many_routes_are_counted_together_and_that_is_said(monkeypatch):
    monkeypatch.setattr(metrics, "CELLS_MAX", 2)
    meter = Meter()
    for number in range(5):
        meter.cell("demo", f"route-{number}", b"").requests[b"GET", 200] = 1
        cell = meter.cell("demo", f"late-{number}", b"fragment")
        cell.requests[b"POST", 200] = cell.requests.get((b"POST", 200), 0) + 1
    dump = dump_meter(meter, no_pause)
    series = dump.counters["requests_total"]
    assert series['tenant="other",route="other",method="POST",status="200"'] == 4
    assert len(dump.histograms["request_duration_seconds"]) == 3
    assert dump.counters["series_capped_total"][""] > 0


def test_too_many_policies_are_counted_together(monkeypatch):
    monkeypatch.setattr(metrics, "_KEYS_MAX", 2)
    meter = Meter()
    for number in range(5):
        meter.count_verdict((f"policy-{number}", True, "enforce"))
    assert meter.verdicts["other", True, "enforce"] == 3


def test_a_dump_travels_as_bytes_and_garbage_is_none():
    dump = dump_meter(Meter(), no_pause)
    assert metrics.decode(metrics.encode(dump)) == dump
    assert metrics.decode(b"\xff") is None


def test_a_scrape_of_many_series_gives_way_often():
    meter = Meter()
    for number in range(1_000):
        meter.cell("demo", f"route-{number}", b"").requests[b"GET", 200] = 1
    pauses = []
    render(dump_meter(meter, lambda: pauses.append(1)), lambda: pauses.append(1))
    assert len(pauses) >= 15
