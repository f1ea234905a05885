"""Lists cost the same number of queries at any number of rows, and stay fast in a big tenant."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy import event, text

from devstack.postgres import Postgres
from tests.webapp.cast import Person, a_route, an_origin
from webapp.extensions import db, tenant_scope
from webapp.services.actor import Actor


@contextmanager
def _counted(app: Flask) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    "path", ["/origins", "/routes", "/api-keys", "/services", "/audit-log", "/config/versions", "/tenants"]
)
def test_a_list_costs_a_fixed_number_of_queries(app: Flask, alice: Person, path: str) -> None:
    def fill(start: int, count: int) -> None:
        for number in range(start, start + count):
            origin = alice.make("/origins", an_origin(f"origin-{number}"))["id"]
            alice.make("/routes", a_route(origin))
            alice.make("/api-keys", {"name": f"key-{number}"})
            machine = {"kind": "clerk_machine", "machine_id": f"mch_{number}"}
            alice.make("/services", {"name": f"service-{number}", **machine})

    fill(0, 1)
    alice.get(path)
    with _counted(app) as few:
        assert len(alice.get(path).get_json()["items"]) >= 1
    fill(1, 6)
    with _counted(app) as many:
        assert len(alice.get(path).get_json()["items"]) >= (1 if path == "/tenants" else 6)
    assert len(many) == len(few) <= 8, many


def test_a_page_of_ten_thousand_routes_and_a_hundred_thousand_keys_is_fast(
    app: Flask, alice: Person, demo: Actor, postgres: Postgres
) -> None:
    origin = alice.make("/origins", an_origin())["id"]
    with app.app_context(), tenant_scope(demo.tenant_id) as session:
        tenant = {"tenant": demo.tenant_id, "origin": origin}
        session.execute(text("SET LOCAL statement_timeout = 0"))
        session.execute(
            text(
                "INSERT INTO routes (tenant_id, path_pattern, origin_id, auth_mode, body_bytes_max)"
                " SELECT :tenant, '/r/' || n || '/*', :origin, 'public', 1 FROM generate_series(1, 10000) n"
            ),
            tenant,
        )
        session.execute(
            text(
                "INSERT INTO api_keys (tenant_id, name, key_prefix, last_four, digest)"
                " SELECT :tenant, 'key ' || n, 've_live_', 'abcd', 'v1:' || n FROM generate_series(1, 100000) n"
            ),
            tenant,
        )
        session.commit()
    with psycopg.connect(postgres.url("owner", "webapp_shared"), autocommit=True) as connection:
        connection.execute("ANALYZE routes, api_keys")
    for path in ("/routes", "/api-keys"):
        page = alice.get(f"{path}?limit=200").get_json()
        taken_ms = []
        for _ in range(20):
            began = time.process_time()
            answer = alice.get(f"{path}?limit=200&cursor={page['next_cursor']}")
            taken_ms.append((time.process_time() - began) * 1_000)
            page = answer.get_json()
            assert len(page["items"]) == 200
        # Processor time of ours, since the machine is shared; the query itself is an index range.
        assert sorted(taken_ms)[18] < 50, taken_ms
    with app.app_context(), tenant_scope(demo.tenant_id) as session:
        for table in ("routes", "api_keys"):
            plan = "\n".join(
                session.execute(
                    text(f"EXPLAIN SELECT * FROM {table} WHERE tenant_id = :tenant ORDER BY created_at, id LIMIT 51"),
                    tenant,
                ).scalars()
            )
            assert f"{table}_tenant_id_created_at_id_idx" in plan and "Sort" not in plan, plan
