"""A client that signs its requests, written from RFC 9421, RFC 9530 and RFC 9651 alone: nothing of the edge is used.

    fields = Signer(secret).sign("POST", "/orders?x=1", "demo.example.com", b"{}", [("Content-Type", "text/plain")])

Whatever a test wants to be wrong is given by name.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import time
from collections.abc import Sequence
from typing import Any

SECRET = bytes(range(32))
KEY_ID = "svc_0123456789abcdefABCD"
_NONCES = itertools.count(1)


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def content_digest(body: bytes, algorithm: str = "sha-256") -> tuple[str, str]:
    digest = hashlib.new(algorithm.replace("-", ""), body).digest()
    return ("Content-Digest", f"{algorithm}=:{b64(digest)}:")


def a_nonce() -> str:
    return b64(next(_NONCES).to_bytes(16, "big"))


class Signer:
    def __init__(self, secret: bytes = SECRET, key_id: str = KEY_ID) -> None:
        self.secret = secret
        self.key_id = key_id

    def sign(
        self,
        method: str,
        target: str,
        authority: str,
        body: bytes | None = None,
        fields: Sequence[tuple[str, str]] = (),
        *,
        at: float | None = None,
        components: Sequence[str] | None = None,
        label: str = "ve",
        digest: tuple[str, str] | None = None,
        without: Sequence[str] = (),
        **changed: Any,
    ) -> list[tuple[str, str]]:
        """Give all fields to send. `changed`: parameters, in their serialised form or None to leave one out."""
        sent = list(fields)
        if body is not None:
            sent.append(digest or content_digest(body))
        if components is None:
            names = {name.lower() for name, _ in sent}
            components = ["@method", "@authority", "@path", "@query"]
            components += [name for name in ("content-digest", "content-type") if body is not None and name in names]
        components = [name for name in components if name not in without]
        created = int(time.time() if at is None else at)
        parameters = {
            "created": created, "nonce": f'"{a_nonce()}"', "keyid": f'"{self.key_id}"', "alg": '"hmac-sha256"',
            "tag": '"vantageedge-s2s"', **changed,
        }  # fmt: skip
        listed = " ".join(f'"{name}"' for name in components)
        said = "".join(f";{name}={value}" for name, value in parameters.items() if value is not None)
        path, _, query = target.partition("?")
        values = {"@method": method, "@authority": authority, "@path": path, "@query": "?" + query}
        values |= {name.lower(): value for name, value in sent}
        lines = [f'"{name}": {values.get(name, "")}' for name in components]
        base = "\n".join([*lines, f'"@signature-params": ({listed}){said}'])
        mac = hmac.new(self.secret, base.encode("latin-1"), hashlib.sha256).digest()
        return [*sent, ("Signature-Input", f"{label}=({listed}){said}"), ("Signature", f"{label}=:{b64(mac)}:")]
