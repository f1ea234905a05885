"""What probes need of origins, and what they write back."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from flask import Flask

from tests.origins.authority import Authority
from tests.webapp.cast import Person, an_origin
from webapp.services import origins
from webapp.services.actor import Actor


def test_probes_get_every_target_of_origins_that_want_probing(
    app: Flask, alice: Person, charlie: Person, demo: Actor
) -> None:
    two = [{"url": "https://a.example.com"}, {"url": "https://b.example.com"}]
    probed = alice.make("/origins", an_origin(url=None, targets=two))
    alice.make("/origins", an_origin("unprobed", health_check_path=None))
    foreign = charlie.make("/origins", an_origin(health_check_path="/up"))
    with app.app_context():
        everybodys = {(str(t.target_id), t.health_check_path) for t in origins.probe_targets()}
        own = {str(t.target_id) for t in origins.probe_targets(demo.tenant_id)}
        of_foreign = origins.probe_targets(demo.tenant_id, foreign["targets"][0]["id"])
    wanted = {target["id"] for target in probed["targets"]}
    assert own == wanted
    assert everybodys == {*((target, "/health") for target in wanted), (foreign["targets"][0]["id"], "/up")}
    assert of_foreign == ()


def test_a_probe_is_told_that_tls_settings_changed_but_not_what_they_are(
    app: Flask, alice: Person, demo: Actor
) -> None:
    authority = Authority()
    plain = alice.make("/origins", an_origin("plain"))
    origin = alice.make("/origins", an_origin(tls={"ca_certificates": authority.certificate}))

    def digests() -> dict[str, str | None]:
        with app.app_context():
            return {str(target.origin_id): target.tls_digest for target in origins.probe_targets(demo.tenant_id)}

    first = digests()
    assert first[plain["id"]] is None
    assert len(first[origin["id"]] or "") == 64
    alice.patch(f"/origins/{origin['id']}", {"timeout_seconds": 5})
    assert digests() == first
    alice.patch(f"/origins/{origin['id']}", {"tls": {"server_name": "a.test"}})
    assert digests()[origin["id"]] != first[origin["id"]]
    with app.app_context():
        found = origins.tls_settings([UUID(origin["id"]), UUID(plain["id"])])
    assert found == {
        UUID(origin["id"]): (
            demo.tenant_id,
            {"ca_certificates": authority.certificate, "server_name": "a.test"},
        )
    }


def test_health_is_written_when_it_is_news_and_by_its_own_tenant(
    app: Flask, alice: Person, demo: Actor, other: Actor
) -> None:
    origin = alice.make("/origins", an_origin())
    with app.app_context():
        target = origins.probe_targets(demo.tenant_id)[0].target_id
        since = datetime(2026, 1, 1, tzinfo=UTC)

        def found(actor: Actor, healthy: bool, reason: str) -> bool:
            return origins.record_health(
                actor.tenant_id, target, healthy=healthy, reason=reason, since=since, latency_ms=1.5
            )

        assert found(demo, True, "ok") is True
        assert found(demo, True, "ok") is False
        assert found(demo, False, "timeout") is True
        assert found(other, True, "ok") is False
    shown = alice.get(f"/origins/{origin['id']}").get_json()["targets"][0]
    assert (shown["healthy"], shown["health_reason"], shown["health_latency_ms"]) == (False, "timeout", 1.5)
    assert shown["health_since"] == "2026-01-01T00:00:00Z"
