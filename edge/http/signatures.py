"""Signed requests: the part of RFC 9421 that services sign by, with one shared secret and HMAC-SHA256.

    Signature-Input: ve=("@method" "@authority" "@path" "@query" "content-digest" "content-type");created=1700000000;\
                     expires=1700000060;nonce="b64 of 16 octets";keyid="svc_...";alg="hmac-sha256";tag="vantageedge-s2s"
    Signature: ve=:b64 of 32 octets:

In:    a request's head as it was received, before anything was rewritten.
Out:   Claim: what is said to be signed, by whom, when; the signature base; whether secrets make that signature.
Laws:  1. The server says what must be covered, never the client: method, authority, path and query always, of a body
       its digest and its type too. More only from a list, of fields that mean the same at both ends. 2. One label, one
       tag, one algorithm; of six parameters each at most once, none else. 3. Signatures under other labels are for
       other verifiers (RFC 9421 section 3.2: which one is processed is the verifier's policy; section 4.3:
       intermediaries add theirs), so they are neither judged nor in the way, but the field must be well-formed. 4. A
       field that is covered comes exactly once: how lines join is not left to two readers. 5. Comparing takes the same
       time whatever differs.
Not here: whose key it is, nonces, the clock (phases.auth.signatures); bodies (digests); the syntax (structured).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge.http.grammar import ABSOLUTE_FORM
from edge.http.messages import FieldSection, RequestHead
from edge.http.structured import Bare, InnerList, Item, StructuredError, Token, dictionary, serialise

LABEL: Final = "ve"
TAG: Final = "vantageedge-s2s"
ALGORITHM: Final = "hmac-sha256"
FIELDS: Final = frozenset({b"signature", b"signature-input"})
CREATED_SKEW_S: Final = 60
"""How far `created` may lie from now, on either side."""
LIFETIME_S_MAX: Final = 300
"""How long before `expires` it may have been made."""

_DEMANDED: Final = ("@method", "@authority", "@path", "@query")
_DIGEST: Final = "content-digest"
_TYPE: Final = "content-type"
# End-to-end fields that no hop on the way to us has reason to touch.
_ALLOWED: Final = frozenset({
    *_DEMANDED, _DIGEST, _TYPE, "accept", "accept-language", "content-encoding", "content-language", "content-length",
    "date", "idempotency-key", "if-match", "if-modified-since", "if-none-match", "if-unmodified-since", "prefer",
    "range", "x-request-id",
})  # fmt: skip
_PARAMETERS: Final = frozenset({"created", "expires", "nonce", "keyid", "alg", "tag"})
_NONCE: Final = re.compile(r"[A-Za-z0-9+/_=-]{16,64}")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAC_BYTES: Final = 32
# Always matches up to the string's end or the field's, so that no quote is looked at twice.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.?)*+(?:"|\Z)', re.DOTALL)
_LABELLED: Final = re.compile(rb"(?:^|,)[ \t]*+ve(?![a-z0-9_\-.*])")


class SignatureError(ValueError):
    """It is no signature we take; the message is for the log."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What our member of Signature-Input and Signature says. `parameters`: the value of @signature-params."""

    components: tuple[str, ...]
    parameters: bytes
    created: int
    expires: int | None
    nonce: str
    key_id: str
    mac: bytes


def is_signed(section: FieldSection) -> bool:
    """Whether Signature-Input has a member with our label, well-formed or not. Complexity: linear."""
    lines = section.index.get(b"signature-input")
    return lines is not None and any(_LABELLED.search(_STRING.sub(b"", line)) for line in lines)


def read(section: FieldSection) -> Claim:
    """Give what is claimed. Raises SignatureError. Believes nothing."""
    try:
        member = dictionary(_only(section, b"signature-input")).get(LABEL)
        proof = dictionary(_only(section, b"signature")).get(LABEL)
    except StructuredError as error:
        raise SignatureError(f"a signature field is malformed: {error}") from None
    if not isinstance(member, InnerList):
        raise SignatureError("our member of Signature-Input is missing or no list")
    if not isinstance(proof, Item) or not isinstance(proof.value, bytes):
        raise SignatureError("our member of Signature is missing or no byte sequence")
    if len(proof.value) != _MAC_BYTES or proof.parameters:
        raise SignatureError("the signature does not have the length of HMAC-SHA256, or has parameters")
    said = member.parameters
    if said.keys() - _PARAMETERS:
        raise SignatureError("there is a parameter that means nothing here")
    if said.get("tag") != TAG or isinstance(said["tag"], Token):
        raise SignatureError("the tag is not ours")
    if said.get("alg", ALGORITHM) != ALGORITHM or isinstance(said.get("alg"), Token):
        raise SignatureError("the algorithm is not hmac-sha256")
    expires = said.get("expires")
    return Claim(
        components=_components(member),
        parameters=serialise(member),
        created=_seconds(said.get("created"), "created"),
        expires=None if expires is None else _seconds(expires, "expires"),
        nonce=_text(said.get("nonce"), _NONCE, "nonce"),
        key_id=_text(said.get("keyid"), _KEY_ID, "keyid"),
        mac=proof.value,
    )


