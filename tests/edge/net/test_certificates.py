"""Twin of edge.net.certificates and certificate_watch: which pair serves which name, and what a change does."""

from __future__ import annotations

import os
import ssl
import threading
import time

import gevent
import pytest

from edge.net.certificate_watch import CertificateWatch
from edge.net.certificates import CertificateError, Certificates, DefaultMissing, Names, load_pair
from tests.edge.net import authority


def chosen(certificates: Certificates, name: str | None) -> tuple[Names | None, str]:
    """Shake hands in memory; gives what the presented certificate covers, or the alert the client got."""
    client_in, client_out = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = context.wrap_bio(client_in, client_out, server_hostname=name)
    server_in, server_out = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.context.wrap_bio(server_in, server_out, server_side=True)
    ends = [(client, client_out, server_in), (server, server_out, client_in)]
    for _ in range(4):
        for end, out, other_in in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                if end is client:
                    return None, str(error.reason)
            other_in.write(out.read())
    return certificates.names_of(server.context), client.version() or ""


@pytest.fixture
def folder(tmp_path):
    authority.put(tmp_path, "a", "a.example")
    authority.put(tmp_path, "wild", "*.example", "EXAMPLE.", "192.0.2.7", "2001:db8::7")
    return tmp_path


@pytest.fixture
def certificates(folder):
    certificates = Certificates(folder)
    certificates.check()
    return certificates


def test_the_exact_name_comes_before_the_wildcard(certificates):
    assert chosen(certificates, "a.example") == (Names(frozenset({b"a.example"}), frozenset()), "TLSv1.3")
    assert chosen(certificates, "b.example")[0].wildcards == {b"example"}
    assert chosen(certificates, "B.Example")[0].wildcards == {b"example"}


@pytest.mark.parametrize("name", ["x.b.example", "other.test", "-"])
def test_a_name_that_nobody_covers_is_refused_by_name(certificates, name):
    """RFC 6066 section 3: "the server SHOULD take one of two actions: either abort the handshake by sending a
    fatal-level unrecognized_name(112) alert or continue the handshake." The wildcard is one label."""
    assert chosen(certificates, name) == (None, "TLSV1_UNRECOGNIZED_NAME")


def test_the_common_name_is_no_name(folder, certificates):
    """RFC 9525 section 2: "The Common Name RDN [...] MUST NOT be used"."""
    (folder / "wild.crt").unlink()
    (folder / "wild.key").unlink()
    certificates.scan()
    assert chosen(certificates, "common.example") == (None, "TLSV1_UNRECOGNIZED_NAME")


def test_who_asks_for_no_name_gets_the_default_or_nothing(folder, certificates):
    assert chosen(certificates, None) == (None, "TLSV1_UNRECOGNIZED_NAME")
    with_default = Certificates(folder, "a")
    with_default.check()
    assert chosen(with_default, None)[0].exact == {b"a.example"}
    assert chosen(with_default, "other.test") == (None, "TLSV1_UNRECOGNIZED_NAME")


