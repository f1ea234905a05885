"""The request that goes to the origin (edge.phases.forward)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.snapshot import AccessConfig
from edge.errors import GatewayError, Retry
from edge.exchange import Exchange, Principal
from edge.http.forwarded import Told
from tests.edge.fakes import (
    TENANT,
    Pieces,
    Stage,
    a_cache,
    a_head,
    a_response,
    a_route,
    a_snapshot,
    an_origin,
    with_keys,
)


def sent(stage, index=0):
    line, *fields = stage.origin.heads[index].split("\r\n")
    return line, [field for field in fields if field]


def test_the_request_is_told_anew_in_full():
    stage = Stage(a_route("/api/*", strip_prefix="/api"))
    stage.get("/api/posts/%41?q=%41&q", ("Accept", "*/*"), ("Connection", "close, X-Hop"), ("X-Hop", "1"))
    assert sent(stage) == (
        "GET /posts/A?q=%41&q HTTP/1.1",
        [
            "Host: origin.example.com:8082",
            "Accept: */*",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: demo.example.com",
            "Forwarded: for=192.0.2.7;proto=http;host=demo.example.com",
            "Via: 1.1 vantageedge",
            "X-Vantage-Tenant: 11111111-1111-7111-8111-111111111111",
            "X-Request-Id: 00000000-0000-7000-8000-000000000001",
        ],
    )


def _as_is(stage):
    return {}


def _another_client(stage):
    return {"client_ip": "198.51.100.9"}


def _another_scheme(stage):
    return {"scheme": b"https"}


def _another_hop_before_us(stage):
    return {"told": Told("192.0.2.7", None, None, ("10.0.0.1",))}


def _another_owner_of_the_key(stage):
    stage.knows_key("key-of-alice", id="key-2")
    return {}


def _another_version(stage):
    stage.publish(a_snapshot(a_route("/*", auth="apikey_required", strip_prefix="/api")))
    return {}


@pytest.mark.parametrize(
    "what_changes",
    [_as_is, _another_client, _another_scheme, _another_hop_before_us, _another_owner_of_the_key, _another_version],
)
def test_an_equal_request_is_told_as_if_it_were_the_first(what_changes):
    """Equal heads share what was composed for the one before; nothing of it may be another caller's or version's."""
    told = []
    for heads in ("shared", "fresh"):
        stage = Stage(a_route("/*", auth="apikey_required"))
        stage.knows_key("key-of-alice")
        fields = [("X-API-Key", "key-of-alice"), ("Accept", "*/*")]
        head = a_head("GET", "/api/x?q", fields)
        stage.take(head)
        changed = what_changes(stage)
        stage.take(head if heads == "shared" else a_head("GET", "/api/x?q", fields), **changed)
        told.append(stage.origin.heads[-1])
    assert told[0] == told[1]


def test_an_equal_request_to_the_next_target_names_that_target():
    stage = Stage(snapshot=a_snapshot(a_route(), origins=[an_origin("http://a.example", "http://b.example")]))
    head = a_head("GET", "/")
    for _ in range(2):
        stage.take(head)
    assert [sent(stage, index)[1][0] for index in range(2)] == ["Host: a.example", "Host: b.example"]


def test_what_a_trusted_hop_said_is_passed_on_and_extended():
    stage = Stage()
    told = Told("192.0.2.9", b"https", b"shop.example", ("10.0.0.1",))
    stage.get("/", ("X-Forwarded-For", "forged, 192.0.2.9"), ("X-Forwarded-Host", "forged"), told=told)
    assert sent(stage)[1][1:5] == [
        "X-Forwarded-For: 192.0.2.9, 10.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.example",
        "Forwarded: for=192.0.2.9;proto=https;host=shop.example, for=10.0.0.1",
    ]
    assert "forged" not in stage.origin.heads[0]


def test_a_client_cannot_speak_in_the_gateways_name():
    stage = Stage()
    forged = ("X-Vantage-Principal", "X-VANTAGE-TENANT", "X-Vantage-Anything", "X-Request-Id", "X-Forwarded-For",
              "Forwarded", "X-Real-IP")  # fmt: skip
    stage.get("/", *((name, "forged") for name in forged))
    assert "forged" not in stage.origin.heads[0]


@pytest.mark.parametrize(
    ("prefix", "path", "expected"),
    [
        (None, "/api/x", "/api/x"),
        ("/api", "/api/x", "/x"),
        ("/api/", "/api/x", "/x"),
        ("/api", "/api", "/"),
        ("/api", "/api/", "/"),
        ("/api", "/apix", "/apix"),
        ("/api", "/other", "/other"),
        ("/", "/x", "/x"),
    ],
)
def test_strip_prefix_ends_at_a_segments_end(prefix, path, expected):
    stage = Stage(a_route("/*", strip_prefix=prefix))
    stage.get(path)
    assert sent(stage)[0] == f"GET {expected} HTTP/1.1"


def test_a_targets_base_path_goes_before_the_path():
    stage = Stage(snapshot=a_snapshot(a_route(), origins=[an_origin("https://api.example.com/v1/")]))
    stage.get("/posts?x=1")
    line, fields = sent(stage)
    assert (line, fields[0]) == ("GET /v1/posts?x=1 HTTP/1.1", "Host: api.example.com")
    assert stage.origin.requests[0].url == "https://api.example.com"


def test_a_route_may_preserve_the_clients_host():
    stage = Stage(a_route(preserve_host=True))
    stage.get("/")
    assert sent(stage)[1][0] == "Host: demo.example.com"


def test_an_origins_times_go_with_the_request():
    origin = an_origin(connect_timeout_s=1.0, timeout_s=2.0, idle_timeout_s=3.0)
    stage = Stage(snapshot=a_snapshot(a_route(), origins=[origin]))
    stage.get("/")
    request = stage.origin.requests[0]
    assert (request.connect_timeout_s, request.first_byte_timeout_s, request.idle_timeout_s) == (1.0, 2.0, 3.0)


# --- Bodies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "framing"),
    [
        (b"abc", "Content-Length: 3"),
        (Pieces(b"a", b"bc", length=3), "Content-Length: 3"),
        (Pieces(b"a", b"bc"), "Transfer-Encoding: chunked"),
    ],
)
def test_a_body_goes_on_framed_as_it_came(body, framing):
    stage = Stage()
    assert stage.send("POST", "/", body=body).status == 200
    assert framing in stage.origin.heads[0]
    assert stage.origin.bodies == [b"abc"]


def test_no_body_is_no_framing_but_a_post_says_so():
    stage = Stage()
    stage.get("/")
    stage.send("POST", "/")
    assert "Content-Length" not in stage.origin.heads[0]
    assert "Content-Length: 0" in stage.origin.heads[1]


@pytest.mark.parametrize("body", [b"x" * 11, Pieces(b"x" * 11, length=11)])
def test_a_body_known_to_be_too_large_is_413_before_anything_is_sent(body):
    stage = Stage(a_route(body_bytes_max=10))
    answer = stage.send("POST", "/", body=body)
    assert (answer.status, stage.origin.requests) == (413, [])
    assert answer.exchange.error.close, "what is left of the body cannot be told from a next request"


def test_a_chunked_body_that_turns_out_too_large_is_413():
    stage = Stage(a_route(body_bytes_max=10))
    assert stage.send("POST", "/", body=Pieces(b"x" * 10)).status == 200
    answer = stage.send("POST", "/", body=Pieces(b"x" * 10, b"x"))
    assert (answer.status, answer.exchange.attempts) == (413, 1)


# --- Trailers and interim answers -----------------------------------------------------------------------------------


def test_trailers_are_asked_for_where_the_client_takes_them():
    """RFC 9110 section 10.1.4: a sender of TE MUST also send a "TE" connection option."""
    stage = Stage()
    stage.get("/", ("TE", "trailers, gzip"), ("Connection", "TE"))
    stage.get("/", ("TE", "gzip"))
    stage.get("/")
    assert "TE: trailers\r\nConnection: TE\r\n" in stage.origin.heads[0]
    assert [request.trailers for request in stage.origin.requests] == [True, False, False]
    assert "TE:" not in stage.origin.heads[1] + stage.origin.heads[2]


def test_trailers_are_not_asked_for_by_an_old_client_or_for_an_answer_that_may_be_kept():
    stage = Stage(a_route("/kept", cache=a_cache()), a_route("/*"))
    stage.get("/kept", ("TE", "trailers"))
    head = a_head("GET", "/", [("TE", "trailers")])
    head.version = 10
    stage.serve(Exchange(head, None, "192.0.2.7", b"http", b"id", stage.clock.wall(), stage.clock.mono()))
    assert [request.trailers for request in stage.origin.requests] == [False, False]
    assert "TE:" not in "".join(stage.origin.heads)


def test_what_is_announced_is_announced_on_where_it_can_arrive():
    """RFC 9110 section 6.6.2: Trailer names the fields that are sent as trailers."""
    stage = Stage()
    stage.send("POST", "/", ("Trailer", "X-Sum, Host"), body=Pieces(b"x", trailers=b"X-Sum: 1\r\n"))
    stage.send("POST", "/", ("Trailer", "X-Sum"), body=Pieces(b"x", length=1))
    stage.send("POST", "/", ("Trailer", "X-Sum"), body=b"x")
    assert ["Trailer: X-Sum\r\n" in head for head in stage.origin.heads] == [True, False, False]
    assert stage.origin.requests[0].body.trailers == b"X-Sum: 1\r\n"
    takes = ("TE", "trailers")
    stage.origin.script = [a_response(200, [("Trailer", "X-Sum, Date")], Pieces(b"x")) for _ in range(2)]
    assert [stage.get("/", takes)["Trailer"], stage.get("/")["Trailer"]] == ["X-Sum", None]
    stage.origin.script = [a_response(200, [("Trailer", "X-Sum")], b"x")]
    assert stage.get("/", takes)["Trailer"] is None


def test_what_is_kept_streams_by_without_trailers():
    stage = Stage(a_route("/*", cache=a_cache()))
    stage.origin.script = [a_response(200, (), Pieces(b"x", trailers=b"X-Sum: 1\r\n"))]
    assert stage.get("/", ("TE", "trailers")).reply.body.trailers == b""


def test_an_upload_whose_client_waits_says_so_and_interim_answers_find_their_way():
    stage = Stage()
    stage.send("PUT", "/", body=Pieces(b"x", length=1, waits=True))
    stage.send("PUT", "/", body=Pieces(b"x", length=1))
    stage.send("PUT", "/", body=b"x")
    exchange = Exchange(a_head(), None, "192.0.2.7", b"http", b"id", stage.clock.wall(), stage.clock.mono())
    exchange.interim = print
    stage.serve(exchange)
    assert [request.expects for request in stage.origin.requests] == [True, False, False, False]
    assert [request.interim for request in stage.origin.requests] == [None, None, None, print]


# --- Retries --------------------------------------------------------------------------------------------------------


def failure(retry, slug="origin-unreachable"):
    return GatewayError(slug, "No answer.", retry=retry)


def two_targets(*routes):
    origin = an_origin("http://a.example.com", "http://b.example.com")
    return Stage(snapshot=a_snapshot(*(routes or (a_route(),)), origins=[origin]))


def test_when_nothing_was_sent_another_target_is_tried_whatever_the_method():
    stage = two_targets()
    stage.origin.script = [failure(Retry.NOTHING_SENT), a_response(201)]
    answer = stage.send("POST", "/", body=b"once")
    assert (answer.status, answer.exchange.attempts, answer.exchange.target.id) == (201, 2, "target-2")
    assert [request.url for request in stage.origin.requests] == ["http://a.example.com", "http://b.example.com"]
    assert answer.exchange.error is None


def test_there_are_at_most_two_retries():
    stage = two_targets()
    stage.origin.script = [failure(Retry.NOTHING_SENT)]
    answer = stage.get("/")
    assert (answer.status, answer.exchange.attempts) == (502, 3)


def test_a_kept_connection_that_was_closed_is_replaced_for_idempotent_methods_only():
    stage = Stage()
    stage.origin.script = [failure(Retry.REUSED_CONNECTION), a_response(200)]
    assert stage.send("PUT", "/", body=b"x").exchange.attempts == 2
    assert [request.fresh for request in stage.origin.requests] == [False, True]
    stage.origin.script = [failure(Retry.REUSED_CONNECTION), a_response(200)]
    answer = stage.send("POST", "/", body=b"x")
    assert (answer.status, answer.exchange.attempts) == (502, 1)


@pytest.mark.parametrize("retry", [Retry.NEVER, Retry.IF_IDEMPOTENT])
def test_what_the_origin_may_have_acted_on_is_not_sent_again(retry):
    stage = two_targets()
    stage.origin.script = [failure(retry), a_response(200)]
    assert stage.get("/").exchange.attempts == 1


def test_a_streamed_body_that_was_partly_read_is_never_sent_again():
    stage = two_targets()
    stage.origin.script = [failure(Retry.REUSED_CONNECTION), a_response(200)]
    answer = stage.send("PUT", "/", body=Pieces(b"half", length=4))
    assert (answer.status, answer.exchange.attempts) == (502, 1)


def test_a_streamed_body_nobody_read_is():
    stage = two_targets()
    stage.origin.script = [failure(Retry.NOTHING_SENT), a_response(200)]
    body = Pieces(b"whole", length=5)

    sending = stage.origin.send

    def closes_what_it_was_given(request):
        try:
            return sending(request)
        except GatewayError:
            request.body.close()
            raise

    stage.origin.send = closes_what_it_was_given
    assert stage.send("POST", "/", body=body).exchange.attempts == 2
    assert stage.origin.bodies == [b"whole"]


def test_the_same_targets_timeout_is_not_waited_out_twice():
    late = failure(Retry.NOTHING_SENT, "origin-timeout")
    stage = Stage()
    stage.origin.script = [late]
    assert (stage.get("/").status, len(stage.origin.requests)) == (504, 1)
    stage = two_targets()
    stage.origin.script = [late, a_response(200)]
    assert stage.get("/").exchange.attempts == 2


# --- Principals -----------------------------------------------------------------------------------------------------


NAMES = ("X-Vantage-Principal", "X-Vantage-Tenant", "X-Vantage-Identity")


def _spelt(name: str) -> st.SearchStrategy[str]:
    """A name in any case, with what some server takes for a hyphen."""
    octets = [st.sampled_from("-_.!~*") if letter == "-" else st.sampled_from((letter, letter.swapcase()))
              for letter in name]  # fmt: skip
    return st.tuples(*octets).map("".join)


FORGED = st.lists(
    st.tuples(
        st.sampled_from(NAMES).flatmap(_spelt) | st.sampled_from(("Accept", "Connection", "Cookie")),
        st.sampled_from(("forged", "X-Vantage-Principal, X-Vantage-Tenant", '{"v":1,"kind":"user","sub":"root"}')),
    ),
    max_size=8,
)


@given(FORGED, st.sampled_from(["public", "apikey_required"]), st.booleans(), st.booleans())
def test_whatever_a_client_sends_the_origin_sees_what_we_say_of_it_once(fields, auth, vouched, forward_credential):
    access = AccessConfig(identity_token=vouched)
    stage = Stage(snapshot=with_keys(a_route(auth=auth, access=access, forward_credential=forward_credential)))
    stage.knows_key("key-of-alice")
    assert stage.get("/", *fields, ("X-API-Key", "key-of-alice")).status == 200
    seen = [line.partition(": ") for line in stage.origin.heads[0].split("\r\n")[1:] if line]
    ours = [(name, value) for name, _, value in seen if re.match("(?i)x[^a-z0-9]vantage", name)]
    expected = {"X-Vantage-Tenant": TENANT}
    if auth != "public":
        expected["X-Vantage-Principal"] = '{"v":1,"kind":"key","sub":"key-1","scopes":["read","write"]}'
    if vouched:
        expected["X-Vantage-Identity"] = stage.recorder.records[0].identity.decode()[20:-2]
    assert sorted(ours) == sorted(expected.items())


def test_the_fields_of_a_credential_go_and_other_credentials_stay_the_origins():
    stage = Stage(a_route(auth="apikey_required"))
    stage.knows_key("key-of-alice")
    stage.get("/", ("X-API-Key", "key-of-alice"), ("Authorization", "Basic b3JpZ2lu"))
    assert "Authorization: Basic b3JpZ2lu" in sent(stage)[1]
    assert "key-of-alice" not in stage.origin.heads[0]


def test_whichever_fields_carried_a_credential_they_go():
    stage = Stage(a_route(auth="apikey_required"))
    stage.knows_key("key-of-alice")
    carried = frozenset({b"signature", b"signature-input", b"x-api-key"})

    class ByThree:
        def verify(self, credential, exchange, tenant, route):
            credential.fields = carried
            return Principal("service", "svc_1")

    stage.pipeline._authenticator.verifiers["key"] = ByThree()
    stage.get("/", ("X-API-Key", "k" * 20), ("Signature", "ve=:x:"), ("Signature-Input", "ve=()"), ("Accept", "*/*"))
    assert [name.partition(":")[0] for name in sent(stage)[1][:2]] == ["Host", "Accept"]
    assert not any(name.startswith("Signature") for name in sent(stage)[1])


@pytest.mark.parametrize("auth", ["public", "apikey_required"])
@pytest.mark.parametrize("forward_credential", [True, False])
def test_clerks_cookies_reach_no_origin(auth, forward_credential):
    stage = Stage(a_route(auth=auth, forward_credential=forward_credential))
    stage.knows_key("key-of-alice")
    stage.get("/", ("X-API-Key", "key-of-alice"), ("Cookie", "a=1; __session=eyJ; __client_uat=2; b=2"))
    assert "Cookie: a=1; b=2" in sent(stage)[1]


ASKS = (("Connection", "Upgrade"), ("Upgrade", "h2c, websocket"), ("Sec-WebSocket-Key", "x"))


def test_an_upgrade_is_offered_anew_and_the_offer_goes_with_the_request():
    stage = Stage()
    stage.get("/", *ASKS, ("HTTP2-Settings", "AAMAAABkAAQAAP__"))
    fields = sent(stage)[1]
    assert [field for field in fields if field.startswith(("Connection", "Upgrade", "Sec-", "HTTP2"))] == [
        "Sec-WebSocket-Key: x", "Connection: Upgrade", "Upgrade: websocket",
    ]  # fmt: skip
    assert stage.origin.requests[0].upgrade == b"websocket"


def test_h2c_is_not_offered():
    stage = Stage()
    stage.get("/", ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "x"))
    assert not any(field.startswith(("Connection", "Upgrade", "HTTP2")) for field in sent(stage)[1])
    assert stage.origin.requests[0].upgrade == b""


def test_with_a_body_nothing_is_offered():
    stage = Stage()
    stage.send("POST", "/", *ASKS, body=b"x")
    assert stage.origin.requests[0].upgrade == b""
