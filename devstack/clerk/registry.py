"""Who is signed in: clients (browsers), their sessions, and the dev-browser tokens that stand for a cookie.

In:    calls of the endpoints.
Out:   Client, Session.
Laws:  1. Everything lives in this process and ends with it. 2. A sign-in or sign-out moves the client's updated_at, so
       that `__client_uat` tells an older session token from a newer one. 3. An ended session gives no token.
Not here: cookies and answers (frontend_api), tokens (tokens).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from devstack.clerk import people
from devstack.clerk.clock import Clock

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_id(prefix: str) -> str:
    return prefix + "2v" + "".join(secrets.choice(_ALPHABET) for _ in range(25))


@dataclass(slots=True)
class Session:
    session_id: str
    client_id: str
    user_id: str
    org_id: str | None
    created_at: float
    status: str = "active"


@dataclass(slots=True)
class Client:
    client_id: str
    secret: str
    updated_at: int
    sessions: list[str] = field(default_factory=list)


class Registry:
    """All clients and sessions of this process. Not thread-safe: one greenlet at a time touches it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.clients: dict[str, Client] = {}
        self.sessions: dict[str, Session] = {}
        self.nonces: dict[str, list[str]] = {}
        self._by_secret: dict[str, str] = {}
        self._for_person: dict[str, str] = {}

    def new_client(self) -> Client:
        """Make a client; its secret serves as `__client` cookie and, with its own prefix, as dev-browser token."""
        client = Client(new_id("client_"), new_id("dvb_"), int(self._clock.now()))
        self.clients[client.client_id] = client
        self._by_secret[client.secret] = client.client_id
        return client

    def find_client(self, secret: str | None) -> Client | None:
        return self.clients.get(self._by_secret.get(secret or "", ""))

    def sign_in(self, client: Client, person: people.Person, org_id: str | None = None) -> Session:
        """Begin a session; the person's first organisation is active unless another is named."""
        if org_id is None:
            held = people.memberships_of(person.user_id)
            org_id = held[0].org_id if held else None
        for other in self.active_sessions(client):
            self.end(other, "replaced")
        session = Session(new_id("sess_"), client.client_id, person.user_id, org_id, self._clock.now())
        self.sessions[session.session_id] = session
        client.sessions.append(session.session_id)
        client.updated_at = int(self._clock.now())
        return session

    def active_sessions(self, client: Client) -> list[Session]:
        found = (self.sessions[session_id] for session_id in client.sessions)
        return [session for session in found if session.status == "active"]

    def end(self, session: Session, status: str) -> None:
        session.status = status
        client = self.clients.get(session.client_id)
        if client is not None:
            client.updated_at = int(self._clock.now())

    def session_of(self, person: people.Person) -> Session:
        """Give the one session that tokens minted for this person outside a browser belong to."""
        known = self.sessions.get(self._for_person.get(person.name, ""))
        if known is None or known.status != "active":
            known = self.sign_in(self.new_client(), person)
            self._for_person[person.name] = known.session_id
        return known