def test_a_name_that_is_none_fails_alone_and_in_silence(certificates, capfd):
    """What the standard library does with such a name would be a traceback for each."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for bad in (b"\xff\xfe\xfd.example", b"a..........."):
        out = ssl.MemoryBIO()
        client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="aaaa.example")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = out.read().replace(b"aaaa.example", bad[:12].ljust(12, b"."))
        incoming = ssl.MemoryBIO()
        server = certificates.context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
        incoming.write(hello)
        with pytest.raises(ssl.SSLError):
            server.do_handshake()
    assert capfd.readouterr().err == ""
    assert chosen(certificates, "a.example")[1] == "TLSv1.3"


def test_tls_1_1_and_weak_ciphers_are_not_spoken(certificates):
    context = certificates.context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    names = {cipher["name"] for cipher in context.get_ciphers()}
    assert names and all("GCM" in name or "CHACHA20" in name for name in names)
    assert all(name.startswith(("TLS_", "ECDHE-")) for name in names)


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        (b"example", True), (b"b.example", True), (b"b.c.example", False), (b"192.0.2.7", True), (b"192.0.2.8", False),
        (b"[2001:db8::7]", True), (b"other", False), (b"", False),
    ],
)  # fmt: skip
def test_a_certificate_covers_its_names_and_addresses(certificates, host, covered):
    assert certificates.pairs["wild"].names.cover(host) is covered


def test_a_changed_pair_is_in_force_after_the_next_look(folder, certificates):
    before = certificates.pairs["a"]
    authority.put(folder, "a", "a2.example")
    assert chosen(certificates, "a2.example")[0].wildcards  # by the wildcard still
    certificates.scan()
    assert chosen(certificates, "a2.example")[0].exact == {b"a2.example"}
    assert chosen(certificates, "a.example")[0].wildcards
    assert certificates.names_of(before.context).exact == {b"a.example"}  # who began with it keeps it


def test_a_look_at_an_unchanged_folder_loads_nothing(folder, certificates):
    before = dict(certificates.pairs)
    certificates.scan()
    os.utime(folder / "a.crt")
    certificates.scan()
    assert all(certificates.pairs[name] is pair for name, pair in before.items())


def half(folder):
    (folder / "a.key").write_bytes(authority.make("a.example")[1])


def truncated(folder):
    (folder / "a.crt").write_bytes((folder / "a.crt").read_bytes()[:200])


def keyless(folder):
    (folder / "a.key").unlink()


def huge(folder):
    (folder / "a.crt").write_bytes(b"x" * 1_100_000)


def nameless(folder):
    authority.put(folder, "a")


def encrypted(folder):
    authority.put(folder, "a", "a.example", password=b"secret")


@pytest.mark.parametrize("damage", [half, truncated, keyless, huge, nameless, encrypted])
def test_a_broken_pair_keeps_the_one_before_and_is_said_once(folder, certificates, damage, caplog):
    damage(folder)
    for _ in range(3):
        certificates.scan()
    assert chosen(certificates, "a.example")[0].exact == {b"a.example"}
    assert set(certificates.broken) == {"a"}
    (line,) = caplog.messages
    assert line.startswith("certificate a: ") and line.endswith("; the one before stays in force")
    authority.put(folder, "a", "a.example", days=3)
    certificates.scan()
    assert not certificates.broken
    assert certificates.pairs["a"].expires_at > time.time() + 2 * 86_400


def test_a_pair_that_is_gone_is_no_longer_served(folder, certificates, caplog):
    (folder / "a.crt").unlink()
    (folder / "a.key").unlink()
    certificates.scan()
    assert chosen(certificates, "a.example")[0].wildcards
    assert set(certificates.pairs) == {"wild"}
    assert "no longer served" in caplog.text


def test_a_folder_that_cannot_be_read_changes_nothing(folder, certificates, caplog):
    folder.rename(folder.parent / "away")
    certificates.scan()
    certificates.scan()
    assert len(certificates.pairs) == 2 and len(caplog.messages) == 1
    (folder.parent / "away").rename(folder)
    certificates.scan()
    assert not certificates.broken


def test_of_pairs_of_one_name_the_one_that_lasts_longest_serves(folder, certificates):
    authority.put(folder, "a-renewed", "a.example", days=30)
    certificates.scan()
    server = certificates._table.exact[b"a.example"]
    assert server.name == "a-renewed"


def test_a_start_without_a_usable_pair_or_without_the_default_is_refused(tmp_path, folder, caplog):
    with pytest.raises(CertificateError, match="folder cannot be read"):
        Certificates(tmp_path / "absent").check()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CertificateError, match="there is no .crt"):
        Certificates(empty).check()
    (empty / "b.crt").write_bytes(b"nonsense")
    (empty / "b.key").write_bytes(b"nonsense")
    with pytest.raises(CertificateError, match="b.crt is not a chain"):
        Certificates(empty).check()
    with pytest.raises(DefaultMissing, match=r"there is no other.crt"):
        Certificates(folder, "other").check()
    assert caplog.messages == []  # whoever starts us says it, once
    assert repr(Certificates(folder)) == "<Certificates 0 pairs, 0 broken>"


def test_what_is_wrong_with_a_key_is_said_in_words(folder):
    (folder / "a.key").write_bytes(b"nonsense")
    with pytest.raises(CertificateError, match=r"^a\.key is not a private key in PEM$"):
        load_pair(folder, "a")
    authority.put(folder, "b", "b.example")
    (folder / "a.key").write_bytes((folder / "b.key").read_bytes())
    with pytest.raises(CertificateError, match=r"^a\.key is not the key of a\.crt$"):
        load_pair(folder, "a")
    encrypted(folder)
    with pytest.raises(CertificateError, match="^the key is encrypted$"):
        load_pair(folder, "a")


def test_the_watch_sees_a_change_and_looks_in_a_thread(folder, certificates):
    threads, scan = [], certificates.scan

    def spied() -> None:
        threads.append(threading.get_ident())
        scan()
        if len(threads) == 1:
            raise RuntimeError("a look that crashes")

    certificates.scan = spied
    watch = CertificateWatch(certificates, 0.05)
    watch.start()
    authority.put(folder, "new", "new.test")
    deadline = time.monotonic() + 5
    while ("new" not in certificates.pairs or len(threads) < 2) and time.monotonic() < deadline:
        gevent.sleep(0.02)
    watch.stop()
    assert chosen(certificates, "new.test")[0].exact == {b"new.test"}
    assert threading.get_ident() not in threads
