"""Twin of worker.origin_tls: probes of origins with TLS settings of their own."""

from __future__ import annotations

import dataclasses
import ssl
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from contracts import sealing, snapshot, tasks
from contracts.addresses import parse_networks
from tests.origins import misbehaving
from tests.origins.authority import Authority, behind, server_context
from tests.origins.misbehaving import Origin
from tests.stored import everything_in
from tests.worker.conftest import rows
from webapp.models import Target
from webapp.schemas.origin import OriginNew, OriginPatch
from webapp.services import origins
from worker import checker, origin_tls
from worker.origin_tls import Unusable, of_all, trust_of
from worker.plan import Planned, decode, encode

LOOPBACK = parse_networks("127.0.0.0/8")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CA = Authority()
SERVER = CA.issue("api.internal.test")
CLIENT = CA.issue("gateway.test")
TENANT, ORIGIN = "0b7e4a52-0000-4000-8000-000000000001", "0b7e4a52-0000-4000-8000-000000000002"
KEYS_TEXT = "1:" + "5a" * 32
KEYS = sealing.parse_keys(KEYS_TEXT)
PLACE = snapshot.client_key_place(TENANT, ORIGIN)


def config(**changed) -> snapshot.OriginTlsConfig:
    given = {
        "ca_certificates": CA.certificate,
        "server_name": "api.internal.test",
        "client_certificate": CLIENT.certificate,
        "client_key": sealing.seal(KEYS, CLIENT.key.encode(), PLACE, bytes(12)),
        **changed,
    }
    return snapshot.OriginTlsConfig(**given)


@pytest.fixture
def asking_origin(tmp_path):
    """Wants a client certificate of CA."""
    context = server_context(SERVER, tmp_path, clients=CA)
    with Origin(behind(context, misbehaving.answers(OK))) as running:
        yield running


def probed(origin: Origin, config: snapshot.OriginTlsConfig) -> str:
    trust = checker.Trust(origin_tls.context_of(config, KEYS, PLACE), config.server_name)
    return checker.probe(f"https://127.0.0.1:{origin.port}", "/", LOOPBACK, 3.0, trust).reason


def test_a_probe_trusts_and_shows_what_the_edge_does(asking_origin):
    assert probed(asking_origin, config()) == "ok"
    assert probed(asking_origin, config(server_name="other.test")) == "tls-invalid"
    assert probed(asking_origin, config(ca_certificates=Authority().certificate)) == "tls-invalid"
    assert probed(asking_origin, config(client_certificate=None, client_key=None)) == "tls-failed"
    assert checker.probe(f"https://127.0.0.1:{asking_origin.port}", "/", LOOPBACK, 3.0).reason == "tls-invalid"


def test_a_probe_verifies_by_tls_1_2_or_later():
    for context in (origin_tls.context_of(config(), KEYS, PLACE), checker.verifying(None)):
        assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    "bad", [{"client_key": None}, {"ca_certificates": "x"}, {"client_key": "s1.9.AAAA"}, {"client_key": "s1.1.AAAA"}]
)
def test_what_cannot_be_loaded_is_an_error(bad):
    with pytest.raises((ValueError, OSError)):
        origin_tls.context_of(config(**bad), KEYS, PLACE)


def test_a_plan_without_tls_settings_is_written_as_before_there_were_any():
    planned = Planned(tenant_id="t", origin_id="o", target_id="g", url="http://h", path="/")
    assert encode(planned) == b'{"tenant_id":"t","origin_id":"o","target_id":"g","url":"http://h","path":"/"}'
    assert decode(encode(planned)) == planned
    with_tls = Planned(tenant_id="t", origin_id="o", target_id="g", url="http://h", path="/", tls="d")
    assert decode(encode(with_tls)) == with_tls


def a_target(digest: str) -> Planned:
    return Planned(tenant_id=TENANT, origin_id=ORIGIN, target_id="g", url="https://h", path="/", tls=digest)


