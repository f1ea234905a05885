"""Where an OAuth client finds out who gives out tokens (edge.phases.metadata), RFC 9728."""

import json

import msgspec
import pytest

from contracts.clerk import Expectation
from contracts.snapshot import AccessConfig, IssuerConfig
from edge.http.forwarded import Told
from edge.phases import metadata
from tests.edge.fakes import ISSUER, Stage, a_route, a_snapshot

WELL_KNOWN = "/.well-known/oauth-protected-resource"
OWN = AccessConfig(issuers=("own",))
ROUTES = (
    a_route("/oauth/*", "oauth_required", required_scopes=("b", "a")),
    a_route("/any", "any", access=AccessConfig(accept=("apikey", "oauth")), required_scopes=("c",)),
    a_route("/own", "oauth_required", access=OWN),
    a_route("/me", "jwt_required"),
    a_route("/public"),
)
INTROSPECTION = {"introspection_url": "https://i.example/introspect", "client_id": "c", "client_secret": "s1.1.x"}
ISSUERS = (
    IssuerConfig(id="own", name="own", kind="oauth", issuer="https://own.example", audience=("a",), jwks_uri="https://own.example/j"),
    IssuerConfig(id="opaque", name="opaque", kind="introspection", issuer="https://i.example", **INTROSPECTION),
    IssuerConfig(id="users", name="users", kind="jwt", issuer="https://u.example", audience=("a",), jwks_uri="https://u.example/j"),
)  # fmt: skip
EVERYBODY = [ISSUER, "https://own.example", "https://i.example"]


def the_stage(*routes):
    snapshot = a_snapshot(*(routes or ROUTES))
    stage = Stage(snapshot=msgspec.structs.replace(snapshot, issuers=ISSUERS))
    assert stage.sessions.expectation == Expectation(ISSUER, stage.sessions.expectation.authorized_parties)
    return stage


@pytest.mark.parametrize(
    ("path", "servers", "scopes"),
    [
        ("", EVERYBODY, ["a", "b", "c"]),
        ("/", EVERYBODY, ["a", "b", "c"]),
        ("/oauth/x", EVERYBODY, ["a", "b"]),
        ("/any", EVERYBODY, ["c"]),
        ("/own", ["https://own.example"], None),
    ],
)
def test_the_document_names_what_was_asked_and_who_gives_out_tokens_for_it(path, servers, scopes):
    """RFC 9728 section 3.2: "Parameters with zero values MUST be omitted from the response." """
    answer = the_stage().get(WELL_KNOWN + path)
    assert (answer.status, answer["Content-Type"]) == (200, "application/json")
    assert json.loads(answer.body) == {
        "resource": "http://demo.example.com" + path.removesuffix("/"),
        "authorization_servers": servers,
        "bearer_methods_supported": ["header"],
        **({} if scopes is None else {"scopes_supported": scopes}),
    }
    assert (answer["Cache-Control"], answer["Access-Control-Allow-Origin"]) == ("public, max-age=60", "*")


def test_the_document_names_the_address_that_a_trusted_hop_says_was_asked():
    told = Told("203.0.113.9", b"https", b"API.example.org", ())
    answer = the_stage().get(WELL_KNOWN + "/any", told=told)
    assert json.loads(answer.body)["resource"] == "https://api.example.org/any"
    challenge = the_stage().get("/any", told=told)["WWW-Authenticate"]
    assert challenge.endswith(f'resource_metadata="https://api.example.org{WELL_KNOWN}/any"')


def test_head_is_get_without_the_document():
    stage = the_stage()
    answer = stage.send("HEAD", WELL_KNOWN)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.reply.announced_length == len(stage.get(WELL_KNOWN).body)


@pytest.mark.parametrize("path", ["/me", "/public", "/nowhere", "x", "-other"])
def test_what_takes_no_oauth_token_has_no_document(path):
    answer = the_stage().get(WELL_KNOWN + path)
    assert (answer.status, answer.exchange.error.problem.slug) == (404, "route-unknown")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_a_routes_business(method):
    assert the_stage().send(method, WELL_KNOWN).status == 404


