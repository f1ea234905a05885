from __future__ import annotations

import json
import os
import stat

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import GatewayError
from edge.exchange import Principal
from edge.ports import Verdict
from edge.snapshot import compile_snapshot
from edge.telemetry import access_log
from edge.telemetry.access_log import AccessLog, redacted
from edge.telemetry.metrics import Cell, Meter
from edge.telemetry.recorder import Recorder
from tests.edge.publishing import DEMO, bucket, route, snapshot_of

_KEY = Principal("key", "key-1")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.log"


@pytest.fixture
def log(path):
    return AccessLog(str(path))


@pytest.fixture
def recorder(log):
    return Recorder(Meter(), log)


def lines(log, path):
    log.stop()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_has_the_names_of_opentelemetry(recorder, log, path, make_exchange):
    exchange = make_exchange(query=b"a=1", fields=[(b"user-agent", b"curl/8")])
    exchange.principal = Principal("key", "key-1")
    exchange.verdicts = (Verdict(bucket(), True, 4, 1.0),)
    exchange.cache_result = "miss"
    recorder.record(exchange)
    assert lines(log, path) == [
        {
            "timestamp": "2023-11-14T22:13:20.250Z", "request.id": "0197-id", "tenant.id": DEMO,
            "tenant.subdomain": "demo", "route.id": "route-1", "http.route": "/public/*", "url.scheme": "http",
            "network.protocol.version": "1.1", "server.address": "demo.localhost", "user_agent.original": "curl/8",
            "http.request.method": "GET", "url.path": "/public/x", "client.address": "127.0.0.1",
            "http.response.status_code": 200, "duration_ms": 4.0, "http.request.size": 100, "http.response.size": 300,
            "upstream.duration_ms": 2.0, "upstream.target": "target-1", "principal.kind": "key",
            "principal.id": "key-1", "rate_limit.result": "allowed", "cache.result": "miss", "url.query": "a=1",
        }
    ]  # fmt: skip


def _nothing(exchange):
    pass


def _another_client(exchange):
    exchange.client_ip = "198.51.100.9"


def _another_scheme(exchange):
    exchange.scheme = b"https"


def _another_principal(exchange):
    exchange.principal = Principal("key", "key-2")


def _another_version(exchange):
    exchange.tenant = compile_snapshot(snapshot_of(2, (route(7, "/public/{id}"),)))
    exchange.route = exchange.tenant.routes[0]


def _refused_before_its_path_was_read(exchange):
    exchange.path = b""


@pytest.mark.parametrize(
    "what_changes",
    [
        _nothing, _another_client, _another_scheme, _another_principal, _another_version,
        _refused_before_its_path_was_read,
    ],
)  # fmt: skip
def test_an_equal_request_is_written_as_if_it_were_the_first(recorder, log, path, make_exchange, what_changes):
    """Equal heads share what was written of the one before; nothing of it may be another caller's or version's."""
    first, shared, fresh = (make_exchange(path=b"/public/%41", query=b"a=1") for _ in range(3))
    shared.head = first.head
    for exchange in (first, shared, fresh):
        exchange.principal = _KEY
        exchange.path = b"/public/A"
    for exchange in (shared, fresh):
        what_changes(exchange)
    for exchange in (first, shared, fresh):
        recorder.record(exchange)
    written = lines(log, path)
    assert written[1] == written[2]
    assert (written[0] == written[1]) is (what_changes is _nothing)


def test_whatever_a_client_sends_a_line_is_json(recorder, log, path, make_exchange):
    nasty = b'"\\\x7f\xff\xc3\xa9/../"}'
    exchange = make_exchange(path=nasty, query=nasty, host=nasty, method=b"G'ET", fields=[(b"user-agent", nasty)])
    exchange.principal = Principal("user", 'user_"\\')
    recorder.record(exchange)
    recorder.record(make_exchange(path=nasty, matched=False))
    written = lines(log, path)
    assert len(written) == 2
    assert written[0]["principal.id"] == 'user_"\\'
    assert written[1]["tenant.id"] is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.tuples(*[st.binary(max_size=12)] * 5),
    st.tuples(*[st.text(st.characters(), max_size=6)] * 3),
    st.binary(min_size=1, max_size=3),
)
def test_a_line_is_one_line_of_json_in_ascii_for_any_bytes(make_exchange, octets, texts, repeated):
    """There are ends of lines and controls of terminals beyond ASCII (U+2028, U+0085, U+009B), and texts that are no
    Unicode. The second time is the remembered one."""
    path, query, host, method, agent = octets
    subject, internal, pattern = texts
    encoder = access_log.Encoder()
    exchange = make_exchange(path, query, host=host, method=method, fields=[(b"user-agent", agent + repeated * 200)])
    exchange.principal = Principal("user", subject)
    exchange.error = GatewayError("origin-unreachable", "The origin is away.", internal=internal)
    cell = Cell("demo", "route-1", access_log.fragment(DEMO, "demo", "route-1", pattern))
    first, again = (encoder.exchange(cell, exchange, 502) for _ in range(2))
    assert first == again
    assert first.isascii()
    assert first.splitlines(keepends=True) == [first]
    line = json.loads(first)
    assert line["user_agent.original"] == (agent + repeated * 200).decode("utf-8", "replace")
    assert line.get("error.message", "") == internal
    assert line.get("http.route", "") == pattern


