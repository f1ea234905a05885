"""Health, metrics, logs, and what happens when a store is away."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask

from devstack.postgres import Postgres
from devstack.valkey import Valkey
from tests.webapp.cast import Person, an_origin, environment, found, session_token
from webapp import ops
from webapp.app import create_app
from webapp.settings import load


def test_ready_means_the_database_answers_with_our_schema(own_app: Flask, valkey: Valkey) -> None:
    client = own_app.test_client()
    assert client.get("/livez").text == "ok\n"
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()) == (200, {"ready": True, "database": "ok", "redis": "ok"})
    valkey.stop()
    without = client.get("/readyz")
    assert (without.status_code, without.get_json()["redis"]) == (200, "away: ConnectionError")


def test_without_a_database_one_is_told_503_and_nothing_hangs(nobody: Person) -> None:
    url = "postgresql://app:pw@127.0.0.1:1/x"
    made = create_app(load(environment(url, url, "redis://127.0.0.1:1/0")))
    client = made.test_client()
    assert client.get("/livez").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()["database"]) == (503, "away: OperationalError")
    answer = Person(made, lambda: session_token("alice")).get("/routes")
    assert (answer.status_code, answer.get_json()["code"]) == (503, "store-unavailable")
    assert answer.headers["Retry-After"] == "2"
    assert "pw" not in answer.text


def test_a_schema_of_another_revision_is_not_ready(postgres: Postgres) -> None:
    empty = postgres.create_database("webapp_empty")
    made = create_app(
        load(environment(postgres.url("app", empty), postgres.url("owner", empty), "redis://127.0.0.1:1/0"))
    )
    assert made.test_client().get("/readyz").status_code == 503
    with made.app_context():
        ops.db.engine.dispose()


def test_a_purge_without_a_broker_is_503(own_app: Flask, valkey: Valkey) -> None:
    found(own_app, "alice", "org_demo", "demo-company", "demo")
    alice = Person(own_app, lambda: session_token("alice"))
    valkey.stop()
    answer = alice.post("/cache/purge", {})
    assert (answer.status_code, answer.get_json()["code"]) == (503, "store-unavailable")


def test_a_purge_is_sent_to_the_workers_queue(alice: Person, demo: Any, store: Any) -> None:
    from contracts import tasks

    answer = alice.post("/cache/purge", {"url": "/api/posts/1?x=1"})
    assert answer.status_code == 202, answer.text
    queued = json.loads(store.lpop(tasks.BROKER_KEY_PREFIX + tasks.QUEUE_PURGE))
    assert (queued["headers"]["task"], queued["headers"]["id"]) == (tasks.CACHE_PURGE, answer.get_json()["id"])
    assert alice.get("/audit-log").get_json()["items"][0]["action"] == "cache.purged"


def test_metrics_answer_this_machine_only(app: Flask, alice: Person) -> None:
    alice.get("/routes")
    client = app.test_client()
    assert 'url_rule="/api/v1/routes"' in client.get("/metrics").text
    assert client.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 404
    assert client.get("/metrics", environ_overrides={"REMOTE_ADDR": "203.0.113.9"}).status_code == 404


def test_one_line_of_json_is_logged_for_a_request_and_no_secret_in_it(
    alice: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    token = session_token("alice")
    alice.post("/origins", an_origin(), headers={"Authorization": f"Bearer {token}", "X-Request-Id": "request-of-test"})
    made = alice.make("/api-keys", {"name": "k"})["key"]
    printed = capsys.readouterr().out
    lines = [json.loads(line) for line in printed.splitlines()]
    line = next(line for line in lines if line["request_id"] == "request-of-test")
    assert (line["event"], line["method"], line["rule"], line["status"]) == (
        "request.done",
        "POST",
        "/api/v1/origins",
        201,
    )
    assert token not in printed and made not in printed


def test_a_request_id_that_is_not_harmless_is_replaced(alice: Person) -> None:
    assert alice.get("/routes", headers={"X-Request-Id": "<script>alert(1)"}).headers["X-Request-Id"].isalnum()


def test_a_bug_is_one_sentence_to_the_client_and_a_line_in_the_log(
    app: Flask, alice: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from webapp.services import routes

    def broken(*_: object) -> None:
        raise KeyError("inside")

    monkeypatch.setattr(routes, "page", broken)
    answer = alice.get("/routes")
    assert (answer.status_code, answer.get_json()["code"]) == (500, "internal-error")
    assert "inside" not in answer.text
    assert "KeyError" in capsys.readouterr().out


def test_an_error_report_carries_no_credential() -> None:
    event = {
        "request": {
            "headers": {"Authorization": "Bearer x", "Cookie": "__session=x", "Accept": "y"},
            "cookies": {"__session": "x"},
            "data": "key",
            "query_string": "token=x",
        }
    }
    assert ops.scrub(event, None) == {
        "request": {"headers": {"Authorization": "[removed]", "Cookie": "[removed]", "Accept": "y"}}
    }
