"""The certificates we present: pairs of files in a folder, chosen by the name a client asks for, and how they change.

In:    a folder with <pair>.crt (a PEM chain, leaf first) and <pair>.key; the pair for clients that ask for no name.
Out:   a server context that selects by SNI; which names a connection's certificate covers; when each pair ends.
Laws:  1. A name is looked up exactly, then as a wildcard's one label (RFC 9525 section 6.3); among pairs of one name
       the one that lasts longest wins. 2. A name nobody covers is refused with unrecognized_name: no certificate is
       presented for what it does not say. 3. A pair that cannot be loaded keeps the one before it and is logged once.
       4. What a connection began with stays with it. 5. Nothing here knows gevent: `scan` reads files, and runs in a
       thread.
Not here: when to look (certificate_watch), the handshake (arrival), TLS itself (tls).
"""

from __future__ import annotations

import _ssl
import hashlib
import logging
import ssl
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn
from weakref import WeakKeyDictionary

from cryptography import x509

_LOG: Final = logging.getLogger(__name__)
_FILE_BYTES_MAX: Final = 1_048_576
# Forward secrecy and authenticated encryption only; TLS 1.3 brings its own.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


class CertificateError(Exception):
    """A pair or the folder cannot be used; the text is for the operator."""


class DefaultMissing(CertificateError):
    """The pair for clients that ask for no name cannot be used."""


class Names(NamedTuple):
    """What a certificate is for, lower-cased. `wildcards`: what stands behind the "*."."""

    exact: frozenset[bytes]
    wildcards: frozenset[bytes]

    def cover(self, host: bytes) -> bool:
        """Whether a host, as the parser gives it (lower-cased, no port, no trailing dot), is one of them."""
        return host in self.exact or host.partition(b".")[2] in self.wildcards