def test_a_line_that_cannot_be_written_is_not_the_last_one(recorder, log, path, make_exchange, caplog):
    log.start()
    log.exchanges.append((None, None, 200))
    gevent.sleep(0.3)
    recorder.record(make_exchange())
    gevent.sleep(0.3)
    assert "a batch of the access log is lost" in caplog.text
    assert len(lines(log, path)) == 1


def test_what_waits_is_bounded_by_octets_too(recorder, log, path, make_exchange, monkeypatch):
    """Lines are as long as clients make their fields: 30 KiB each, where somebody wants to fill memory."""
    monkeypatch.setattr(access_log, "BYTES_MAX", 100_000)
    for number in range(10):
        recorder.record(make_exchange(fields=[(b"user-agent", b"%d" % number * 30_000)]))
        log.encode()
    assert log.dropped_total == 7
    assert [line["user_agent.original"][0] for line in lines(log, path)] == ["7", "8", "9"]
    assert log._bytes_waiting == 0


def test_no_credential_is_written(recorder, log, path, make_exchange):
    fields = [(b"authorization", b"Bearer s3cr3t"), (b"x-api-key", b"s3cr3t"), (b"cookie", b"__session=s3cr3t")]
    recorder.record(make_exchange(query=b"page=2&api_key=s3cr3t&%74oken=s3cr3t&X-Amz-Signature=s3cr3t", fields=fields))
    (line,) = lines(log, path)
    assert "s3cr3t" not in json.dumps(line)
    assert line["url.query"] == "page=2&api_key=REDACTED&%74oken=REDACTED&X-Amz-Signature=REDACTED"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (b"", b""), (b"a&b=1", b"a&b=1"), (b"PASSWORD=x=y", b"PASSWORD=REDACTED"), (b"pass=x", b"pass=REDACTED"),
        (b"a=1;b=2;c", b"a=1;b=2;c"), (b"a=1;token=x&b=2", b"a=1;token=REDACTED&b=2"),
        (b"token=x;y;z=1&b=2", b"token=REDACTED&b=2"), (b"SAMLResponse=x&client_assertion=y",
        b"SAMLResponse=REDACTED&client_assertion=REDACTED"),
    ],
)  # fmt: skip
def test_only_values_of_secret_names_are_redacted(query, shown):
    assert redacted(query) == shown


def test_an_error_says_what_happened_inside(recorder, log, path, make_exchange):
    exchange = make_exchange(status=502)
    exchange.error = GatewayError("origin-unreachable", "The origin is away.", internal="connect 10.0.0.1 refused")
    recorder.record(exchange)
    (line,) = lines(log, path)
    assert (line["error.type"], line["error.at_fault"]) == ("origin-unreachable", "origin")
    assert line["error.message"] == "connect 10.0.0.1 refused"


def test_a_client_that_left_is_a_499(recorder, log, path, make_exchange):
    exchange = make_exchange()
    exchange.client_gone = True
    recorder.record(exchange)
    (line,) = lines(log, path)
    assert line["http.response.status_code"] == 499
    assert line["client.gone"] is True


def test_a_request_that_never_parsed_has_a_line(recorder, log, path):
    recorder.refused(GatewayError("request-malformed", "no"), "127.0.0.1", b"0197-id")
    (line,) = lines(log, path)
    assert (line["http.response.status_code"], line["error.type"]) == (400, "request-malformed")


def test_the_writer_writes_by_itself_and_the_file_is_not_for_everybody(recorder, log, path, make_exchange):
    log.start()
    recorder.record(make_exchange())
    gevent.sleep(0.2)
    assert path.read_text().count("\n") == 1
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
    log.stop()


def test_after_rotation_it_writes_to_the_new_file(recorder, log, path, make_exchange):
    path.rename(path.with_suffix(".1"))
    log.reopen()
    recorder.record(make_exchange())
    assert len(lines(log, path)) == 1


def test_a_reader_that_stops_costs_the_oldest_lines_and_nothing_else(make_exchange, tmp_path, monkeypatch):
    monkeypatch.setattr(access_log, "LINES_MAX", 100)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(fifo))
    recorder = Recorder(Meter(), log)
    log.start()
    try:
        for _ in range(60):  # 65 KiB fill the pipe; the rest waits in memory
            for _ in range(50):
                recorder.record(make_exchange())
            gevent.sleep(0.03)
        assert log.dropped_total > 1_000
        assert log._lines_waiting <= 150
    finally:
        os.set_blocking(reader, True)
        while len(os.read(reader, 1 << 20)) == 0 or log._blobs:
            gevent.sleep(0.01)
        os.set_blocking(reader, False)
        log._writer.kill()
        gevent.sleep(0.05)
        os.close(reader)
