"""The ways in which the instance can be away, slow or wrong, and how many requests it counted.

In:    the mode a test chose.
Out:   an answer instead of the true one, or None.
Laws:  1. Every mode ends by itself within OUTAGE_S. 2. What a careless client would believe if it followed a redirect
       or read on without a bound is there to be believed, so that a test sees it.
Not here: who chooses (controls), 429 (backend_api).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import gevent
from flask import Response, redirect
from werkzeug.wrappers import Response as AnyResponse

from devstack.clerk.instance import instance, refuse
from devstack.clerk.keys import new_key, public_jwk
from devstack.clerk.people import INSTANCE_ID

OUTAGE_S: Final = 30.0
HUGE_BYTES: Final = 4_000_000
DRIP_EVERY_S: Final = 0.2
ELSEWHERE: Final = "/__dev/elsewhere"
MODES: Final = ("off", "error", "timeout", "garbage", "redirect", "huge", "drip", "reset")


def answer(path: str) -> AnyResponse | None:
    """Give what the outage answers to this path, or None. Blocks up to OUTAGE_S in mode timeout."""
    outage = instance().outage
    if outage.mode == "off" or not path.startswith(outage.path):
        return None
    if outage.mode == "timeout":
        gevent.sleep(OUTAGE_S)
    if outage.mode in ("timeout", "error"):
        return refuse(503, "internal_clerk_error", "out of service on purpose")
    if outage.mode == "garbage":
        return Response("<html>not what you asked for", content_type="text/html")
    if outage.mode == "redirect":
        return redirect(ELSEWHERE, 307)
    if outage.mode == "reset":
        cut = {"Content-Length": "10000", "Connection": "close"}
        return Response(b'{"keys": [', headers=cut, content_type="application/json")
    document = json.dumps(instance().keys.jwks()).encode()
    pieces = _padded(document) if outage.mode == "huge" else _dripping(document)
    return Response(pieces, content_type="application/json")


def believable() -> dict[str, object]:
    """Give an answer that names a key of nobody's and believes every token: for clients that should not be here."""
    key = public_jwk(new_key().public_key())
    return {
        "keys": [{"use": "sig", "kid": INSTANCE_ID, "alg": "RS256", **key}],
        "active": True,
        "revoked": False,
        "expired": False,
        "sub": "user_2v0000000000000000000000000",
    }


def _padded(document: bytes) -> Iterator[bytes]:
    """Say something true at the end of very much: no Content-Length warns of it."""
    yield b'{"padding": "'
    for _ in range(HUGE_BYTES // 10_000):
        yield b"x" * 10_000
    yield b'", ' + document[1:]


def _dripping(document: bytes) -> Iterator[bytes]:
    for at in range(min(int(OUTAGE_S / DRIP_EVERY_S), len(document))):
        yield document[at : at + 1]
        gevent.sleep(DRIP_EVERY_S)
