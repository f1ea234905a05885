"""What authorities are asked about opaque tokens, and what their answers mean.

In:    a token; the documents of RFC 7662 and of Clerk's verify endpoints.
Out:   the question's fields and body; TokenStatus, or UnreadableAnswer.
Laws:  1. A token is active when the answer says so with the JSON true (RFC 7662 section 2.2), or with Clerk's two JSON
       falses; anything else it says is a refusal. 2. A member that is there and cannot be understood is a refusal,
       never skipped; null is the same as absent. 3. A token that is bound to a key is refused: we cannot check the
       proof. 4. What is kept of an answer is small, however large the answer was.
Not here: sending and remembering (edge.net.introspection), time, organisation and scopes (opaque).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote_plus

from contracts.tokens import SCOPES_MAX
from edge.introspection import Introspector
from edge.ports import TokenStatus

NAME_CHARS_MAX: Final = 512
"""Of a subject, a client or an organisation."""
SCOPE_CHARS_MAX: Final = 4_096
"""Of all scopes of a token together."""
CLERK_API_VERSION: Final = b"2025-11-10"
_TIME_MAX: Final = 1e15
"""In whatever unit: what is beyond is no time, nor is NaN."""
_JSON: Final = ((b"Accept", b"application/json"),)
_Fields = tuple[tuple[bytes, bytes], ...]


class UnreadableAnswer(ValueError):
    """The authority did not answer in its own language: it says nothing about the token. The message may be logged."""


class _Refused(Exception):
    """The token must not be believed; the message says why and may be logged."""


def issuer_question(client_id: str, client_secret: bytes, token: bytes) -> tuple[_Fields, bytes]:
    """Give fields and body of an introspection request (RFC 7662 section 2.1) with the client's credentials.

    RFC 6749 section 2.3.1: id and secret are form-encoded first, then used as user name and password of Basic.
    """
    credentials = f"{quote_plus(client_id)}:{quote_plus(client_secret)}".encode("ascii")
    fields = (
        (b"Authorization", b"Basic " + base64.b64encode(credentials)),
        (b"Content-Type", b"application/x-www-form-urlencoded"),
        *_JSON,
    )
    return fields, b"token=%b&token_type_hint=access_token" % quote_plus(token).encode("ascii")


def clerk_question(secret: str, member: str, token: bytes) -> tuple[_Fields, bytes]:
    """Give fields and body of a call to one of Clerk's verify endpoints. `member`: what it calls the token."""
    fields = (
        (b"Authorization", b"Bearer " + secret.encode("ascii")),
        (b"Content-Type", b"application/json"),
        (b"Clerk-API-Version", CLERK_API_VERSION),
        (b"User-Agent", b"VantageEdge"),
        *_JSON,
    )
    return fields, json.dumps({member: token.decode("ascii")}).encode("ascii")


def issuer_answer(document: bytes, asked: Introspector) -> TokenStatus:
    """Read an introspection response. Raises UnreadableAnswer for what is no JSON object."""
    answer = _object(document)
    if answer.get("active") is not True:
        return TokenStatus(refusal="the issuer does not call it active")
    try:
        issuer = _text(answer, "iss")
        if issuer is not None and issuer != asked.issuer:
            raise _Refused("iss is another issuer")
        if asked.audience and asked.audience.isdisjoint(_audience(answer.get("aud"))):
            raise _Refused("aud is somebody else")
        kind = _text(answer, "token_type")
        if kind is not None and kind.lower() != "bearer":  # RFC 6749 section 5.1: case insensitive
            raise _Refused("token_type is not bearer")
        if answer.get("cnf") is not None:
            raise _Refused("bound to a key (cnf), which is not checked here")
        client_id = _text(answer, "client_id")
        subject = _text(answer, "sub") or client_id
        if not subject:
            raise _Refused("neither sub nor client_id")
        return TokenStatus(
            subject=subject, scopes=_scopes((_text(answer, "scope", SCOPE_CHARS_MAX) or "").split(" ")),
            client_id=client_id, org_id=_text(answer, "org_id"), not_before=_time(answer, "nbf"),
            expires_at=_time(answer, "exp"),
        )  # fmt: skip
    except _Refused as refused:
        return TokenStatus(refusal=str(refused))


def clerk_access_answer(document: bytes) -> TokenStatus:
    """Read Clerk's word on an OAuth access token. Raises UnreadableAnswer."""
    return _clerk_answer(document, "clerk_idp_oauth_access_token")


def clerk_machine_answer(document: bytes) -> TokenStatus:
    """Read Clerk's word on a machine's token. What it calls scopes are machines: they grant nothing here.

    Raises UnreadableAnswer."""
    return _clerk_answer(document, "machine_to_machine_token")


def _clerk_answer(document: bytes, kind: str) -> TokenStatus:
    answer = _object(document)
    if answer.get("active") is False:
        return TokenStatus(refusal="Clerk does not call it active")
    try:
        if answer.get("object") != kind:
            raise _Refused("Clerk calls it something else")
        for name in ("revoked", "expired"):
            if answer.get(name) is not False:
                raise _Refused(f"{name}, says Clerk")
        subject = _text(answer, "subject")
        if not subject:
            raise _Refused("no subject")
        expires_at = _time(answer, "expiration")
        listed = answer.get("scopes")
        if not isinstance(listed, list | None):
            raise _Refused("scopes cannot be understood")
        return TokenStatus(
            subject=subject, scopes=_scopes(listed or ()), client_id=_text(answer, "client_id"),
            org_id=_text(answer, "org_id"), expires_at=None if expires_at is None else expires_at / 1000,
        )  # fmt: skip
    except _Refused as refused:
        return TokenStatus(refusal=str(refused))


def _object(document: bytes) -> Mapping[str, object]:
    try:
        answer = json.loads(document, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, one member twice, nested without end
        raise UnreadableAnswer("the answer is not JSON") from None
    if not isinstance(answer, dict):
        raise UnreadableAnswer("the answer is not a JSON object")
    return answer


def _without_duplicates(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _text(answer: Mapping[str, object], name: str, chars_max: int = NAME_CHARS_MAX) -> str | None:
    value = answer.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > chars_max or not value.isprintable():
        raise _Refused(f"{name} cannot be understood, or is longer than {chars_max} characters")
    return value


def _time(answer: Mapping[str, object], name: str) -> float | None:
    value = answer.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _TIME_MAX:
        raise _Refused(f"{name} is not a time")
    return float(value)


def _audience(value: object) -> Sequence[str]:
    """RFC 7662 section 2.2: a string or a list of strings."""
    listed = value if isinstance(value, list) else [value]
    return [item for item in listed if isinstance(item, str)]


def _scopes(listed: Sequence[object]) -> tuple[str, ...]:
    scopes = [item for item in listed if isinstance(item, str) and item.isprintable()]
    if len(scopes) != len(listed) or len(scopes) > SCOPES_MAX or sum(map(len, scopes)) > SCOPE_CHARS_MAX:
        raise _Refused(f"scopes cannot be understood, or are more than {SCOPES_MAX} or {SCOPE_CHARS_MAX} characters")
    return tuple(scope for scope in scopes if scope)
