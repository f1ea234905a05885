"""Which route serves the request (edge.phases.route)."""

import pytest

from tests.edge.fakes import Stage, a_route


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
