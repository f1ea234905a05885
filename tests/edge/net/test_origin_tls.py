"""Twin of edge.net.origin_tls: TLS to origins, with real servers and certificates."""

from __future__ import annotations

import gc
import logging
import ssl
import warnings
from pathlib import Path

import pytest

from contracts import sealing
from contracts.snapshot import OriginTlsConfig, client_key_place
from edge.errors import GatewayError, Retry
from edge.net import origin_tls
from edge.net.origin_tls import OriginContexts, default_context
from edge.snapshot import OriginTls
from tests.edge.net.gateway import Gateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.authority import Authority, Identity, behind, server_context
from tests.origins.misbehaving import Origin

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
KEYS = sealing.parse_keys("1:" + "5a" * 32)
NEWER = sealing.parse_keys("1:" + "5a" * 32 + ",2:" + "6b" * 32)
CA = Authority()
SERVER = CA.issue("localhost", "api.internal.test")
CLIENT = CA.issue("gateway.test")


def settings(
    identity: Identity | None = None, *, keys=KEYS, tenant: str = "tenant", origin: str = "origin", **config: str
) -> OriginTls:
    config.setdefault("ca_certificates", CA.certificate)
    if identity is not None:
        place = client_key_place(tenant, origin)
        config["client_certificate"] = identity.certificate
        config["client_key"] = sealing.seal(keys, identity.key.encode(), place, bytes(12))
    return OriginTls(OriginTlsConfig(**config), tenant, origin)


def https(tmp_path: Path, identity: Identity = SERVER, *, clients: Authority | None = None, **changed) -> Origin:
    context = server_context(identity, tmp_path, clients=clients)
    for name, value in changed.items():
        setattr(context, name, value)
    return Origin(behind(context, origins.answers(OK)))


def answer(origin: Origin, tls: OriginTls | None, host: str = "localhost", keys=KEYS):
    """Give status and error of one request."""
    with Gateway(f"https://{host}:{origin.port}", sealing_keys=keys) as gateway:
        gateway.pipeline.tls = tls
        status = gateway.get().status
        eventually(lambda: status == 200 or gateway.upstream.connections == 0)
        return status, gateway.pipeline.errors[0] if gateway.pipeline.errors else None


def test_a_private_authority_is_believed_by_the_origin_that_names_it_and_by_nobody_else(tmp_path):
    with https(tmp_path) as origin:
        assert answer(origin, settings())[0] == 200
        for other in (None, settings(ca_certificates=Authority().certificate)):
            status, error = answer(origin, other)
            assert (status, error.proxy_error) == (502, "tls_certificate_error")
            assert error.retry is Retry.NOTHING_SENT


def test_own_authorities_stand_instead_of_the_systems(tmp_path):
    assert OriginContexts({}).of(settings()).get_ca_certs()[0]["subject"][0][0] == ("commonName", "Our own CA")
    assert len(OriginContexts({}).of(settings()).get_ca_certs()) == 1


@pytest.mark.parametrize(
    "identity",
    [
        CA.issue("localhost", days=-1),
        CA.issue("localhost", from_days=2),
        CA.issue("other.test"),
        CA.issue("127.0.0.1"),
        Authority().issue("localhost"),
    ],
    ids=["expired", "not yet valid", "another name", "another address", "another authority"],
)
def test_a_certificate_that_does_not_prove_the_name_now_is_refused(tmp_path, identity):
    with https(tmp_path, identity) as origin:
        status, error = answer(origin, settings())
        assert (status, error.problem.slug, error.proxy_error) == (502, "origin-unreachable", "tls_certificate_error")
        assert error.detail == "No secure connection to the origin could be made."