def test_a_path_that_is_no_path_is_refused_as_everywhere():
    for path in ("/%00", "/a/../../%zz"):
        assert the_stage().get(WELL_KNOWN + path).exchange.error.problem.slug == "path-invalid"


def test_a_tenant_without_oauth_routes_has_no_document_and_its_catch_all_gets_the_request():
    stage = the_stage(a_route("/*"))
    assert stage.get(WELL_KNOWN).body == b"hello"


def test_a_route_of_the_tenants_own_below_well_known_goes_before_it_and_one_for_everything_does_not():
    own = the_stage(*ROUTES, a_route("/.well-known/*"))
    assert own.get(WELL_KNOWN).body == b"hello"
    everything = the_stage(*ROUTES, a_route("/*", "oauth_required"), a_route("/{any}/*", "jwt_required"))
    assert json.loads(everything.get(WELL_KNOWN).body)["resource"] == "http://demo.example.com"


# --- Challenges -----------------------------------------------------------------------------------------------------


def pointer(path):
    return f', resource_metadata="http://demo.example.com{WELL_KNOWN}{path}"'


def test_a_challenge_of_a_route_that_takes_oauth_tokens_points_at_its_document():
    """RFC 9728 section 5.1; RFC 6750 section 3.1 decides what stands before it."""
    stage = the_stage()
    assert stage.get("/own")["WWW-Authenticate"] == 'Bearer realm="demo"' + pointer("/own")
    bad = stage.get("/oauth/a%2Db?q=1", ("Authorization", "Bearer x"))["WWW-Authenticate"]
    assert bad == 'Bearer realm="demo", error="invalid_token"' + pointer("/oauth/a-b")
    stage.knows_key("k", scopes=("read",))
    lacking = stage.get("/any", ("X-API-Key", "k"))
    assert (lacking.status, lacking["WWW-Authenticate"]) == (
        403, 'Bearer realm="demo", error="insufficient_scope", scope="c"' + pointer("/any"),
    )  # fmt: skip


def test_the_document_a_challenge_points_at_is_there_and_is_about_what_was_asked():
    stage = the_stage(*ROUTES, a_route("/", "oauth_required"))
    for path in ("/own", "/any", "/oauth/x/y", "/"):
        url = stage.get(path)["WWW-Authenticate"].partition('resource_metadata="')[2].removesuffix('"')
        document = json.loads(stage.get(url.removeprefix("http://demo.example.com")).body)
        assert document["resource"] == "http://demo.example.com" + path.removesuffix("/")


def test_a_very_long_path_is_pointed_at_as_a_whole():
    challenge = the_stage().get("/oauth/" + "x" * metadata._POINTED_PATH_BYTES_MAX)["WWW-Authenticate"]
    assert challenge == 'Bearer realm="demo"' + pointer("")


@pytest.mark.parametrize("path", ["/me"])
def test_a_challenge_of_another_route_points_nowhere(path):
    assert the_stage().get(path)["WWW-Authenticate"] == 'Bearer realm="demo"'


def test_what_is_no_challenge_is_left_as_it_is():
    stage = the_stage()
    stage.keys.away = True
    answer = stage.get("/any", ("X-API-Key", "k"))
    assert (answer.status, answer["WWW-Authenticate"]) == (503, None)
    twice = stage.get("/any", ("X-API-Key", "k"), ("X-API-Key", "k"))
    assert (twice.status, twice["WWW-Authenticate"]) == (400, None)


def test_nothing_a_client_writes_leaves_the_quotes():
    stage = the_stage()
    for path in ('/oauth/"x', "/oauth/a'b", "/oauth/%22x"):
        challenge = stage.get(path)["WWW-Authenticate"]
        assert challenge is None or challenge.partition('resource_metadata="')[2].count('"') == 1
