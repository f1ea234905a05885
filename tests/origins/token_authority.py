"""Authorities of opaque tokens over real sockets: one speaks RFC 7662, one answers as Clerk does.

Both check what they are asked as strictly as their documents allow, so that a client that asks wrongly is found out.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from tests.origins import misbehaving
from tests.origins.misbehaving import Behaviour, Origin

Document = dict[str, Any]


@dataclass
class Asked:
    """One question as it arrived."""

    path: str
    fields: dict[str, str]
    body: bytes
    at_mono: float = field(default_factory=time.monotonic)


def answer(status: int, document: Any, lines: bytes = b"") -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status, lines, len(body), body,
    )  # fmt: skip


class TokenAuthority:
    """A server on loopback. `asked` has every question; `instead` answers each one in its own way, if it is set."""

    def __init__(self) -> None:
        self.words: dict[str, Document] = {}
        self.asked: list[Asked] = []
        self.instead: bytes | Behaviour | None = None
        self.takes_s = 0.0
        self._origin = Origin(self._serve)
        self.url = self._origin.url

    def __enter__(self) -> TokenAuthority:
        self._origin.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._origin.__exit__()

    @property
    def connections(self) -> int:
        return self._origin.connections

    def _serve(self, sock: socket.socket) -> None:
        while got := misbehaving.head(sock):
            start, *lines = got.decode("latin-1").rstrip().split("\r\n")
            fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            method, path, _ = start.split(" ")
            assert method == "POST"
            asked = Asked(path, fields, misbehaving.exactly(sock, int(fields["content-length"])))
            self.asked.append(asked)
            time.sleep(self.takes_s)
            instead = self.instead
            if isinstance(instead, bytes):
                sock.sendall(instead)
            elif instead is not None:
                instead(sock)
                return
            else:
                sock.sendall(self.answer(asked))

    def answer(self, asked: Asked) -> bytes:
        raise NotImplementedError


class Introspection(TokenAuthority):
    """RFC 7662. Knows `words` by token; any other is not active. Its clients' secrets are in `clients`."""

    PATH = "/oauth/introspect"

    def __init__(self) -> None:
        super().__init__()
        self.clients = {"gateway": "hush"}
        self.introspection_url = self.url + self.PATH

    def answer(self, asked: Asked) -> bytes:
        scheme, _, credentials = asked.fields.get("authorization", "").partition(" ")
        name, _, secret = base64.b64decode(credentials).decode().partition(":") if scheme == "Basic" else ("", "", "")
        if self.clients.get(unquote_plus(name)) != unquote_plus(secret):
            return answer(401, {"error": "invalid_client"}, b"WWW-Authenticate: Basic\r\n")
        form = dict(parse_qsl(asked.body.decode(), strict_parsing=True))
        right = (
            asked.path == self.PATH
            and asked.fields["content-type"] == "application/x-www-form-urlencoded"
            and asked.fields["accept"] == "application/json"
            and form.keys() == {"token", "token_type_hint"}
            and form["token_type_hint"] == "access_token"
        )
        if not right:
            return answer(400, {"error": "invalid_request"})
        return answer(200, self.words.get(form["token"], {"active": False}))


class ClerkApi(TokenAuthority):
    """Clerk's two verify endpoints. Knows `words` by token; any other is 404. `secrets`: who may ask, by path."""

    ACCESS = "/v1/oauth_applications/access_tokens/verify"
    MACHINE = "/v1/m2m_tokens/verify"

    def __init__(self) -> None:
        super().__init__()
        self.secrets = {self.ACCESS: {"sk_test_x"}, self.MACHINE: {"sk_test_x", "ak_x"}}

    def answer(self, asked: Asked) -> bytes:
        if asked.path not in self.secrets:
            return answer(404, self.errors("not_found"))
        if asked.fields.get("authorization", "").removeprefix("Bearer ") not in self.secrets[asked.path]:
            return answer(401, self.errors("authentication_invalid"))
        member = "access_token" if asked.path == self.ACCESS else "token"
        question = json.loads(asked.body)
        if asked.fields["content-type"] != "application/json" or question.keys() != {member}:
            return answer(400, self.errors("request_body_invalid"))
        known = self.words.get(question[member])
        return answer(200, known) if known else answer(404, self.errors("resource_not_found"))

    @staticmethod
    def errors(code: str) -> Document:
        return {"errors": [{"message": code, "long_message": code, "code": code}]}


def an_oauth_token(**changes: Any) -> Document:
    """As Clerk's reference describes clerk_idp_oauth_access_token; times in milliseconds."""
    now_ms = int(time.time() * 1000)
    return {
        "object": "clerk_idp_oauth_access_token", "id": "oat_2vGt00000000000000000000000", "client_id": "client_1",
        "subject": "user_2vGtA1iceDemoAdministrator0", "scopes": ["profile", "email"], "revoked": False,
        "revocation_reason": None, "expired": False, "expiration": now_ms + 600_000, "created_at": now_ms,
        "updated_at": now_ms, **changes,
    }  # fmt: skip


def a_machine_token(**changes: Any) -> Document:
    now_ms = int(time.time() * 1000)
    return {
        "object": "machine_to_machine_token", "id": "mt_2vGt000000000000000000000000",
        "subject": "mch_2vGt00000000000000000000000", "claims": None, "scopes": ["mch_gateway"], "revoked": False,
        "revocation_reason": None, "expired": False, "expiration": None, "last_used_at": None, "created_at": now_ms,
        "updated_at": now_ms, **changes,
    }  # fmt: skip
