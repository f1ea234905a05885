import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from contracts import snapshot as s

GOLDEN = Path(__file__).parent / "golden"


def full_snapshot() -> s.Snapshot:
    return s.Snapshot(
        format=1,
        version=42,
        tenant=s.TenantConfig(
            id="0b7e4a52-0000-4000-8000-000000000001",
            name="demo-company",
            subdomain="demo",
            clerk_org_id="org_2abc",
        ),
        origins=(
            s.OriginConfig(
                id="0b7e4a52-0000-4000-8000-000000000002",
                name="api-backend",
                targets=(s.TargetConfig(id="0b7e4a52-0000-4000-8000-000000000003", url="https://api.example.com"),),
                health_check_path="/health",
            ),
        ),
        routes=(
            s.RouteConfig(
                id="0b7e4a52-0000-4000-8000-000000000004",
                path_pattern="/api/users/*",
                origin_id="0b7e4a52-0000-4000-8000-000000000002",
                auth_mode="jwt_required",
                policies=(
                    s.PolicyConfig(
                        id="0b7e4a52-0000-4000-8000-000000000005",
                        name="default",
                        algorithm="token_bucket",
                        rate_per_second=100.0,
                        burst=200,
                    ),
                ),
                cache=s.CacheConfig(ttl_s=300),
            ),
        ),
    )


def test_the_wire_shape_of_a_snapshot_is_frozen():
    body, sha256 = s.encode(full_snapshot())
    assert body == (GOLDEN / "snapshot.json").read_bytes().rstrip(b"\n")
    assert sha256 == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("scope", ["planet", "header:", "header:A", "header:a b", "header:" + "a" * 65, "ip\n", "xip"])
def test_a_scope_that_is_none_is_refused(scope):
    whole = full_snapshot()
    policy = msgspec.structs.replace(whole.routes[0].policies[0], scope=(scope,))
    route = msgspec.structs.replace(whole.routes[0], policies=(policy,))
    with pytest.raises(s.SnapshotError, match="matching regex"):
        s.decode(*s.encode(msgspec.structs.replace(whole, routes=(route,))))


def test_scopes_and_a_cost_survive_the_journey():
    whole = full_snapshot()
    policy = msgspec.structs.replace(whole.routes[0].policies[0], scope=("user", "header:x-a_b"), cost=5)
    route = msgspec.structs.replace(whole.routes[0], policies=(policy,))
    changed = msgspec.structs.replace(whole, routes=(route,))
    assert s.decode(*s.encode(changed)) == changed


def test_a_snapshot_survives_the_journey():
    assert s.decode(*s.encode(full_snapshot())) == full_snapshot()


def test_tls_settings_travel_with_the_key_sealed_and_their_wire_shape_is_frozen():
    tls = s.OriginTlsConfig(
        ca_certificates="-----BEGIN CERTIFICATE-----\n...",
        server_name="api.internal",
        client_certificate="-----BEGIN CERTIFICATE-----\n...",
        client_key="s1.1.AAAA",
    )
    origin = msgspec.structs.replace(full_snapshot().origins[0], tls=tls)
    published = msgspec.structs.replace(full_snapshot(), origins=(origin,))
    assert s.encode(published)[0] == (GOLDEN / "snapshot_tls.json").read_bytes().rstrip(b"\n")
    assert s.decode(*s.encode(published)) == published


def test_an_origin_without_tls_settings_is_written_as_before_there_were_any():
    """An edge of an earlier release refuses fields it does not know."""
    assert b"tls" not in s.encode(full_snapshot())[0]


def test_services_travel_with_their_secrets_sealed_and_their_wire_shape_is_frozen():
    services = (
        s.ServiceConfig(
            id="s1", name="shop", kind="hmac", key_id="svc_1", scopes=("orders:write",),
            secrets=("s1.1.AAAA", "s1.1.BBBB"), previous_until=1.5, expires_at=2.5, addresses=("192.0.2.0/24",),
        ),
        s.ServiceConfig(id="s2", name="robot", kind="clerk_machine", key_id="mch_1"),
    )  # fmt: skip
    published = msgspec.structs.replace(full_snapshot(), services=services)
    assert s.encode(published)[0] == (GOLDEN / "snapshot_services.json").read_bytes().rstrip(b"\n")
    assert s.decode(*s.encode(published)) == published
    assert b"services" not in s.encode(full_snapshot())[0], (
        "an edge of an earlier release refuses what it does not know"
    )


def _published(document: dict) -> tuple[bytes, str]:
    body = json.dumps(document).encode()
    return body, hashlib.sha256(body).hexdigest()


def test_a_changed_body_is_refused():
    body, sha256 = s.encode(full_snapshot())
    with pytest.raises(s.SnapshotError, match="sha256"):
        s.decode(body.replace(b"demo", b"evil"), sha256)


def test_an_unknown_field_is_refused_rather_than_skipped():
    document = json.loads(s.encode(full_snapshot())[0])
    document["routes"][0]["allow_only_from"] = "10.0.0.0/8"
    with pytest.raises(s.SnapshotError, match="allow_only_from"):
        s.decode(*_published(document))


def test_another_format_is_refused():
    document = json.loads(s.encode(full_snapshot())[0])
    document["format"] = 2
    with pytest.raises(s.SnapshotError, match="format 2"):
        s.decode(*_published(document))


def test_the_wire_shape_of_a_key_record_is_frozen():
    record = s.KeyRecord(id="k1", tenant_id="t1", name="production-key", scopes=("read", "write"), expires_at=1.5)
    assert s.encode_key(record) == (GOLDEN / "key_record.json").read_bytes().rstrip(b"\n")
    assert s.decode_key(s.encode_key(record)) == record


def test_a_broken_key_record_is_refused():
    with pytest.raises(s.SnapshotError):
        s.decode_key(b'{"id": 1}')


def test_no_two_kinds_of_secret_belong_to_the_same_place():
    places = (
        s.client_key_place, s.issuer_secret_place, s.service_secret_place, s.identity_key_place, s.successor_place,
    )  # fmt: skip
    assert len({place("tenant", "noun") for place in places}) == len(places)
