"""Whatever stands in the fields that say who calls and from where, the answer is one that the gateway means.

Real sockets, the very pipeline; the origin answers all it is asked.
"""

from __future__ import annotations

import base64
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.clerk import Expectation
from contracts.snapshot import AccessConfig, AddressRules, CorsConfig
from edge.http.forwarded import TrustedHops
from tests.edge.fakes import a_bucket, a_cache, a_key_record, a_route, an_identity_key, an_origin
from tests.edge.net.gateway import LOOPBACK, WholeGateway
from tests.edge.phases.test_auth import OUR_KEY
from tests.edge.phases.test_auth_signatures import a_service
from tests.edge.phases.test_auth_tokens import the_snapshot
from tests.edge.signing import SECRET, Signer
from tests.forging import CLERK, MINTS, OUR_MACHINE, PARTY, RSA
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

EVERY_KIND = ("jwt", "apikey", "oauth", "service")
PAGES = CorsConfig(origins=("https://app.example", "https://*.dev.example", "null"), credentials=True)
ANY_PAGE = CorsConfig(origins=("*",), headers=("*",))
ROUTES = (
    a_route("/any/*", "any", cache=a_cache(), policies=(a_bucket(burst=10**6, scope=("user", "key", "ip")),),
            access=AccessConfig(accept=EVERY_KIND, cors=PAGES, identity_token=True,
                                addresses=AddressRules(allow=("127.0.0.0/8", "203.0.113.0/24")))),
    a_route("/svc", "service_required", forward_credential=True), a_route("/oauth", "oauth_required", cache=a_cache()),
    a_route("/me", "jwt_required", access=AccessConfig(cors=ANY_PAGE)), a_route("/key", "apikey_required"),
    a_route("/*", cache=a_cache(), access=AccessConfig(cors=ANY_PAGE)),
)  # fmt: skip
MEANT = {200, 204, 304, 400, 401, 403, 404, 405, 409, 413, 417, 429, 431, 502, 503, 504}


class AnyGateway(WholeGateway):
    def __init__(self, url: str) -> None:
        super().__init__(url, hops=TrustedHops(LOOPBACK))
        stage = self.stage
        stage.sessions.expectation = Expectation(CLERK, (PARTY,), machine_id=OUR_MACHINE)
        stage.sessions.published = {"ins_1": RSA.public_key()}
        stage.secrets.known = {"sealed": SECRET}
        stage.knows_key(OUR_KEY, policies=(a_bucket(id="own", name="own", burst=10**6),), deprecated_at=1.0)
        record = a_key_record(addresses=("203.0.113.0/24",))
        stage.keys.records[record.tenant_id, b"imported"] = record
        snapshot = the_snapshot(*ROUTES, origins=[an_origin(url)], addresses=AddressRules(deny=("192.0.2.0/24",)))
        services = (*snapshot.services, a_service())
        stage.publish(msgspec.structs.replace(snapshot, services=services, identity_keys=(an_identity_key(),)))


@pytest.fixture(scope="module")
def gateway():
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVary: Accept\r\nAccess-Control-Allow-Origin: theirs\r\n\r\nok"
    with Origin(origins.answers(ok)) as origin, AnyGateway(origin.url) as running:
        yield running
    assert running.records
    assert not [record.error for record in running.records if getattr(record.error, "__cause__", None)]


def fields_of_a_signed_request() -> dict[str, bytes]:
    signed = Signer().sign("POST", "/any/x", "demo.example.com", b"{}", [("Content-Type", "a/b")], at=time.time())
    return {name.lower(): value.encode() for name, value in signed}


_B64 = base64.urlsafe_b64encode
OCTETS = st.binary(max_size=40).map(lambda raw: bytes(octet for octet in raw if octet >= 32 and octet != 127))
WORDS = st.sampled_from((
    b"Bearer ", b"bearer", b"DPoP ", b"Basic ", b"Signature ", b"ve_live_", b"ve_test_", b"mt_", b"oat_", b"imported",
    OUR_KEY.encode(), b"e30.e30.", b"eyJ", b".", b"..", b"=", b" ", b"\t", b",", b";", b'"', b"\\", b"ve=", b"ve=()",
    b'("@method" "@authority" "@path" "@query")', b";created=1", b';nonce="AAAAAAAAAAAAAAAA"', b';keyid="svc_x"',
    b';tag="vantageedge-s2s"', b":AAAA:", b"sha-256=", b"sha-512=:", b"?1", b"*", b"null", b"https://", b"app.example",
    b"a.dev.example", b":443", b"[::1]", b"\xff", b"\xc3\xa9", b"-1", b"9" * 400, b"GET", b"PUT", b"%00", b"__session=",
    b"__client_uat=1; a=b", b"A" * 3_000, b"203.0.113.7", b"for=", b'for="[2001:db8::1]"', b"192.0.2.1", b"unknown",
))  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from((CLERK, "user_1", "mch_1", "\ud800", "cl_B7d4PD333AAA", 1e308, 10**20, -(10**20))),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(("iss", "sub", "exp", "nbf", "iat", "aud", "scope", "scp", "v", "o", "sid",
                                       "azp", "cnf", "org_id", "fea", "client_id", "jti", "sts", "act")), inner),
    max_leaves=12,
)  # fmt: skip