def test_the_server_name_is_sent_and_verified_instead_of_the_host(tmp_path):
    asked = []

    def remember(sock, name, context):
        asked.append(name)

    with https(tmp_path, CA.issue("api.internal.test"), sni_callback=remember) as origin:
        assert answer(origin, settings(server_name="api.internal.test"), "127.0.0.1")[0] == 200
        assert asked == ["api.internal.test"]
        assert answer(origin, settings(server_name="evil.test"), "127.0.0.1")[1].proxy_error == "tls_certificate_error"
        assert answer(origin, settings(), "127.0.0.1")[1].proxy_error == "tls_certificate_error"


def test_a_server_name_alone_still_means_the_systems_roots():
    tls = settings(server_name="api.internal.test", ca_certificates=None)
    assert OriginContexts({}).of(tls) is default_context()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_origin_that_asks_for_a_client_certificate_gets_it(tmp_path, version):
    with https(tmp_path, clients=CA, minimum_version=version, maximum_version=version) as origin:
        assert answer(origin, settings(CLIENT))[0] == 200
        status, error = answer(origin, settings())
        assert status == 502
        # By TLS 1.3 the refusal comes after our handshake; its alert may be overtaken by a reset.
        assert error.proxy_error in ("tls_alert_received", "tls_protocol_error", "connection_terminated")
        assert answer(origin, settings(Authority().issue("gateway.test")))[0] == 502


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_an_origin_that_speaks_no_tls_1_2_is_refused(tmp_path, version):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = server_context(SERVER, tmp_path)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
    with Origin(behind(context, origins.answers(OK))) as origin:
        status, error = answer(origin, settings())
        assert (status, error.proxy_error) == (502, "tls_protocol_error")


def test_tenants_and_tls_settings_never_share_a_connection(tmp_path):
    with (
        https(tmp_path, clients=CA) as origin,
        Gateway(f"https://localhost:{origin.port}", sealing_keys=KEYS) as gateway,
    ):
        pipeline = gateway.pipeline

        def ask(tenant: str, tls: OriginTls) -> bool:
            pipeline.tenant_id, pipeline.tls = tenant, tls
            assert gateway.get().status == 200
            return pipeline.reused[-1]

        mine, again, others = settings(CLIENT), settings(CLIENT), settings(CA.issue("another.test"))
        assert [ask("tenant", mine), ask("tenant", mine), ask("tenant", again)] == [False, True, True]
        assert ask("tenant", others) is False
        assert ask("tenant", mine) is True
        assert ask("tenant-2", settings(CLIENT, tenant="tenant-2")) is False
        pipeline.tenant_id, pipeline.tls = "tenant", settings()
        assert gateway.get().status == 502  # without the certificate: not over a connection that was opened with it
        assert origin.connections == 4


def test_a_key_sealed_under_an_older_sealing_key_opens_while_that_is_listed(tmp_path):
    with https(tmp_path, clients=CA) as origin:
        assert answer(origin, settings(CLIENT), keys=NEWER)[0] == 200
        assert answer(origin, settings(CLIENT, keys=NEWER), keys=NEWER)[0] == 200
        status, error = answer(origin, settings(CLIENT), keys={2: NEWER[2]})
        assert status == 502
        assert "sealed under key 1, which is not among the sealing keys" in error.internal


def refused(contexts: OriginContexts, tls: OriginTls) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        contexts.of(tls)
    error = caught.value
    assert (error.problem.slug, error.problem.status) == ("origin-unreachable", 502)
    assert (error.proxy_error, error.retry) == ("proxy_configuration_error", Retry.NEVER)
    assert error.internal.startswith("its TLS settings cannot be used: ")
    return error


