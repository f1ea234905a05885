"""Which route serves the request (edge.phases.route)."""

import weakref

import pytest

from edge.phases import route
from edge.snapshot import compile_snapshot
from tests.edge.fakes import OTHER_TENANT, Stage, a_bucket, a_cache, a_head, a_route, a_snapshot


def chosen(stage, method, target):
    answer = stage.send(method, target)
    return answer.exchange.route.id if answer.status == 200 else answer.status


def test_a_path_without_a_route_is_404():
    stage = Stage(a_route("/api/*"))
    answer = stage.get("/elsewhere")
    assert (answer.status, answer["Allow"]) == (404, None)
    assert b'"route-unknown"' in answer.body


def test_a_method_no_route_allows_is_405_and_allow_names_those_of_all_routes_of_the_path():
    stage = Stage(
        a_route("/items/{id}", methods=("GET",)), a_route("/items/*", methods=("DELETE", "POST")), a_route("/other")
    )
    answer = stage.send("PUT", "/items/1")
    assert (answer.status, answer["Allow"]) == (405, "GET, HEAD, POST, DELETE")


def test_head_is_allowed_where_get_is():
    stage = Stage(a_route("/items", methods=("GET",)))
    assert stage.send("HEAD", "/items").status == 200


def test_two_routes_of_one_path_share_it_by_method():
    stage = Stage(a_route("/x", id="reads", methods=("GET",)), a_route("/x", id="writes", methods=("POST", "PUT")))
    assert [chosen(stage, method, "/x") for method in ("GET", "PUT", "GET", "POST")] == [
        "reads", "writes", "reads", "writes",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["/a/../b", "/./b", "/%62", "/b"])
def test_one_normalised_path_is_matched_and_forwarded(path):
    stage = Stage(a_route("/b"))
    answer = stage.get(path + "?raw=%62")
    assert answer.exchange.path == b"/b"
    assert stage.origin.heads[0].startswith("GET /b?raw=%62 HTTP/1.1\r\n")


@pytest.mark.parametrize("path", ["/a\\b", "/%00", "/%2", "/a%2Fb", "*"])
def test_a_path_that_two_parsers_could_read_differently_is_400(path):
    stage = Stage(a_route("/*"))
    answer = stage.get(path)
    assert answer.status == 400
    assert b'"path-invalid"' in answer.body


def test_a_made_up_method_is_matched_by_a_route_for_all_methods_and_not_remembered():
    stage = Stage(a_route("/x"))
    assert stage.send("BREW", "/x").status == 200
    tenant = stage.config.tenants[b"demo.example.com"]
    assert tenant.paths[b"/x"].by_method == {}


# --- Memory ---------------------------------------------------------------------------------------------------------


def a_tenant(*routes, **of):
    return compile_snapshot(a_snapshot(*routes, **of))


def test_a_path_seen_before_is_one_look_up():
    tenant, paths = a_tenant(a_route("/x/{id}")), route.Paths()
    assert paths.resolve(tenant, b"/x/1") is paths.resolve(tenant, b"/x/1") is tenant.resolve(b"/x/1")
    assert tenant.resolve(b"/x/2") is not tenant.resolve(b"/x/2"), "only a request's path is remembered"


def test_the_memory_of_paths_is_bounded_and_paths_without_a_route_do_not_enter_it(monkeypatch):
    monkeypatch.setattr(route, "PATHS_MAX", 3)
    tenant, paths = a_tenant(a_route("/x/*")), route.Paths()
    for number in range(10):
        paths.resolve(tenant, b"/x/%d" % number)
        paths.resolve(tenant, b"/y/%d" % number)
        assert len(tenant.paths) <= 3
    assert all(path.startswith(b"/x/") for path in tenant.paths)
    tenant.paths.clear()
    paths.resolve(tenant, b"/x/" + b"long" * 200)
    assert tenant.paths == {}


def test_all_tenants_together_remember_no_more_than_a_worker_may(monkeypatch):
    """Anybody can ask many tenants for many paths."""
    monkeypatch.setattr(route, "ALL_PATHS_MAX", 10)
    paths = route.Paths()
    tenants = [a_tenant(a_route(), id=f"{OTHER_TENANT}-{number}") for number in range(4)]
    for number in range(20):
        for tenant in tenants:
            paths.resolve(tenant, b"/%d" % number)
            assert sum(len(each.paths) for each in tenants) <= 10


def test_a_version_that_is_no_longer_in_force_goes_though_heads_are_remembered_that_met_it():
    routes = [a_route("/x", "apikey_required", cache=a_cache(), policies=(a_bucket(scope=("key",)),))]
    stage = Stage(*routes)
    stage.knows_key("key-of-alice")
    head = a_head("GET", "/x", [("X-API-Key", "key-of-alice")])
    for _ in range(2):
        stage.take(head)
    old = weakref.ref(stage.config.tenants[b"demo.example.com"])
    stage.publish(a_snapshot(*routes, version=2))
    stage.recorder.records.clear()
    assert old() is None
