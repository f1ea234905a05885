"""Equal requests share what was made for the one before. Nobody can tell: not an origin, not a client, not a reader of
the log. Two worlds live through the same story; one remembers, the other forgets everything at each step.

Longer than 400 lines because all that a request can differ in is named in one place.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from contracts import identity
from contracts.addresses import parse_networks
from contracts.clerk import Expectation
from contracts.keysets import parse_jwks
from contracts.snapshot import AccessConfig, AddressRules, CorsConfig
from edge.errors import GatewayError
from edge.exchange import Exchange
from edge.http import forwarded
from edge.http.forwarded import TrustedHops
from edge.http.parser import SectionMemo, parse_request_head, parse_response_head
from edge.phases import ratelimit
from edge.pipeline import Pipeline
from edge.ports import Ports, TokenStatus, UpstreamRequest, UpstreamResponse
from edge.settings import Limits
from edge.snapshot import compile_snapshot
from edge.telemetry.access_log import Encoder
from edge.telemetry.metrics import Meter
from edge.telemetry.recorder import Recorder
from tests.edge.fakes import (
    NOW,
    OTHER_TENANT,
    TENANT,
    Stage,
    a_bucket,
    a_cache,
    a_key_record,
    a_route,
    a_snapshot,
    an_identity_key,
    drained,
)
from tests.edge.phases.test_auth import KEY, a_token
from tests.edge.phases.test_auth_signatures import a_service
from tests.edge.phases.test_auth_tokens import a_machine, an_issuer, the_keys
from tests.edge.signing import SECRET, Signer
from tests.edge.test_introspection import an_issuer as an_introspector
from tests.forging import AUDIENCE, CLERK, EVIL, MINTS, OUR_MACHINE, PARTY, RSA, jwk, jwks

LIMITS = Limits()
HOSTS = (b"demo.example.com", b"other.example.com")
TENANTS = ({}, {"id": OTHER_TENANT, "subdomain": "other", "clerk_org_id": "org_other"})
TOKENS = (a_token().encode(), a_token(sub="user_bob", sid="sess_bob", org_permissions=[]).encode())

BY_LANGUAGE = a_cache(key_pattern="path+query+headers", key_headers=("accept-language",))
BY_IP = (a_bucket(burst=3, scope=("ip",)),)
BY_USER = (a_bucket(burst=4, scope=("user", "key")),)
PAGES = CorsConfig(origins=("https://app.example", "https://*.dev.example"), credentials=True)
ANY_PAGE = AccessConfig(cors=CorsConfig(origins=("*",), headers=("*",)), addresses=AddressRules(deny=("192.0.2.8/32",)))
EVERY_KIND = AccessConfig(accept=("jwt", "apikey", "oauth", "service"), identity_token=True, cors=PAGES)
CALLERS = (
    a_route("/s/*", "service_required"), a_route("/o", "oauth_required", cache=a_cache(), policies=BY_USER),
    a_route("/u", "jwt_required", required_scopes=("posts:read",)),
    a_route("/x/*", "any", cache=a_cache(), access=EVERY_KIND),
)  # fmt: skip
VERSIONS = (
    (
        a_route("/a", cache=a_cache(), access=ANY_PAGE), a_route("/k/*", "apikey_required", policies=BY_USER),
        a_route("/p/*", access=AccessConfig(cors=PAGES)),
        a_route("/me", "jwt_required", cache=a_cache()), *CALLERS, a_route("/*", policies=BY_IP),
    ),
    (
        a_route("/a", cache=BY_LANGUAGE, access=AccessConfig(cors=PAGES)),
        a_route("/k/*", "apikey_required", cache=a_cache(), policies=BY_IP),
        a_route("/p/*", preserve_host=True, policies=BY_USER, access=ANY_PAGE),
        a_route("/me", "jwt_required", any_user=True), *CALLERS,
    ),
    (
        a_route("/a", "apikey_required", cache=a_cache(shared=True)), a_route("/p/*", strip_prefix="/p"),
        a_route("/k/*", "apikey_required", strip_prefix="/k", cache=a_cache(key_pattern="path")),
        a_route("/me", "jwt_required", forward_credential=True, cache=a_cache()),
        *[replaced(route, forward_credential=True, any_user=True) for route in CALLERS],
        a_route("/*", "apikey_required", methods=("GET", "OPTIONS"), forward_credential=True),
    ),
)  # fmt: skip

LINES = (
    b"GET /a", b"GET /a", b"GET /k/1?token=t", b"GET /k/1?token=t", b"GET /p/1", b"GET /p/1", b"GET /me", b"GET /me",
    b"GET /%61?x=1", b"HEAD /a", b"POST /k/1", b"OPTIONS /p/1", b"OPTIONS *", b"GET /b/../a", b"GET /%zz",
    b"GET http://demo.example.com/a", b"GET http://other.example.com/k/1",
)  # fmt: skip
HOST_LINES = (
    b"Host: demo.example.com\r\n", b"Host: demo.example.com\r\n", b"Host: DEMO.example.com:80\r\n",
    b"Host: other.example.com\r\n", b"",
)  # fmt: skip
ALICE = b"X-API-Key: key-of-alice\r\n"
CREDENTIALS = (
    b"", ALICE, ALICE, b"X-API-Key: key-of-bob-1\r\n",
    *[b"Authorization: Bearer %b\r\n" % token for token in (*TOKENS, TOKENS[0], b"key-of-alice")],
)  # fmt: skip
CHAINS = (
    b"", b"X-Forwarded-For: 203.0.113.9\r\n", b"X-Forwarded-For: 203.0.113.8, 10.0.0.9\r\n",
    b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www.example.org\r\n",
)  # fmt: skip
MORE = (
    b"Accept-Encoding: gzip\r\n", b"Accept-Language: de\r\n", b"Connection: accept-language, x-hop\r\n",
    b'User-Agent: \xff"\r\n', b"TE: trailers\r\n", b"Max-Forwards: 0\r\n", b"Cookie: c=1\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Cache-Control: no-cache\r\n", b'If-None-Match: "1"\r\n',
    b"Origin: https://app.example\r\n", b"Origin: https://a.dev.example\r\nAccess-Control-Request-Method: GET\r\n",
    b"X_API_Key: key-of-alice\r\n", b"X-Vantage-Principal: me\r\n", b"Via: 1.1 vantageedge\r\n",
)  # fmt: skip
SCENES = (
    (b"GET /a", b""), (b"GET /p/1", b""), (b"GET /k/1", ALICE), (b"GET /a", ALICE),
    (b"GET /me", b"Authorization: Bearer %b\r\n" % TOKENS[0]),
)  # fmt: skip
OPAQUE = b"opaque-token-1"
SIGNED = b"".join(
    b"%b: %b\r\n" % (name.encode(), value.encode())
    for name, value in Signer().sign("GET", "/s/1", "demo.example.com", at=NOW)
)
MINTED = {name: MINTS[name].token(NOW, {"kid": "ins_2"} if name in ("machine", "access-clerk") else {}) for name in (
    "machine", "access-clerk", "access-own", "user-ES256",
)}  # fmt: skip
BEARERS = {name: b"Authorization: Bearer %b\r\n" % token.encode() for name, token in MINTED.items()}
BEARERS["opaque"] = b"Authorization: Bearer %b\r\n" % OPAQUE
CALLERS_SCENES = (
    (b"GET /s/1", SIGNED), (b"GET /s/1", BEARERS["machine"]), (b"GET /o", BEARERS["access-clerk"]),
    (b"GET /o", BEARERS["access-own"]), (b"GET /o", BEARERS["opaque"]), (b"GET /u", BEARERS["user-ES256"]),
    (b"GET /x/1", BEARERS["opaque"]), (b"GET /x/1", ALICE),
)  # fmt: skip


def at_large(snapshot, version: int, tenant: int):
    """Let issuers, services and a signing key join a version. At the other tenant they say otherwise."""
    required = ((), ("posts:write",), ("posts:read",))[version]
    issuers = (
        an_issuer("user-ES256", audience=(AUDIENCE,) if version != 1 else ("nobody",)),
        an_issuer("access-own", required_scopes=required), an_introspector(required_scopes=required),
    )  # fmt: skip
    named = {"scopes": ("a",) if version == tenant else ("b",), "expires_at": NOW + 3 if version == 1 else None,
             "addresses": ("192.0.2.7/32",) if version == 1 else ()}  # fmt: skip
    services = () if version == 2 and not tenant else (a_machine(**named), a_service(**named))
    return replaced(snapshot, issuers=issuers, services=services, identity_keys=(an_identity_key(f"kid-{version}"),))


def _asked_of(stage, **status: object) -> None:
    stage.tokens.words[TENANT, "issuer-1", OPAQUE] = TokenStatus(**status)


DOINGS = {
    "an opaque token is revoked": lambda stage: stage.tokens.words.clear(),
    "an opaque token is somebody else's": lambda stage: _asked_of(stage, subject="eve", scopes=("posts:read",)),
    "an opaque token ends": lambda stage: _asked_of(stage, subject="bob", expires_at=NOW),
    "an issuer's keys are others": lambda stage: stage.issuers.published.update(OTHER_SETS),
    "an issuer is away": lambda stage: stage.issuers.published.clear(),
    "Clerk's key is another": lambda stage: setattr(stage.sessions, "published", {"ins_2": EVIL["RS256"].public_key()}),
    "a service's secret is another": lambda stage: stage.secrets.known.update(sealed=b"n" * 32),
}
SETS = {name: the_keys(name) for name in ("user-ES256", "access-own")}
OTHER_SETS = {
    name: parse_jwks(jwks(jwk(EVIL["ES256"], MINTS[name].kid)), ("ES256",)) for name in SETS
}  # fmt: skip
PEERS = ("192.0.2.7", "192.0.2.8", "10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2", "2001:db8::7")
SCHEMES = (b"http", b"https")
KEYS_MORE = (
    (("addresses", ("192.0.2.7/32", "10.0.0.0/8")),),
    (("policies", (a_bucket(burst=2, id="own", name="key"),)),),
    (("deprecated_at", NOW - 5.0), ("policies", (a_bucket(burst=3, id="own", name="key", rate=0.1),))),
)
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: \"1\"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nVary: Accept-Encoding\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nVary: Accept-Language, Accept-Encoding\r\nX-Request-Id: theirs\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: x-hop\r\nX-Hop: 1\r\nSet-Cookie: s=1\r\n\r\n",
    b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
    b"HEAD HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Asks:
    line: bytes
    fields: bytes
    version: bytes
    peer: str
    scheme: bytes
    answer: bytes


@dataclass(frozen=True)
class Publishes:
    tenant: int
    version: int
    suspended: bool


@dataclass(frozen=True)
class Keys:
    """A key is given to somebody, with these scopes, until then; or taken away. `more`: of its record."""

    tenant: int
    key: bytes
    owner: str | None
    scopes: tuple[str, ...]
    expires_in_s: float | None
    more: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Passes:
    seconds: float


@dataclass(frozen=True)
class Does:
    """One of DOINGS happens."""

    what: str


@dataclass(frozen=True)
class SignsOut:
    session: str


def asks() -> st.SearchStrategy[Asks]:
    """Mostly what makes sense, so that it is answered; sometimes anything."""
    more = st.lists(st.sampled_from(MORE), max_size=2, unique=True).map(b"".join)
    sensible = st.tuples(st.sampled_from((*SCENES, *SCENES, *CALLERS_SCENES)), st.sampled_from(CHAINS), more).map(
        lambda parts: (parts[0][0], HOST_LINES[0] + parts[0][1] + parts[1] + parts[2])
    )
    anything = st.tuples(
        st.sampled_from(LINES), st.sampled_from(HOST_LINES), st.sampled_from(CREDENTIALS), st.sampled_from(CHAINS), more
    ).map(lambda parts: (parts[0], b"".join(parts[1:])))
    return st.builds(
        lambda line_and_fields, *rest: Asks(*line_and_fields, *rest), st.one_of(sensible, sensible, sensible, anything),
        st.sampled_from((b"1.1", b"1.1", b"1.1", b"1.0")), st.sampled_from(PEERS), st.sampled_from(SCHEMES),
        st.sampled_from((*ANSWERS, *ANSWERS[:2])),
    )  # fmt: skip


def happens() -> st.SearchStrategy[object]:
    tenants = st.sampled_from((0, 0, 0, 1))
    return st.one_of(
        st.builds(
            Publishes, tenants, st.integers(0, len(VERSIONS) - 1), st.sampled_from((False, False, False, True))
        ),
        st.builds(
            Keys, tenants, st.sampled_from((b"key-of-alice", b"key-of-alice", b"key-of-bob-1")),
            st.sampled_from(("key-2", "key-1", "key-2", None)), st.sampled_from((("read",), ("read", "write"))),
            st.sampled_from((None, 5.0)), st.sampled_from(((), *KEYS_MORE)),
        ),
        st.builds(Publishes, st.just(0), st.integers(0, len(VERSIONS) - 1), st.just(value=False)),
        st.builds(Passes, st.sampled_from((0.4, 6.0, 100.0, 400.0))),
        st.builds(SignsOut, st.sampled_from(("sess_alice", "sess_bob"))),
        st.builds(Does, st.sampled_from(sorted(DOINGS))),
    )  # fmt: skip


@st.composite
def stories(draw: st.DrawFn) -> list[object]:
    """One or two requests that come again and again, from here and there, while the world changes between them."""
    cast = draw(st.lists(asks(), min_size=1, max_size=2))
    story: list[object] = []
    for _ in range(draw(st.integers(2, 10))):
        if draw(st.booleans()):
            story.append(draw(happens()))
        asked = draw(st.sampled_from(cast))
        if draw(st.booleans()):
            asked = replace(
                asked, peer=draw(st.sampled_from((asked.peer, *PEERS))), scheme=draw(st.sampled_from(SCHEMES)),
                answer=draw(st.sampled_from((asked.answer, *ANSWERS[:2]))),
            )  # fmt: skip
        story.append(asked)
    return story


_IDENTITY = re.compile(rb"X-Vantage-Identity: ([^\r]*)")


def _without_its_time(line: re.Match[bytes]) -> bytes:
    """A token is shared for a while: when it was made, and for which request, may differ."""
    claims = json.loads(identity.claims_of(line[1].rpartition(b".")[0]))
    assert claims["exp"] - claims.pop("iat") == identity.LIFE_S
    del claims["exp"], claims["jti"]
    return json.dumps([claims, line[1].partition(b".")[0].decode()]).encode()


class World:
    def __init__(self, *, remembers: bool) -> None:
        self.remembers = remembers
        self.stage = Stage()
        self.stage.sessions.published = {"ins_1": KEY.public_key(), "ins_2": RSA.public_key()}
        self.stage.sessions.expectation = Expectation(CLERK, (PARTY,), machine_id=OUR_MACHINE)
        self.stage.issuers.published = dict(SETS)
        self.stage.secrets.known = {"sealed": SECRET}
        _asked_of(self.stage, subject="bob", scopes=("posts:read",), org_id="org_demo")
        self.snapshots = {}
        self.log = SimpleNamespace(exchanges=[], refusals=[])
        self.sent: list[bytes] = []
        self.answer = b""
        self._forget()
        for tenant in range(2):
            self.live(Publishes(tenant, 0, suspended=False))
            for key in (b"key-of-alice", b"key-of-bob-1"):
                self.live(Keys(tenant, key, "key-1", ("read", "write"), None))

    def _forget(self) -> None:
        stage = self.stage
        forwarded.lines.cache_clear()
        ratelimit.network.cache_clear()
        self.requests, self.answers = SectionMemo(), SectionMemo()
        self.hops = TrustedHops(parse_networks("10.0.0.0/8"))
        self.encoder = Encoder()
        self.pipeline = Pipeline(
            Ports(
                stage.clock, stage.identifiers, stage.config, stage.keys, stage.sessions, stage.counters, stage.cache,
                stage.health, self, Recorder(Meter(), self.log), stage.issuers, stage.tokens, stage.signer,
                stage.secrets, stage.nonces,
            )
        )  # fmt: skip
        for host, snapshot in self.snapshots.items():
            stage.config.tenants[host] = compile_snapshot(snapshot)

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """The origin."""
        self.sent.append(_IDENTITY.sub(_without_its_time, request.head))
        self.stage.clock.passes(0.001)
        parsed = parse_response_head(self.answer, request.method, self.answers)
        assert parsed is not None
        return UpstreamResponse(parsed[0], b"", False, 0.0)

    def live(self, event: object) -> object:
        """Let one thing happen and give all that anybody outside could see of it."""
        if not self.remembers:
            self._forget()
        stage = self.stage
        if isinstance(event, Asks):
            return self._ask(event)
        if isinstance(event, Publishes):
            more = {"status": "suspended"} if event.suspended else {}
            snapshot = a_snapshot(*VERSIONS[event.version], **TENANTS[event.tenant], **more)
            snapshot = at_large(snapshot, event.version, event.tenant)
            self.snapshots[HOSTS[event.tenant]] = snapshot
            stage.config.tenants[HOSTS[event.tenant]] = compile_snapshot(snapshot)
        elif isinstance(event, Keys):
            tenant_id = TENANTS[event.tenant].get("id", a_key_record().tenant_id)
            place = (tenant_id, event.key)
            stage.keys.records.pop(place, None)
            if event.owner is not None:
                expires_at = None if event.expires_in_s is None else stage.clock.now + event.expires_in_s
                stage.keys.records[place] = a_key_record(
                    id=event.owner, tenant_id=tenant_id, scopes=event.scopes, expires_at=expires_at, **dict(event.more)
                )
        elif isinstance(event, Does):
            DOINGS[event.what](stage)
        elif isinstance(event, Passes):
            stage.clock.passes(event.seconds)
        elif isinstance(event, SignsOut):
            stage.sessions.signed_out ^= {event.session}
        return None

    def _ask(self, event: Asks) -> object:
        stage = self.stage
        self.answer = event.answer
        stage.nonces.used.clear()  # that a request comes twice is not what is asked here
        raw = b"%b HTTP/%b\r\n%b\r\n" % (event.line, event.version, event.fields)
        try:
            for _ in range(3):  # a head is shared from its third coming on
                parsed = parse_request_head(raw, self.requests, LIMITS)
        except GatewayError as error:
            return error.problem.slug, error.detail
        assert parsed is not None
        head = parsed[0]
        exchange = Exchange(
            head, None, event.peer, event.scheme, stage.identifiers.request_id(), stage.clock.wall(), stage.clock.mono()
        )
        if self.hops.contains(event.peer):
            told = exchange.told = self.hops.read(event.peer, head.section)
            exchange.client_ip, exchange.scheme = told.client_ip, told.scheme or event.scheme
        seen: list[object] = []

        def write(reply) -> None:
            exchange.started_reply = True
            body = reply.body if isinstance(reply.body, bytes) else drained(reply.body)
            seen.append((reply.status, reply.reason, reply.lines, tuple(reply.extra), body, reply.announced_length))

        self.sent.clear()
        self.pipeline.serve(exchange, write)
        logged = [self.encoder.exchange(*item) for item in self.log.exchanges]
        self.log.exchanges.clear()
        return seen, list(self.sent), logged


def look_alike(story: list[object]) -> None:
    seen = []
    for remembers in (True, False):
        world = World(remembers=remembers)
        seen.append([world.live(event) for event in story])
    for event, remembered, forgotten in zip(story, *seen, strict=True):
        assert remembered == forgotten, event


CHANGES = (
    *[Publishes(0, version, suspended=False) for version in range(len(VERSIONS))], Publishes(0, 0, suspended=True),
    Keys(0, b"key-of-alice", "key-2", ("read", "write"), None), Keys(0, b"key-of-alice", "key-1", ("read",), None),
    *[Keys(0, b"key-of-alice", "key-1", ("read", "write"), None, more) for more in KEYS_MORE],
    Keys(0, b"key-of-alice", "key-1", (), None), Keys(0, b"key-of-alice", None, (), None), Passes(100.0), Passes(400.0),
    SignsOut("sess_alice"),
    *[{"peer": peer} for peer in PEERS[:4]], {"scheme": b"https"},
)  # fmt: skip


@pytest.mark.parametrize("version", range(len(VERSIONS)))
@pytest.mark.parametrize("scene", SCENES, ids=[line.decode() for line, _ in SCENES])
def test_whatever_changes_between_two_equal_requests_counts_for_the_second(scene, version):
    line, credential = scene
    for chain in CHAINS:
        fields = HOST_LINES[0] + credential + chain + b"Accept-Language: de\r\n"
        first = Asks(line, fields, b"1.1", PEERS[2], b"http", ANSWERS[0])
        for change in CHANGES:
            begins = [Publishes(0, version, suspended=False), first, first]
            if isinstance(change, dict):
                look_alike([*begins, replace(first, **change), first])
            else:
                look_alike([*begins, change, first, first])


@pytest.mark.parametrize("scene", CALLERS_SCENES, ids=[str(number) for number in range(len(CALLERS_SCENES))])
def test_so_it_does_for_callers_of_every_other_kind(scene):
    line, credential = scene
    first = Asks(line, HOST_LINES[0] + credential + b"Origin: https://app.example\r\n", b"1.1", PEERS[0], b"http",
                 ANSWERS[0])  # fmt: skip
    for version in range(len(VERSIONS)):
        begins = [Publishes(0, version, suspended=False), first, first]
        for change in (*CHANGES, *map(Does, DOINGS), Passes(3.0)):
            after = replace(first, **change) if isinstance(change, dict) else change
            look_alike([*begins, after, first, first])


def test_every_kind_of_caller_is_believed_at_first():
    for line, credential in CALLERS_SCENES:
        fields = HOST_LINES[0] + credential
        replies, sent, _ = World(remembers=True).live(Asks(line, fields, b"1.1", PEERS[0], b"http", ANSWERS[0]))
        assert (replies[0][0], len(sent)) == (200, 1), line


def test_one_section_at_two_tenants_is_two_requests():
    """RFC 9112 section 3.2.2: in HTTP/1.0 the target alone may name the host; then two tenants share a section."""
    for version in range(len(VERSIONS)):
        of_alice = [(path, ALICE) for path in (b"/a", b"/k/1", b"/p/1")]
        for path, credential in (*of_alice, *[(line[4:], fields) for line, fields in CALLERS_SCENES]):
            asked = [
                Asks(b"GET http://%b%b" % (host, path), credential, b"1.0", PEERS[0], b"http", ANSWERS[0])
                for host in HOSTS
            ]
            publishes = [Publishes(tenant, version, suspended=False) for tenant in range(2)]
            revokes = Keys(1, b"key-of-alice", "key-2", ("read",), None)
            look_alike([*publishes, *asked, *asked, revokes, *asked, *asked])


@settings(max_examples=150, deadline=None)
@given(stories())
def test_a_world_that_remembers_and_one_that_does_not_look_the_same_from_outside(story):
    look_alike(story)
