"""A tenant's snapshot compiled for reading (edge.snapshot): routing against a model, and what is precomputed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from contracts.patterns import Capture, Literal, parse_pattern
from contracts.snapshot import AccessConfig, CacheConfig, OriginTlsConfig, SnapshotError, identity_key_place
from edge.snapshot import OriginTls, compile_snapshot
from tests.edge.fakes import TENANT, a_bucket, a_cache, a_route, a_snapshot, an_identity_key, an_origin, with_keys


def a_tenant(*routes, **more):
    return compile_snapshot(a_snapshot(*routes, **more))


def winner(tenant, path, method=b"GET"):
    match = tenant.resolve(path).choose(method)
    return match.route.id if match else None


# --- Routing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "matches", "does_not"),
    [
        ("/", [b"/"], [b"/x", b"//"]),
        ("/*", [b"/", b"/x", b"//", b"/x/y"], []),
        ("/api/users/*", [b"/api/users", b"/api/users/", b"/api/users/1/x"], [b"/api/usersx", b"/api"]),
        ("/users/{id}", [b"/users/1", b"/users/%20"], [b"/users/", b"/users", b"/users/1/"]),
        ("/users/", [b"/users/"], [b"/users"]),
        ("/a//b", [b"/a//b"], [b"/a/b"]),
        ("/{a}/x/{b}", [b"/1/x/2"], [b"/1/y/2"]),
    ],
)
def test_a_pattern_matches_as_its_grammar_says(pattern, matches, does_not):
    tenant = a_tenant(a_route(pattern))
    assert [path for path in matches if not tenant.resolve(path).routes] == []
    assert [path for path in does_not if tenant.resolve(path).routes] == []


def test_priority_wins_then_literals_then_length_then_exactness_then_age():
    routes = [
        a_route("/*", id="all"), a_route("/{a}/{b}", id="captures"), a_route("/x/*", id="x-rest"),
        a_route("/x/{b}", id="x-capture"), a_route("/x/y", id="literal"), a_route("/x/y", id="younger"),
    ]  # fmt: skip
    order = [route.id for route in a_tenant(*routes).resolve(b"/x/y").routes]
    assert order == ["literal", "x-capture", "x-rest", "captures", "all"]
    boosted = a_tenant(*routes, a_route("/*", id="boosted", priority=1))
    assert winner(boosted, b"/x/y") == "boosted"


def test_captures_are_told_by_name():
    match = a_tenant(a_route("/users/{user}/posts/{post}")).resolve(b"/users/7/posts/9").choose(b"GET")
    assert match.captures == (("user", b"7"), ("post", b"9"))


segments = st.sampled_from(["a", "b", "c", "{x}", ""])
patterns = st.builds(
    lambda parts, rest: "/" + "/".join([*(part for part in parts if part), *rest]),
    st.lists(segments, max_size=4).map(lambda parts: [p if p != "{x}" else f"{{x{n}}}" for n, p in enumerate(parts)]),
    st.sampled_from([[], ["*"], [""]]),
)
methods = st.sampled_from([(), ("GET",), ("POST",), ("HEAD",), ("GET", "POST")])
routes = st.lists(
    st.tuples(patterns, methods, st.integers(-1, 1)), max_size=12
).map(lambda rows: [a_route(p, id=str(n), methods=m, priority=q) for n, (p, m, q) in enumerate(rows)])  # fmt: skip
paths = st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))


def fits(pattern, path):
    """The plainest reading of the grammar, one segment after the other."""
    wanted, given_ = list(pattern.segments), path[1:].split("/")
    if pattern.has_rest:
        wanted.pop()
        if len(given_) < len(wanted):
            return False
        given_ = given_[: len(wanted)]
    if len(wanted) != len(given_):
        return False
    return all(
        segment == Literal(part) or (isinstance(segment, Capture) and part != "")
        for segment, part in zip(wanted, given_, strict=True)
    )


@given(routes, paths, st.sampled_from(["GET", "HEAD", "POST", "PUT"]))
def test_the_trie_chooses_what_trying_every_route_in_order_of_rank_would(configs, path, method):
    best = None
    for position, config in enumerate(configs):
        pattern = parse_pattern(config.path_pattern)
        allowed = not config.methods or method in config.methods or (method == "HEAD" and "GET" in config.methods)
        if allowed and fits(pattern, path):
            rank = pattern.rank(config.priority, position)
            best = min(best, (rank, config.id)) if best else (rank, config.id)
    assert winner(a_tenant(*configs), path.encode(), method.encode()) == (best[1] if best else None)


def test_a_route_hidden_by_an_equal_pattern_is_not_even_considered():
    tenant = a_tenant(a_route("/x", id="first", methods=("GET", "POST")), a_route("/x", id="hidden", methods=("POST",)))
    assert [route.id for route in tenant.resolve(b"/x").routes] == ["first"]


# --- Compiling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (a_snapshot(a_route("no-slash", id="r1")), "route r1: path_pattern must start with '/'"),
        (a_snapshot(a_route(id="r1", origin_id="gone")), "route r1: origin gone is not in the snapshot"),
        (a_snapshot(origins=[an_origin("ftp://x")]), "target target-1: must start with http"),
    ],
)
def test_a_snapshot_that_does_not_compile_says_where(broken, message):
    with pytest.raises(SnapshotError, match=message):
        compile_snapshot(broken)


def test_an_origin_without_a_target_does_not_compile():
    from contracts.snapshot import OriginConfig

    with pytest.raises(SnapshotError, match="origin o1 has no target"):
        compile_snapshot(a_snapshot(origins=[OriginConfig(id="o1", name="empty", targets=())]))


def test_two_equal_snapshots_compile_to_the_same_epochs_and_a_concern_changes_them():
    def epoch(*origins, **route):
        return (
            a_tenant(a_route("/x", cache=a_cache(**route.pop("plan", {})), **route), origins=origins)
            .routes[0]
            .cache.epoch
        )

    base = epoch()
    assert epoch() == base
    same = [
        epoch(priority=3),
        epoch(policies=(a_bucket(),)),
        epoch(required_scopes=("read",)),
        epoch(an_origin(timeout_s=1)),
    ]
    assert set(same) == {base}
    others = [
        epoch(plan={"ttl_s": 5}), epoch(plan={"key_pattern": "path"}), epoch(plan={"shared": True}),
        epoch(strip_prefix="/x"),
        epoch(preserve_host=True), epoch(auth="jwt_required"), epoch(any_user=True), epoch(forward_credential=True),
        epoch(an_origin("http://elsewhere.example.com")), epoch(an_origin("http://origin.example.com:8082/base")),
    ]  # fmt: skip
    assert len({base, *others}) == len(others) + 1


def test_key_headers_count_only_when_the_pattern_says_so():
    def names(pattern):
        plan = a_cache(key_pattern=pattern, key_headers=("Accept",))
        return a_tenant(a_route("/x", cache=plan)).routes[0].cache.names

    assert (names("path+query"), names("path+query+headers")) == ((), (b"accept",))


def test_meters_are_empty_slots_for_telemetry():
    tenant = a_tenant(a_route())
    assert (tenant.meter, tenant.routes[0].meter) == (None, None)


def test_everything_says_what_it_is():
    tenant = a_tenant(a_route("/x/*"))
    assert repr(tenant) == "<Tenant demo version=1 1 routes>"
    assert repr(tenant.routes[0]) == "<Route /x/* public>"
    assert repr(tenant.origins["origin-1"]) == "<Origin backend 1 targets>"
    assert repr(tenant.origins["origin-1"].targets[0]) == "<Target http://origin.example.com:8082 weight=1>"


def tls_of(tenant_id="t1", origin_id="o1", **settings):
    return OriginTls(OriginTlsConfig(**settings), tenant_id, origin_id)


def test_tls_settings_are_for_https_targets_alone():
    origin = an_origin("https://a.test", "http://b.test", tls=OriginTlsConfig(server_name="c.test"))
    tenant = compile_snapshot(a_snapshot(origins=[origin]))
    compiled = tenant.origins[origin.id]
    secure, plain = compiled.targets
    assert secure.tls is compiled.tls is not None
    assert secure.tls.server_name == "c.test"
    assert plain.tls is None
    assert repr(secure.tls).startswith("<OriginTls ")


def test_an_origin_without_tls_settings_has_none():
    origin = an_origin("https://a.test")
    assert compile_snapshot(a_snapshot(origins=[origin])).origins[origin.id].targets[0].tls is None


def test_connections_are_shared_under_equal_tls_settings_and_a_key_at_its_own_place_only():
    assert tls_of(ca_certificates="x").digest == tls_of("t2", "o2", ca_certificates="x").digest
    assert tls_of(ca_certificates="x").digest != tls_of(ca_certificates="y").digest
    assert tls_of(server_name="x").digest != tls_of(ca_certificates="x").digest
    keyed = {"client_certificate": "x", "client_key": "s1.1.AAAA"}
    assert tls_of(**keyed).digest == tls_of(**keyed).digest
    assert len({tls_of(tenant, origin, **keyed).digest for tenant in ("t1", "t2") for origin in ("o1", "o2")}) == 4


def test_stored_answers_outlive_a_key_sealed_anew_and_no_other_change_of_tls():
    def epoch(**tls):
        origin = an_origin("https://a.test", **({"tls": OriginTlsConfig(**tls)} if tls else {}))
        route = a_route(origin_id=origin.id, cache=CacheConfig(ttl_s=60))
        return compile_snapshot(a_snapshot(route, origins=[origin])).routes[0].cache.epoch

    base = {"ca_certificates": "a", "server_name": "b", "client_certificate": "c", "client_key": "d"}
    assert epoch(**base) == epoch(**{**base, "client_key": "e"})
    others = [{**base, name: "z"} for name in ("ca_certificates", "server_name", "client_certificate")]
    assert len({epoch(), epoch(**base), *[epoch(**other) for other in others]}) == 5


@pytest.mark.parametrize(
    ("mode", "accept", "kinds"),
    [
        ("public", (), set()),
        ("jwt_required", (), {"session", "user_token"}),
        ("apikey_required", (), {"key"}),
        ("oauth_required", (), {"access_token", "opaque_access"}),
        ("service_required", (), {"machine_token", "opaque_machine", "signature"}),
        ("any", ("apikey", "jwt"), {"key", "session", "user_token"}),
    ],
)
def test_a_routes_mode_says_which_kinds_of_credential_it_takes(mode, accept, kinds):
    config = a_route("/*", mode, access=AccessConfig(accept=accept))
    assert compile_snapshot(a_snapshot(config)).routes[0].accepts == kinds


@pytest.mark.parametrize("access", [UNSET, AccessConfig()])
def test_a_route_for_any_credential_that_names_none_does_not_compile(access):
    with pytest.raises(SnapshotError, match="at least one kind"):
        compile_snapshot(a_snapshot(a_route("/*", "any", access=access)))


# --- Identity keys --------------------------------------------------------------------------------------------------


def test_all_identity_keys_are_published_and_the_first_private_one_signs():
    keys = [an_identity_key("next", None), an_identity_key("a"), an_identity_key("b")]
    tenant = compile_snapshot(with_keys(a_route(), keys=keys))
    assert tenant.key_set == b'{"keys":[%b]}' % b",".join(key.public_jwk.encode() for key in keys)
    assert tenant.signing_key == ("a", "sealed", identity_key_place(TENANT, "a"))


@pytest.mark.parametrize("snapshot", [a_snapshot(a_route()), with_keys(a_route(), keys=[])])
def test_without_identity_keys_nothing_is_published_and_nothing_signs(snapshot):
    tenant = compile_snapshot(snapshot)
    assert (tenant.key_set, tenant.signing_key) == (b'{"keys":[]}', None)


def test_a_public_key_that_is_none_does_not_compile():
    broken = msgspec.structs.replace(an_identity_key(), public_jwk="]")
    with pytest.raises(SnapshotError, match="identity_keys: a public key is not a JWK"):
        compile_snapshot(with_keys(a_route(), keys=[broken]))


def test_a_route_says_whether_it_sends_an_identity_token():
    asks = [
        a_route("/a"),
        a_route("/b", access=AccessConfig()),
        a_route("/c", access=AccessConfig(identity_token=True)),
    ]
    assert [route.identity_token for route in compile_snapshot(with_keys(*asks)).routes] == [False, False, True]