@pytest.fixture
def stored(monkeypatch):
    """What PostgreSQL holds: origin -> (tenant, document), or an error; and what was asked for."""
    held: dict[UUID, object] = {UUID(ORIGIN): (UUID(TENANT), {"ca_certificates": CA.certificate})}
    asked = []

    def answer(ids):
        asked.append(list(ids))
        if "away" in held:
            raise OperationalError("SELECT", {}, Exception("away"))
        return {key: value for key, value in held.items() if key in ids}

    class Given:
        console = dataclasses.make_dataclass("Console", ["sealing_keys"])(KEYS)

    origin_tls._kept.clear()
    monkeypatch.setattr(origin_tls.origins, "tls_settings", answer)
    monkeypatch.setattr(origin_tls, "settings", Given)
    yield held, asked
    origin_tls._kept.clear()


def test_settings_are_read_once_for_each_digest_and_not_at_all_for_targets_without(stored):
    _, asked = stored
    plain = a_target("")
    assert of_all([plain]) == {}
    assert trust_of(plain, {}) is None
    known = of_all([a_target("d1"), a_target("d1"), plain])
    assert trust_of(a_target("d1"), known).context.get_ca_certs()
    assert of_all([a_target("d1")]) == known
    assert asked == [[UUID(ORIGIN)]]
    of_all([a_target("d2")])
    assert len(asked) == 2


def test_while_postgresql_is_away_what_is_known_is_probed_and_what_is_new_waits(stored):
    held, _ = stored
    of_all([a_target("d1")])
    held["away"] = True
    known = of_all([a_target("d1"), a_target("d2")])
    assert trust_of(a_target("d1"), known)
    with pytest.raises(KeyError):
        trust_of(a_target("d2"), known)


def test_settings_that_cannot_be_used_are_said_so_and_those_of_a_gone_origin_wait(stored):
    held, _ = stored
    held[UUID(ORIGIN)] = (UUID(TENANT), {"client_certificate": CLIENT.certificate, "client_key_sealed": "s1.9.AAAA"})
    with pytest.raises(Unusable):
        trust_of(a_target("d1"), of_all([a_target("d1")]))
    held.clear()
    assert of_all([a_target("d2")]) == {}


def test_what_is_kept_is_bounded(stored, monkeypatch):
    monkeypatch.setattr(origin_tls, "_KEPT_MAX", 2)
    known = of_all([a_target(f"d{number}") for number in range(5)])
    assert len(known) == 5
    assert len(origin_tls._kept) == 2


@pytest.mark.system
def test_a_worker_probes_an_origin_that_asks_for_a_certificate(bench, asking_origin):
    bench.environ["SEALING_KEYS"] = KEYS_TEXT
    settings = bench.app.extensions["vantageedge.settings"]
    bench.app.extensions["vantageedge.settings"] = dataclasses.replace(settings, sealing_keys=KEYS)
    given = {
        "ca_certificates": CA.certificate,
        "server_name": "api.internal.test",
        "client_certificate": CLIENT.certificate,
        "client_key": CLIENT.key,
    }
    url = f"https://127.0.0.1:{asking_origin.port}"
    with bench.app.app_context():
        new = OriginNew(name="secure", url=url, health_check_path="/", tls=given)
        view = origins.create(bench.actor, new).view
    target_id = str(view.targets[0].id)
    statement = select(Target.healthy, Target.health_reason).where(Target.id == target_id)
    worker = bench.worker()
    bench.send(tasks.HEALTH_CHECK, bench.tenant_id, str(view.id))
    bench.wait(lambda: bench.health(target_id), "the verdict")
    assert tuple(rows(bench, statement)[0]) == (True, "ok")

    with bench.app.app_context():
        origins.update(bench.actor, view.id, OriginPatch.model_validate({"tls": {"client_certificate": None}}))

    def fails() -> bool:
        bench.send(tasks.HEALTH_CHECK, bench.tenant_id, str(view.id))
        return tuple(rows(bench, statement)[0]) == (False, "tls-failed")

    bench.wait(fails, "the target to be down")
    with bench.redis() as client:
        in_redis = everything_in(client)
    assert str(view.id).encode() in in_redis
    for line in CLIENT.key.splitlines()[1:-1]:
        assert line.encode() not in in_redis
        assert line not in worker.log.read_text()
