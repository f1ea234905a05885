"""The ways in which a token can be bad, for each kind of token that the instance gives.

In:    the keys, a good token's header and claims.
Out:   FLAWS: name -> a token that its kind's verifier must refuse.
Laws:  1. Everything but the flaw is good, so only the flaw can be the reason. 2. Most are signed by the instance's own
       key: what they lack is not the signature.
Not here: good tokens (tokens), who asks for bad ones (controls).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from devstack.clerk import people
from devstack.clerk.keys import SigningKeys, new_key, part, public_jwk
from devstack.clerk.tokens import CATEGORY_MACHINE, CATEGORY_TEMPLATE, Claims

Make = Callable[[SigningKeys, Claims, Claims], str]
KINDS = ("session", "oauth", "machine")
FOREIGN_MACHINE = "mch_2v0000000000000000000000000"
_SESSION, _OAUTH, _MACHINE = frozenset({"session"}), frozenset({"oauth"}), frozenset({"machine"})
_TEMPLATE_CLAIMS = ("azp", "exp", "iat", "iss", "jti", "nbf", "sub")


@dataclass(frozen=True, slots=True)
class Flaw:
    """`kinds`: the kinds of token that it makes bad; for another kind it would be none, or nonsense."""

    make: Make
    kinds: frozenset[str] = frozenset(KINDS)


def _said(**changes: object) -> Make:
    return lambda keys, head, said: keys.sign({**said, **changes}, head)


def _headed(**changes: object) -> Make:
    return lambda keys, head, said: keys.sign(said, {**head, **changes})


def _without(*names: str) -> Make:
    return lambda keys, head, said: keys.sign({name: said[name] for name in said if name not in names}, head)


def _shifted(seconds: float) -> Make:
    def make(keys: SigningKeys, head: Claims, said: Claims) -> str:
        return keys.sign({**said, **{name: said[name] + seconds for name in ("iat", "nbf", "exp")}}, head)

    return make


def _spelled(member: str, text: str) -> Make:
    """Give a claim a JSON text of its own, which no encoder would write."""

    def make(keys: SigningKeys, head: Claims, said: Claims) -> str:
        body = json.dumps({name: value for name, value in said.items() if name != member})
        return keys.sign_text(_head_text(keys, head), f'{body[:-1]}, "{member}": {text}}}')

    return make


def _head_text(keys: SigningKeys, head: Claims, **changes: object) -> str:
    return json.dumps({"alg": "RS256", "kid": keys.key_id, **head, **changes})


def _alg(algorithm: object) -> Make:
    """Say another algorithm than the signature is made by."""
    return lambda keys, head, said: keys.sign_text(_head_text(keys, head, alg=algorithm), json.dumps(said))


def _kid(key_id: object) -> Make:
    return lambda keys, head, said: keys.sign_text(_head_text(keys, head, kid=key_id), json.dumps(said))


def _no_kid(keys: SigningKeys, head: Claims, said: Claims) -> str:
    return keys.sign_text(json.dumps({"alg": "RS256", **head}), json.dumps(said))


def _unsigned(algorithm: str) -> Make:
    def make(keys: SigningKeys, head: Claims, said: Claims) -> str:
        return f"{part(_head_text(keys, head, alg=algorithm).encode())}.{part(json.dumps(said).encode())}."

    return make


def _symmetric(keys: SigningKeys, head: Claims, said: Claims) -> str:
    """Sign with the public key as if it were a shared secret: the classic confusion (RFC 8725 section 2.1)."""
    signed = f"{part(_head_text(keys, head, alg='HS256').encode())}.{part(json.dumps(said).encode())}"
    return f"{signed}.{part(hmac.new(keys.public_pem().encode(), signed.encode(), hashlib.sha256).digest())}"


def _by_other_family(algorithm: str) -> Make:
    return lambda keys, head, said: keys.sign_as(algorithm, said, head)


def _elliptic(keys: SigningKeys, head: Claims, said: Claims) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(said, key, "ES256", headers={"kid": keys.key_id, **head})


def _foreign_key(keys: SigningKeys, head: Claims, said: Claims) -> str:
    return keys.sign(said, head, new_key())


def _foreign_key_id(keys: SigningKeys, head: Claims, said: Claims) -> str:
    return keys.sign(said, {**head, "kid": "ins_000000000000000000000000000"}, new_key())


def _brought(member: str) -> Make:
    """Sign with a key that the token itself brings, or says where to find (RFC 8725 section 3.10)."""

    def make(keys: SigningKeys, head: Claims, said: Claims) -> str:
        key = new_key()
        brought = {
            "jwk": public_jwk(key.public_key()) | {"kid": keys.key_id, "use": "sig", "alg": "RS256"},
            "jku": "https://evil.example/jwks.json",
            "x5u": "https://evil.example/chain.pem",
            "x5c": ["MIIB"],
        }
        return keys.sign(said, {**head, member: brought[member]}, key)

    return make


def _tampered(keys: SigningKeys, head: Claims, said: Claims) -> str:
    first, _, signature = keys.sign(said, head).split(".")
    return f"{first}.{part(json.dumps({**said, 'sub': people.CHARLIE.user_id}).encode())}.{signature}"


def _twice_in_header(keys: SigningKeys, head: Claims, said: Claims) -> str:
    return keys.sign_text(f'{{"alg": "none", {_head_text(keys, head)[1:]}', json.dumps(said))


def _twice_in_claims(keys: SigningKeys, head: Claims, said: Claims) -> str:
    """Say two subjects: whoever reads the first believes another than who reads the last."""
    return keys.sign_text(_head_text(keys, head), f'{{"sub": "{people.CHARLIE.user_id}", {json.dumps(said)[1:]}')


def _nested(keys: SigningKeys, head: Claims, said: Claims) -> str:
    """Sign a signed token (RFC 7519 section 5.2): good within good is still not what was asked for."""
    return keys.sign_text(_head_text(keys, head, cty="JWT"), keys.sign(said, head))


def _cut(keys: SigningKeys, head: Claims, said: Claims) -> str:
    return keys.sign(said, head).rpartition(".")[0]


def _five_parts(keys: SigningKeys, head: Claims, said: Claims) -> str:
    """Look encrypted (RFC 7516 section 3.1)."""
    first = part(json.dumps({**head, "alg": "RSA-OAEP", "enc": "A256GCM", "kid": keys.key_id}).encode())
    return f"{first}.AAAA.AAAA.{part(json.dumps(said).encode())}.AAAA"


def _template(keys: SigningKeys, head: Claims, said: Claims) -> str:
    kept = {name: said[name] for name in _TEMPLATE_CLAIMS if name in said}
    return keys.sign(kept, {**head, "cat": CATEGORY_TEMPLATE})


FLAWS: dict[str, Flaw] = {
    # ---- time
    "expired": Flaw(_shifted(-200_000)),
    "expired-fraction": Flaw(_shifted(-200_000.5)),
    "not-yet": Flaw(_shifted(3_600)),
    "no-exp": Flaw(_without("exp")),
    "no-iat": Flaw(_without("iat"), _SESSION | _OAUTH),
    "no-nbf": Flaw(_without("nbf"), _SESSION),
    "long-life": Flaw(_said(exp=4_102_444_800), _SESSION),
    "exp-bool": Flaw(_said(exp=True)),
    "exp-text": Flaw(_said(exp="4102444800")),
    "exp-nan": Flaw(_spelled("exp", "NaN")),
    "exp-infinite": Flaw(_spelled("exp", "1e999")),
    "exp-endless": Flaw(_spelled("exp", "9" * 400)),
    "iat-bool": Flaw(_said(iat=True), _SESSION),
    "iat-negative": Flaw(_said(iat=-1), _SESSION),
    # ---- keys and algorithms
    "wrong-key": Flaw(_foreign_key),
    "unknown-kid": Flaw(_foreign_key_id),
    "tampered": Flaw(_tampered),
    "alg-none": Flaw(_unsigned("none")),
    "alg-none-mixed": Flaw(_unsigned("nOnE")),
    "alg-hs256": Flaw(_symmetric),
    "alg-es256": Flaw(_elliptic),
    "alg-ps256": Flaw(_by_other_family("PS256")),
    "alg-rs512": Flaw(_by_other_family("RS512")),
    "alg-lower": Flaw(_alg("rs256")),
    "alg-list": Flaw(_alg(["RS256"])),
    "alg-object": Flaw(_alg({"alg": "RS256"})),
    "alg-null": Flaw(_alg(None)),
    "jku": Flaw(_brought("jku")),
    "x5u": Flaw(_brought("x5u")),
    "x5c": Flaw(_brought("x5c")),
    "jwk": Flaw(_brought("jwk")),
    "no-kid": Flaw(_no_kid),
    "kid-empty": Flaw(_kid("")),
    "kid-list": Flaw(_kid([people.INSTANCE_ID])),
    "kid-number": Flaw(_kid(1)),
    "kid-path": Flaw(_kid("../../../../dev/null")),
    "kid-sql": Flaw(_kid("x' UNION SELECT 'key")),
    "kid-nul": Flaw(_kid(people.INSTANCE_ID + "\0")),
    "kid-long": Flaw(_kid("k" * 4_000)),
    # ---- form
    "critical": Flaw(_headed(crit=["exp"])),
    "duplicate-header": Flaw(_twice_in_header),
    "duplicate-claims": Flaw(_twice_in_claims),
    "header-list": Flaw(lambda keys, head, said: keys.sign_text("[]", json.dumps(said))),
    "claims-list": Flaw(lambda keys, head, said: keys.sign_text(_head_text(keys, head), "[]")),
    "nested": Flaw(_nested),
    "huge": Flaw(_said(padding="x" * 9_000)),
    "two-parts": Flaw(_cut),
    "five-parts": Flaw(_five_parts),
    # ---- what it says
    "wrong-issuer": Flaw(_said(iss="https://clerk.elsewhere.example")),
    "issuer-slash": Flaw(lambda keys, head, said: keys.sign({**said, "iss": said["iss"] + "/"}, head)),
    "issuer-list": Flaw(
        lambda keys, head, said: keys.sign_text(_head_text(keys, head), json.dumps({**said, "iss": [said["iss"]]}))
    ),
    "no-issuer": Flaw(_without("iss")),
    "no-subject": Flaw(_without("sub")),
    "subject-number": Flaw(_spelled("sub", "1")),
    "bound": Flaw(_said(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"})),
    # ---- a session's
    "wrong-azp": Flaw(_said(azp="https://evil.example"), _SESSION),
    "azp-list": Flaw(lambda keys, head, said: keys.sign({**said, "azp": [said.get("azp")]}, head), _SESSION),
    "pending": Flaw(_said(sts="pending"), _SESSION),
    "at+jwt": Flaw(_headed(typ="at+jwt"), _SESSION),
    "template": Flaw(_template, _SESSION),
    "template-claims": Flaw(_without("sid", "v", "sts", "pla", "fea", "o"), _SESSION),
    "machine": Flaw(_headed(cat=CATEGORY_MACHINE), _SESSION),
    "no-sid": Flaw(_without("sid"), _SESSION),
    "version-3": Flaw(_said(v=3), _SESSION),
    "version-text": Flaw(_said(v="2"), _SESSION),
    # ---- an access token's
    "typ-jwt": Flaw(_headed(typ="JWT"), _OAUTH),
    "no-client": Flaw(_without("client_id"), _OAUTH),
    "wrong-audience": Flaw(_said(aud="https://elsewhere.example"), _OAUTH),
    # ---- a machine's
    "wrong-machine": Flaw(_said(aud=[FOREIGN_MACHINE], scopes=FOREIGN_MACHINE), _MACHINE),
    "no-audience": Flaw(_without("aud", "scopes"), _MACHINE),
    "user-subject": Flaw(_said(sub=people.ALICE.user_id), _MACHINE),
}