def test_settings_that_cannot_be_used_end_the_attempt_and_nothing_is_sent(tmp_path):
    sealed = settings(CLIENT)
    moved = OriginTls(
        OriginTlsConfig(
            ca_certificates=CA.certificate, client_certificate=CLIENT.certificate, client_key=sealed.client_key
        ),
        "tenant",
        "another-origin",
    )
    contexts = OriginContexts(KEYS)
    contexts.of(sealed)
    assert "belongs elsewhere" in refused(contexts, moved).internal
    refused(contexts, settings(ca_certificates="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
    refused(contexts, settings(client_certificate=CLIENT.certificate))
    refused(contexts, settings(Identity(CLIENT.certificate, CA.issue("x.test").key)))
    refused(OriginContexts({}), sealed)
    with https(tmp_path) as origin:
        status, error = answer(origin, moved)
        assert (status, error.proxy_error) == (502, "proxy_configuration_error")
        assert origin.connections == 0


def test_a_context_is_made_once_for_equal_settings_and_contexts_are_bounded(monkeypatch):
    monkeypatch.setattr(origin_tls, "_CONTEXTS_MAX", 2)
    contexts = OriginContexts(KEYS)
    first = contexts.of(settings())
    second = contexts.of(settings(CLIENT))
    assert contexts.of(settings()) is first is not second
    contexts.of(settings(ca_certificates=Authority().certificate))
    assert repr(contexts) == "<OriginContexts 2>"
    assert contexts.of(settings()) is first  # used last, kept
    assert contexts.of(settings(CLIENT)) is not second


def test_every_context_verifies_chain_and_name_by_tls_1_2_or_later():
    for tls in (settings(), settings(CLIENT), settings(CLIENT, ca_certificates=None), settings(ca_certificates=None)):
        context = OriginContexts(KEYS).of(tls)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_client_certificate_alone_still_means_the_systems_roots(tmp_path):
    tls = settings(CLIENT, ca_certificates=None)
    with https(tmp_path) as origin:
        assert answer(origin, tls)[1].proxy_error == "tls_certificate_error"


def test_the_systems_roots_are_read_by_name_only_where_that_is_the_same(monkeypatch, tmp_path):
    def by_name(cafile: str, capath: str, compiled: str) -> str | None:
        origin_tls._roots_by_name.cache_clear()
        paths = ssl.DefaultVerifyPaths(cafile, capath, "", compiled, "", "")
        monkeypatch.setattr(origin_tls.ssl, "get_default_verify_paths", lambda: paths)
        return origin_tls._roots_by_name()

    folder = tmp_path / "certs"
    folder.mkdir()
    bundle, chosen, elsewhere = folder / "all.crt", folder / "chosen.crt", tmp_path / "x.crt"
    try:
        assert by_name("", str(folder), str(bundle)) is None  # not hashed
        (folder / "0a1b2c3d.0").touch()
        assert by_name("", str(folder), str(bundle)) == str(folder)
        assert by_name(str(bundle), str(folder), str(bundle)) == str(folder)
        assert by_name(str(chosen), str(folder), str(bundle)) is None
        assert by_name(str(elsewhere), str(folder), str(elsewhere)) is None
        assert by_name(str(bundle), "", str(bundle)) is None
    finally:
        origin_tls._roots_by_name.cache_clear()


def test_a_private_key_is_in_no_repr_message_log_or_file(tmp_path, caplog):
    line = CLIENT.key.splitlines()[1]
    caplog.set_level(logging.DEBUG)
    tls = settings(CLIENT)
    contexts = OriginContexts(KEYS)
    context = contexts.of(tls)
    error = refused(OriginContexts({1: bytes(32)}), tls)
    shown = " ".join(map(repr, (tls, contexts, context, error, error.args)))
    assert line not in shown + caplog.text
    gc.collect()
    assert not [fd for fd in Path("/proc/self/fd").iterdir() if "origin-tls" in str(fd.resolve())]


def test_where_memory_has_no_files_a_private_one_is_used_and_removed(monkeypatch):
    monkeypatch.delattr(origin_tls.os, "memfd_create")
    with origin_tls._in_memory(b"x") as path:
        assert Path(path).read_bytes() == b"x"
        assert Path(path).stat().st_mode & 0o077 == 0
    assert not Path(path).exists()