def _part(said: object) -> bytes:
    return _B64(msgspec.json.encode(said) if not _odd(said) else repr(said).encode("utf-8", "replace")).rstrip(b"=")


def _odd(said: object) -> bool:
    try:
        msgspec.json.encode(said)
    except (UnicodeEncodeError, OverflowError, ValueError):
        return True
    return False


HEADERS = st.fixed_dictionaries({}, optional={
    "alg": st.sampled_from(("RS256", "ES256", "EdDSA", "PS256", "none", "HS256", None, 1)),
    "kid": st.sampled_from(("ins_1", "", "a" * 300, 1, None)), "typ": st.sampled_from(("JWT", "at+jwt", "AT+JWT", 1)),
    "cat": st.sampled_from(("cl_B7d4PD333AAA", 1)), "crit": st.just(["b64"]), "jku": st.just("http://127.0.0.1:1/"),
})  # fmt: skip
MADE_UP = st.builds(
    lambda header, claims, signature: b"%b.%b.%b" % (_part(header), _part(claims), _B64(signature).rstrip(b"=")),
    HEADERS, JSON, st.binary(max_size=70),
)  # fmt: skip
GOOD = st.sampled_from(sorted(MINTS)).map(lambda name: MINTS[name].token(time.time()).encode())
ANYTHING = st.lists(WORDS | OCTETS | MADE_UP, max_size=6).map(b"".join).map(lambda text: text[:7_000])
SCHEMED = st.builds(lambda scheme, token: scheme + token, st.sampled_from((b"Bearer ", b"DPoP ")), GOOD | MADE_UP)
NAMES = (
    b"Authorization", b"X-API-Key", b"Signature-Input", b"Signature", b"Content-Digest", b"Origin", b"Cookie",
    b"Access-Control-Request-Method", b"Access-Control-Request-Headers", b"Access-Control-Request-Private-Network",
    b"Content-Type", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Connection", b"Vary",
    b"X-Vantage-Principal", b"X-Vantage-Identity", b"Proxy-Authorization", b"TE", b"Cache-Control", b"If-None-Match",
)  # fmt: skip
FIELDS = st.lists(
    st.tuples(st.sampled_from(NAMES), ANYTHING) | st.tuples(st.just(b"Authorization"), SCHEMED), max_size=6
)
MUTATIONS = st.lists(st.tuples(st.integers(0, 400), WORDS | OCTETS), max_size=2)
SIGNED = ("signature-input", "signature", "content-digest", "content-type")
LINES = (
    b"GET /any/x", b"GET /svc", b"GET /oauth", b"GET /me", b"GET /key", b"GET /x", b"OPTIONS /any/x", b"OPTIONS /x",
    b"HEAD /any/x", b"GET /.well-known/jwks.json", b"GET /.well-known/oauth-protected-resource/any/x", b"OPTIONS *",
)  # fmt: skip


def answered(gateway, raw: bytes) -> int:
    with gateway.client(10.0) as client:
        client.send(raw)
        answer = client.answer(raw.partition(b" ")[0])
    assert answer.status in MEANT, answer
    return answer.status


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(LINES), FIELDS)
def test_no_credential_origin_or_cookie_makes_the_gateway_fail(gateway, line, fields):
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    answered(gateway, line + b" HTTP/1.1\r\nHost: demo.example.com\r\nConnection: close\r\n" + lines + b"\r\n")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SIGNED), MUTATIONS, st.sampled_from((b"{}", b"{", b"")))
def test_no_half_broken_signature_makes_the_gateway_fail_and_none_is_believed_that_is_not_whole(
    gateway, name, mutations, body
):
    fields = fields_of_a_signed_request()
    whole = dict(fields)
    for place, text in mutations:
        value = fields[name]
        fields[name] = value[: place % (len(value) + 1)] + text + value[(place + len(text)) % (len(value) + 1) :]
    lines = b"".join([b"%b: %b\r\n" % (name.encode(), value) for name, value in fields.items()])
    head = b"POST /any/x HTTP/1.1\r\nHost: demo.example.com\r\nConnection: close\r\nContent-Length: %d\r\n" % len(body)
    said = answered(gateway, head + lines + b"\r\n" + body)
    same = body == b"{}" and all(fields[kept].strip(b" \t") == whole[kept] for kept in SIGNED[2:])
    if fields == whole and same:
        assert said == 200
    elif said == 200:
        assert same, "what was signed differs"
