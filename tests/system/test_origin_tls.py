"""A running edge host and an origin that asks for a certificate: what works, and where the key is not."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from contracts import sealing
from contracts.snapshot import OriginTlsConfig, Snapshot, client_key_place
from devstack.valkey import Valkey
from tests.edge.publishing import DEMO, Publisher, route, snapshot_of
from tests.origins import misbehaving
from tests.origins.authority import Authority, behind, server_context
from tests.origins.misbehaving import Origin
from tests.stored import everything_in
from tests.system.edge_host import EdgeHost

pytestmark = pytest.mark.system
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ONE, BOTH, TWO = (f"1:{'5a' * 32}", f"1:{'5a' * 32},2:{'6b' * 32}", f"2:{'6b' * 32}")
CA = Authority()
SERVER, CLIENT = CA.issue("api.internal.test"), CA.issue("gateway.test")


def published(version: int, url: str, keys: str) -> Snapshot:
    place = client_key_place(DEMO, "origin-1")
    tls = OriginTlsConfig(
        ca_certificates=CA.certificate,
        server_name="api.internal.test",
        client_certificate=CLIENT.certificate,
        client_key=sealing.seal(sealing.parse_keys(keys), CLIENT.key.encode(), place, os.urandom(12)),
    )
    base = snapshot_of(version, (route(1, "/*"),), url)
    return msgspec.structs.replace(base, origins=(msgspec.structs.replace(base.origins[0], tls=tls),))


def files_under(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pem")


def test_the_edge_shows_its_certificate_and_the_key_is_nowhere_in_clear(tmp_path):
    context = server_context(SERVER, tmp_path, clients=CA)
    with (
        Valkey(tmp_path / "store", aof=True) as store,
        Origin(behind(context, misbehaving.answers(OK))) as origin,
    ):
        url = f"https://127.0.0.1:{origin.port}"
        publisher = Publisher(store.url)
        publisher.config(published(1, url, ONE))
        host = EdgeHost(store.url, tmp_path, SEALING_KEYS=ONE)
        with host:
            host.eventually(lambda: host.statuses("/x") == {200})
            # A snapshot sealed under a key this host does not have yet: 502, and no word of why to the client.
            publisher.await_live(publisher.config(published(2, url, TWO)), 2)
            assert host.statuses("/x") == {502}
        # The restart of a rotation: both keys are listed, whatever sealed is opened.
        host = EdgeHost(store.url, tmp_path, SEALING_KEYS=BOTH)
        with host:
            host.eventually(lambda: host.statuses("/x") == {200})
            publisher.await_live(publisher.config(published(3, url, ONE)), 2)
            assert host.statuses("/x") == {200}
        places = {"redis": everything_in(publisher.redis), "files": files_under(tmp_path)}
        publisher.close()
    assert b"s1.1." in places["redis"] and b"s1.1." in places["files"]  # the search looks where the sealed key is
    for line in CLIENT.key.splitlines()[1:-1]:
        assert [where for where, octets in places.items() if line.encode() in octets] == []
    assert b"which is not among the sealing keys" in places["files"]  # the log says it