def check_covered(claim: Claim, head: RequestHead) -> None:
    """Raises SignatureError when less is signed than this request must have signed, or what it does not have."""
    demanded: tuple[str, ...] = _DEMANDED
    if head.has_body:
        demanded = (*demanded, _DIGEST)
        if b"content-type" in head.section.index:
            demanded = (*demanded, _TYPE)
    for name in demanded:
        if name not in claim.components:
            raise SignatureError(f"{name} is not covered")


def check_time(claim: Claim, now: float) -> None:
    """Raises SignatureError. Units: seconds since 1970."""
    if abs(now - claim.created) > CREATED_SKEW_S:
        raise SignatureError(f"it was created {now - claim.created:.0f} s ago")
    if claim.expires is not None:
        if not 0 <= claim.expires - claim.created <= LIFETIME_S_MAX:
            raise SignatureError("it expires before it was created, or too late")
        if now > claim.expires:
            raise SignatureError("it expired")


def base(components: Sequence[str], parameters: bytes, head: RequestHead, scheme: bytes) -> bytes:
    """Give the signature base (RFC 9421 section 2.5). `scheme`: by which the client came. Raises SignatureError."""
    lines = [b'"%b": %b\n' % (name.encode("ascii"), _value(name, head, scheme)) for name in components]
    return b'%b"@signature-params": %b' % (b"".join(lines), parameters)


def is_made_by(signed: bytes, mac: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether one of the secrets makes this signature. All are tried, whichever fits."""
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(hmac.digest(secret, signed, hashlib.sha256), mac)
    return found


def authority(head: RequestHead, scheme: bytes) -> bytes:
    """Give @authority (RFC 9421 section 2.2.3): "the hostname is normalized to lowercase, and the default port is
    omitted". RFC 9112 section 3.2.2: of an absolute-form target it is the target's.
    """
    match = ABSOLUTE_FORM.fullmatch(head.target)
    named = match[2] if match is not None else head.section.index.get(b"host", (head.host,))[0]
    return named.lower().removesuffix(b":443" if scheme == b"https" else b":80").removesuffix(b":")


def _value(name: str, head: RequestHead, scheme: bytes) -> bytes:
    if name == "@method":
        return head.method
    if name == "@authority":
        return authority(head, scheme)
    if name == "@path":
        return head.path
    if name == "@query":  # RFC 9421 section 2.2.7: absent or empty, "the component value is the leading ?"
        return b"?" + (head.query or b"")
    return _only(head.section, name.encode("ascii"))


def _only(section: FieldSection, name: bytes) -> bytes:
    values = section.index.get(name, ())
    if len(values) != 1:
        raise SignatureError(f"{name.decode('ascii')} is {'missing' if not values else 'sent more than once'}")
    return values[0]


def _components(member: InnerList) -> tuple[str, ...]:
    """RFC 9421 section 2: each component identifier MUST occur only once. Parameters (;sf, ;key, ;req ...) are none we
    take."""
    names: list[str] = []
    for item in member.items:
        name = item.value
        if not isinstance(name, str) or isinstance(name, Token) or item.parameters:
            raise SignatureError("a component is not a plain name")
        if name not in _ALLOWED:
            raise SignatureError("a component is none that may be covered here")
        if name in names:
            raise SignatureError("a component comes twice")
        names.append(name)
    return tuple(names)


def _seconds(value: Bare | None, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise SignatureError(f"{name} is missing or no integer")
    return value


def _text(value: Bare | None, form: re.Pattern[str], name: str) -> str:
    if not isinstance(value, str) or isinstance(value, Token) or form.fullmatch(value) is None:
        raise SignatureError(f"{name} is missing or malformed")
    return value
