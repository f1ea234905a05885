"""A tenant's own issuers and machines, compiled (edge.issuers)."""

import msgspec
import pytest

from contracts.snapshot import AccessConfig, IssuerConfig, ServiceConfig, SnapshotError, service_secret_place
from edge.issuers import Issuer, Machine, compile_issuers, compile_machines, compile_signers
from edge.snapshot import compile_snapshot
from tests.edge.fakes import a_route, a_snapshot
from tests.forging import EC, RSA, pem


def a_config(**fields):
    fields = {
        "id": "i", "name": "own", "kind": "jwt", "issuer": "https://own.example", "audience": ("a",),
        "jwks_uri": "https://own.example/jwks", **fields,
    }  # fmt: skip
    return IssuerConfig(**fields)


def a_service(**fields):
    return ServiceConfig(**{"id": "s", "name": "s", "kind": "clerk_machine", "key_id": "mch_1", **fields})


def test_issuers_are_found_by_kind_and_name_and_opaque_ones_are_not_here():
    configs = (
        a_config(), a_config(id="o", kind="oauth"),
        a_config(id="p", kind="introspection", jwks_uri=None, introspection_url="https://p.example"),
    )  # fmt: skip
    found = compile_issuers(configs, "t")
    assert {place: issuer.id for place, issuer in found.items()} == {
        ("jwt", "https://own.example"): "i", ("oauth", "https://own.example"): "o",
    }  # fmt: skip
    assert (found["jwt", "https://own.example"].terms.form, found["oauth", "https://own.example"].terms.form) == (
        "user", "access",
    )  # fmt: skip
    assert repr(found["jwt", "https://own.example"]) == "<Issuer own jwt>"


CHANGES = (
    {"id": "j"}, {"name": "renamed"}, {"issuer": "https://other.example"}, {"audience": ("b",)},
    {"algorithms": ("ES256",)}, {"jwks_uri": "https://own.example/other"}, {"required_scopes": ("s",)},
    {"kind": "oauth"},
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_whatever_changes_believed_tokens_are_not_found_again(change):
    assert Issuer(a_config(**change), "t").place != Issuer(a_config(), "t").place
    assert Issuer(a_config(), "t").place == Issuer(a_config(), "t").place


def test_two_tenants_share_no_place_and_no_source():
    one, two = Issuer(a_config(), "t"), Issuer(a_config(), "u")
    assert one.place != two.place
    assert one.source != two.source


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_keys_depend_on_where_they_come_from_and_on_nothing_else(change):
    moved = not {"id", "jwks_uri", "algorithms"}.isdisjoint(change)
    assert (Issuer(a_config(**change), "t").source != Issuer(a_config(), "t").source) is moved


def test_pem_keys_are_read_here():
    text = (pem(EC) + pem(RSA)).decode()
    issuer = Issuer(a_config(jwks_uri=None, public_keys=text, algorithms=("ES256", "PS256")), "t")
    assert len(issuer.pinned) == 2


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"jwks_uri": None}, "neither jwks_uri nor public_keys"),
        ({"jwks_uri": None, "public_keys": "x"}, "must be one or more public keys"),
        ({"jwks_uri": None, "public_keys": pem(RSA).decode(), "algorithms": ("EdDSA",)}, "no usable PEM"),
    ],
)
def test_an_issuer_that_could_believe_nobody_is_refused(fields, why):
    snapshot = msgspec.structs.replace(a_snapshot(a_route()), issuers=(a_config(**fields),))
    with pytest.raises(SnapshotError, match=f"issuer i.*{why}"):
        compile_snapshot(snapshot)


def test_machines_are_found_by_the_name_clerk_has_for_them_and_signing_services_are_not_here():
    found = compile_machines((a_service(), a_service(id="h", kind="hmac", key_id="svc_1", secrets=("s1.1.x",))))
    assert list(found) == ["mch_1"]
    assert repr(found["mch_1"]) == "<Machine s>"


def test_services_that_sign_are_found_by_their_key_id_and_machines_of_clerk_are_not_there():
    fields = {"id": "h", "kind": "hmac", "key_id": "svc_1", "secrets": ("s1.1.x", "s1.1.y"), "previous_until": 5.0}
    found = compile_signers((a_service(), a_service(**fields)), "tenant")
    assert list(found) == ["svc_1"]
    signer = found["svc_1"]
    assert (signer.secrets, signer.previous_until) == (("s1.1.x", "s1.1.y"), 5.0)
    assert signer.place == service_secret_place("tenant", "h")
    assert repr(signer) == "<Signer h>"


def test_a_network_that_is_none_is_refused():
    with pytest.raises(SnapshotError, match="service s: addresses"):
        Machine(a_service(addresses=("10.0.0.1/8",)))


def test_a_route_knows_its_issuers_roles_and_permissions():
    access = AccessConfig(issuers=("i",), required_roles=("org:a",), required_permissions=("org:b:c",))
    snapshot = a_snapshot(a_route("/a", "jwt_required", access=access), a_route("/b", "oauth_required"))
    tenant = compile_snapshot(msgspec.structs.replace(snapshot, issuers=(a_config(), a_config(id="j", issuer="x"))))
    named, open_ = tenant.routes
    assert (named.required_roles, named.required_permissions) == (("org:a",), ("org:b:c",))
    assert [named.takes_issuer(issuer) for issuer in tenant.issuers.values()] == [True, False]
    assert [open_.takes_issuer(issuer) for issuer in tenant.issuers.values()] == [True, True]
    assert (named.accepts, named.takes_oauth, open_.takes_oauth) == (frozenset({"user_token"}), False, True)
    assert tenant.authorization_servers == ()