NO_NAMES: Final = Names(frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class Pair:
    """`digest`: of both files, to see a change. `expires_at`: the leaf's."""

    name: str
    digest: bytes
    names: Names
    expires_at: float
    context: ssl.SSLContext = field(repr=False)


class _Table(NamedTuple):
    pairs: Mapping[str, Pair]
    exact: Mapping[bytes, Pair]
    wildcards: Mapping[bytes, Pair]


class Certificates:
    def __init__(self, folder: Path, default: str = "") -> None:
        self._folder = folder
        self._default = default
        self._table = _Table({}, {}, {})
        self._seen: dict[str, tuple[object, ...]] = {}
        self._owners: WeakKeyDictionary[ssl.SSLContext, Names] = WeakKeyDictionary()
        self.broken: Mapping[str, str] = {}
        """Pairs that could not be loaded when they last changed, with the reason."""
        self.context: Final = server_context()
        """What each handshake begins with; it outlives every reload, and with it the keys of session tickets."""
        # The property of a patched SSLContext serves sockets only; ours are memory buffers.
        of_all_contexts: Any = _ssl._SSLContext.__dict__["sni_callback"]  # noqa: SLF001
        of_all_contexts.__set__(self.context, self._select)
        _ignore_names_that_are_none()

    @property
    def pairs(self) -> Mapping[str, Pair]:
        return self._table.pairs

    def names_of(self, context: ssl.SSLContext) -> Names:
        """Give what the certificate behind a finished handshake covers."""
        return self._owners.get(context, NO_NAMES)

    def check(self) -> None:
        """For a start. Raises CertificateError when nobody, or not the default, could be served; logs the rest."""
        broken = self._look()
        if not self.pairs:
            found = "; ".join(f"{name or self._folder}: {why}" for name, why in broken.items())
            raise CertificateError(found or f"there is no .crt with its .key in {self._folder}")
        if self._default and self._default not in self.pairs:
            raise DefaultMissing(broken.get(self._default, f"there is no {self._default}.crt with its .key"))
        self._note(broken)

    def scan(self) -> None:
        """Look at the folder and load what changed. Blocks on the disk. Never raises: what is wrong is logged once."""
        self._note(self._look())

    def _look(self) -> Mapping[str, str]:
        """Put in force what can be; gives what cannot."""
        try:
            found = self._listed()
        except OSError as error:
            return {**self.broken, "": f"the folder cannot be read: {error.strerror}"}
        if found == self._seen:
            return {name: why for name, why in self.broken.items() if name}
        pairs, broken = dict(self._table.pairs), {name: why for name, why in self.broken.items() if name in found}
        for name in set(pairs) - set(found):
            del pairs[name]
            _LOG.warning("certificate %s: its files are gone, its names are no longer served", name)
        for name, signature in found.items():
            if self._seen.get(name) == signature:
                continue
            broken.pop(name, None)
            try:
                pair = load_pair(self._folder, name)
            except CertificateError as error:
                broken[name] = str(error)
            else:
                old = pairs.get(name)
                if old is None or old.digest != pair.digest:
                    pairs[name] = pair
                    self._owners[pair.context] = pair.names
                    _LOG.info("certificate %s: in force until %.0f", name, pair.expires_at)
        self._seen = found
        self._table = _indexed(pairs)
        return broken

    def _listed(self) -> dict[str, tuple[object, ...]]:
        """Give each pair with what shows a change of its files; a half of a pair counts as one."""
        found: dict[str, tuple[object, ...]] = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix in (".crt", ".key") and not path.name.startswith("."):
                facts = path.stat()
                seen = (path.suffix, facts.st_mtime_ns, facts.st_size, facts.st_ino)
                found[path.stem] = (*found.get(path.stem, ()), seen)
        return found

    def _note(self, broken: Mapping[str, str]) -> None:
        for name, why in broken.items():
            if self.broken.get(name) != why:
                kept = "; the one before stays in force" if name in self.pairs else ""
                _LOG.error("certificate %s: %s%s", name or self._folder, why, kept)
        self.broken = broken

    def _select(self, connection: Any, name: str | None, context: ssl.SSLContext) -> int | None:
        """Choose by SNI (RFC 6066 section 3). Runs in a handshake: look-ups only."""
        table = self._table
        if name is None:
            pair = table.pairs.get(self._default)
        else:
            host = name.lower().removesuffix(".").encode("ascii", "replace")
            pair = table.exact.get(host) or table.wildcards.get(host.partition(b".")[2])
        if pair is None:
            return int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
        connection.context = pair.context
        return None

    def __repr__(self) -> str:
        return f"<Certificates {len(self.pairs)} pairs, {len(self.broken)} broken>"


def server_context() -> ssl.SSLContext:
    """TLS 1.2 or later, HTTP/1.1 only (RFC 7301), no renegotiation, no compression."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    return context


def load_pair(folder: Path, name: str) -> Pair:
    """Load a chain and its key. Raises CertificateError. Blocks on the disk."""
    chain_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
    chain, key = _octets(chain_path), _octets(key_path)
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        names = _names(leaf)
    except ValueError:
        raise CertificateError(f"{chain_path.name} is not a chain of PEM certificates") from None
    context = server_context()
    try:
        context.load_cert_chain(chain_path, key_path, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"{key_path.name} is not the key of {chain_path.name}"
        elif error.reason:
            why = f"{chain_path.name} and {key_path.name} cannot be used: {error.reason}"
        else:  # the chain could be read above
            why = f"{key_path.name} is not a private key in PEM"
        raise CertificateError(why) from None
    except OSError as error:
        raise CertificateError(f"{key_path.name}: {error.strerror}") from None
    if (chain, key) != (_octets(chain_path), _octets(key_path)):
        raise CertificateError("its files changed while they were read")
    if names == NO_NAMES:
        raise CertificateError(f"{chain_path.name} has no subject alternative name")
    digest = hashlib.sha256(len(chain).to_bytes(4, "big") + chain + key).digest()
    return Pair(name, digest, names, leaf.not_valid_after_utc.timestamp(), context)


def _octets(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            octets = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CertificateError(f"{path.name}: {error.strerror}") from None
    if len(octets) > _FILE_BYTES_MAX:
        raise CertificateError(f"{path.name} is too large")
    return octets


def _no_password() -> NoReturn:
    raise CertificateError("the key is encrypted")


def _names(leaf: x509.Certificate) -> Names:
    """Only the subject alternative names count (RFC 9525 section 6.3: the common name does not)."""
    try:
        said = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return NO_NAMES
    exact: set[bytes] = set()
    wildcards: set[bytes] = set()
    for written in said.get_values_for_type(x509.DNSName):
        name = written.lower().removesuffix(".").encode("ascii", "replace")
        if name.startswith(b"*."):
            wildcards.add(name[2:])
        else:
            exact.add(name)
    for address in said.get_values_for_type(x509.IPAddress):
        exact.add((f"[{address}]" if address.version == 6 else str(address)).encode("ascii"))
    return Names(frozenset(exact), frozenset(wildcards - {b""}))


def _indexed(pairs: Mapping[str, Pair]) -> _Table:
    """Of pairs with a name in common the one that lasts longest wins, so that a renewal under a new name counts."""
    in_order = sorted(pairs.values(), key=lambda pair: (pair.expires_at, pair.name))
    return _Table(pairs, _by_name((pair.names.exact, pair) for pair in in_order),
                  _by_name((pair.names.wildcards, pair) for pair in in_order))  # fmt: skip


def _by_name(rows: Iterable[tuple[frozenset[bytes], Pair]]) -> dict[bytes, Pair]:
    return {name: pair for names, pair in rows for name in names}


def _ignore_names_that_are_none() -> None:
    """Anybody may ask for a name that is not ASCII. The handshake fails as it should, but the standard
    library would write a traceback for each; there is no other place to say that it need not.
    """
    before = sys.unraisablehook
    if getattr(before, "is_ours", False):
        return

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not (isinstance(unraisable.object, bytes) and isinstance(unraisable.exc_value, UnicodeError)):
            before(unraisable)

    hook.is_ours = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook
