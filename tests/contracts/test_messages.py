from pathlib import Path

import pytest

from contracts import messages as m

GOLDEN = Path(__file__).parent / "golden"

CHANGE = m.Change(kind="config", tenant_id="t1", version=42, hosts=("demo.localhost",))
HEARTBEAT = m.Heartbeat(
    edge="edge-1", worker="edge-1-7", pid=7, at=2.5, started_at=1.0, applied="5-0", tenants=3, rejected={"t9": "why"}
)
HEALTH = m.TargetHealth(healthy=False, reason="timeout", checked_at=2.0, since=1.0, latency_ms=0.0, expires_at=32.0)
RENEWAL = m.KeyRenewal(old="v1:00", new="v2:11", proof="22")


@pytest.mark.parametrize(
    ("name", "message", "decode"),
    [
        ("change", CHANGE, m.decode_change),
        ("heartbeat", HEARTBEAT, m.decode_heartbeat),
        ("target_health", HEALTH, m.decode_health),
        ("key_renewal", RENEWAL, m.decode_renewal),
    ],
)
def test_the_wire_shape_is_frozen_and_survives_the_journey(name, message, decode):
    assert m.encode(message) == (GOLDEN / f"{name}.json").read_bytes().rstrip(b"\n")
    assert decode(m.encode(message)) == message


def test_a_change_of_a_kind_from_the_future_is_still_read():
    assert m.decode_change(b'{"kind":"weather","tenant_id":"t1","new_field":1}').kind == "weather"


@pytest.mark.parametrize("decode", [m.decode_change, m.decode_heartbeat, m.decode_health, m.decode_renewal])
def test_garbage_is_refused(decode):
    with pytest.raises(m.MessageError):
        decode(b"{")


@pytest.mark.parametrize(("text", "pair"), [("5-1", (5, 1)), ("", (0, 0)), ("7", (7, 0))])
def test_stream_ids_compare_as_numbers(text, pair):
    assert m.stream_id(text) == pair


@pytest.mark.parametrize("text", ["x", "1-x", "-"])
def test_what_is_no_stream_id_is_refused(text):
    with pytest.raises(m.MessageError):
        m.stream_id(text)
