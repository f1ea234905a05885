"""Which issuer a route asks about opaque tokens (edge.introspection)."""

import msgspec
import pytest

from contracts.snapshot import AccessConfig, IssuerConfig, SnapshotError
from edge.introspection import Introspector
from edge.snapshot import compile_snapshot
from tests.edge.fakes import OTHER_TENANT, TENANT, a_route, a_snapshot


def an_issuer(issuer_id="issuer-1", **changes):
    fields = {
        "id": issuer_id, "name": "partners", "kind": "introspection", "issuer": "https://id.example.com",
        "introspection_url": "https://id.example.com/introspect", "client_id": "gateway", "client_secret": "s1.1.x",
        **changes,
    }  # fmt: skip
    return IssuerConfig(**fields)


def a_tenant(*routes, issuers=(), **more):
    return compile_snapshot(msgspec.structs.replace(a_snapshot(*routes), issuers=tuple(issuers), **more))


def asked_by(auth="oauth_required", issuers=(), **access):
    tenant = a_tenant(a_route("/*", auth, access=AccessConfig(**access)), issuers=issuers)
    (route,) = tenant.routes
    return route.introspector and route.introspector.id


def test_the_only_issuer_is_asked_wherever_opaque_tokens_are_taken():
    assert asked_by(issuers=[an_issuer()]) == "issuer-1"
    assert asked_by("any", issuers=[an_issuer()], accept=("apikey", "oauth")) == "issuer-1"
    assert asked_by("apikey_required", issuers=[an_issuer()]) is None
    assert asked_by(issuers=[an_issuer(kind="jwt", jwks_uri="https://id.example.com/jwks")]) is None
    assert asked_by() is None
    assert a_tenant(a_route("/*", "oauth_required"), issuers=[an_issuer()]).routes[0].introspector.id == "issuer-1"


def test_a_route_that_names_issuers_asks_the_one_it_names():
    two = [
        an_issuer("issuer-1"),
        an_issuer("issuer-2"),
        an_issuer("issuer-3", kind="oauth", jwks_uri="https://id.example.com/jwks"),
    ]
    tenant = a_tenant(
        a_route("/*", "oauth_required", access=AccessConfig(issuers=("issuer-2", "issuer-3"))), issuers=two
    )
    assert tenant.routes[0].introspector.id == "issuer-2"
    tenant = a_tenant(a_route("/*", "oauth_required", access=AccessConfig(issuers=("issuer-3",))), issuers=two)
    assert tenant.routes[0].introspector is None


def test_a_route_that_could_ask_several_issuers_does_not_compile_and_says_why():
    two = [an_issuer("issuer-1"), an_issuer("issuer-2")]
    with pytest.raises(SnapshotError) as refused:
        a_tenant(a_route("/*", "oauth_required", id="route-7"), issuers=two)
    assert str(refused.value) == (
        "route route-7: an opaque token does not say which of the issuers issuer-1, issuer-2 made it, and only one may "
        "be asked: access.issuers must name at most one of kind introspection"
    )
    a_tenant(a_route("/*", "apikey_required"), issuers=two)  # nobody is asked there


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"introspection_url": None}, "needs introspection_url, client_id and client_secret"),
        ({"client_id": None}, "needs introspection_url, client_id and client_secret"),
        ({"client_secret": ""}, "needs introspection_url, client_id and client_secret"),
        ({"introspection_url": "ftp://id.example.com/"}, "introspection_url must start with http:// or https://"),
    ],
)
def test_an_issuer_that_could_not_be_asked_does_not_compile(changes, reason):
    with pytest.raises(SnapshotError) as refused:
        a_tenant(issuers=[an_issuer(**changes)])
    assert str(refused.value) == f"issuer issuer-1: {reason}"


def test_words_of_another_tenant_or_configuration_are_not_its_words():
    first = Introspector(an_issuer(), TENANT)
    assert first.digest == Introspector(an_issuer(), TENANT).digest
    others = [
        Introspector(an_issuer(), OTHER_TENANT),
        Introspector(an_issuer("issuer-2"), TENANT),
        Introspector(an_issuer(client_secret="s1.1.y"), TENANT),
        Introspector(an_issuer(audience=("a",)), TENANT),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 5
    assert repr(first) == f"<Introspector https://id.example.com {first.digest[:8]}>"
