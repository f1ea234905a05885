"""From memory (edge.phases.cache).

Longer than 400 lines because a module has one twin, and what may not be kept is most of it.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.bounds import CACHE_OBJECT_BYTES_MAX
from contracts.keyspace import url_digest
from edge.errors import ClientGone
from edge.exchange import Exchange, Principal
from edge.http.forwarded import Told
from edge.phases import cache
from edge.snapshot import joined
from tests.edge.fakes import NOW, OTHER_TENANT, Pieces, Stage, a_cache, a_head, a_response, a_route, a_snapshot

DATE = "Fri, 15 Jan 2027 08:00:00 GMT"  # the stage's own time


def a_stage(ttl_s=300, auth="public", **plan):
    stage = Stage(a_route("/posts/*", auth, cache=a_cache(ttl_s, **plan)))
    stage.origin.answers(200, b"post 1", Content_Type="text/plain", ETag='"v1"', Date=DATE)
    return stage


def told(answer):
    return answer["X-Cache"], answer["Cache-Status"]


MISS = ("MISS", "vantageedge; fwd=uri-miss; stored")


# --- Served ---------------------------------------------------------------------------------------------------------


def test_the_first_answer_is_a_miss_and_the_second_comes_from_memory():
    stage = a_stage()
    first = stage.get("/posts/1")
    stage.clock.passes(7.5)
    second = stage.get("/posts/1")
    assert told(first) == MISS
    assert told(second) == ("HIT", "vantageedge; hit; ttl=292")
    assert (second.status, second.body, second["Content-Type"], second["Age"]) == (200, b"post 1", "text/plain", "7")
    assert second["Via"] == first["Via"] == "1.1 vantageedge"
    assert len(stage.origin.requests) == 1


def test_a_stored_answer_is_not_served_beyond_its_lifetime():
    stage = a_stage(ttl_s=10)
    stage.get("/posts/1")
    stage.clock.passes(10)
    assert told(stage.get("/posts/1")) == ("MISS", "vantageedge; fwd=stale; stored")


def test_the_ttl_counts_from_now_though_the_answer_came_with_an_age():
    stage = a_stage(ttl_s=10)
    stage.origin.answers(200, b"x", Age="500")
    assert stage.get("/posts/1")["Age"] == "500"
    stage.clock.passes(9)
    hit = stage.get("/posts/1")
    assert (hit["X-Cache"], hit["Age"]) == ("HIT", "509")


def test_ttl_zero_keeps_only_what_the_origin_says():
    stage = a_stage(ttl_s=0)
    assert told(stage.get("/posts/1")) == ("MISS", "vantageedge; fwd=uri-miss; detail=no-freshness")
    stage.origin.answers(200, b"x", Cache_Control="max-age=5")
    assert told(stage.get("/posts/1")) == MISS
    assert stage.get("/posts/1")["X-Cache"] == "HIT"


def test_head_is_answered_from_a_stored_get_without_body_but_with_its_length():
    stage = a_stage()
    stage.get("/posts/1")
    answer = stage.send("HEAD", "/posts/1")
    assert (answer["X-Cache"], answer.body, answer.reply.announced_length) == ("HIT", b"", 6)


def test_a_head_that_misses_is_not_stored():
    stage = a_stage()
    assert told(stage.send("HEAD", "/posts/1")) == ("MISS", "vantageedge; fwd=uri-miss")
    assert stage.cache.stored == {}


def test_who_holds_the_stored_answer_gets_304():
    stage = a_stage()
    stage.get("/posts/1")
    answer = stage.get("/posts/1", ("If-None-Match", '"v1"'))
    assert (answer.status, answer.body, answer["X-Cache"], answer["ETag"]) == (304, b"", "HIT", '"v1"')
    assert answer["Content-Type"] is None
    assert stage.get("/posts/1", ("If-None-Match", '"v2"')).status == 200


def test_a_miss_asks_the_origin_for_all_of_it_so_that_it_can_be_kept():
    stage = a_stage()
    stage.get("/posts/1", ("If-None-Match", '"v1"'), ("If-Modified-Since", DATE))
    assert "If-" not in stage.origin.heads[0]
    assert stage.get("/posts/1")["X-Cache"] == "HIT"


def test_a_stored_answer_other_than_200_is_served_as_it_is():
    stage = a_stage()
    stage.origin.answers(301, b"", Location="/posts/2", ETag='"v1"')
    stage.get("/posts/1")
    answer = stage.get("/posts/1", ("If-None-Match", '"v1"'))
    assert (answer.status, answer["X-Cache"], answer["Location"]) == (301, "HIT", "/posts/2")


# --- What the client asks for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", [("Cache-Control", "no-cache"), ("Pragma", "no-cache"), ("Cache-Control", "max-age=3")]
)
def test_a_client_may_ask_for_a_newer_answer_and_others_get_it_too(field):
    stage = a_stage()
    stage.get("/posts/1")
    stage.clock.passes(4)
    stage.origin.answers(200, b"post 1, edited")
    assert told(stage.get("/posts/1", field)) == ("MISS", "vantageedge; fwd=request; stored")
    assert stage.get("/posts/1").body == b"post 1, edited"


def test_min_fresh_asks_for_some_lifetime_left():
    stage = a_stage(ttl_s=10)
    stage.get("/posts/1")
    assert stage.get("/posts/1", ("Cache-Control", "min-fresh=10"))["X-Cache"] == "HIT"
    assert stage.get("/posts/1", ("Cache-Control", "min-fresh=11"))["X-Cache"] == "MISS"


def test_only_if_cached_is_504_when_nothing_is_stored():
    """RFC 9111 section 5.2.1.7."""
    stage = a_stage()
    answer = stage.get("/posts/1", ("Cache-Control", "only-if-cached"))
    assert (answer.status, told(answer)) == (504, ("MISS", "vantageedge; fwd=uri-miss"))
    assert stage.origin.requests == []
    stage.get("/posts/1")
    assert stage.get("/posts/1", ("Cache-Control", "only-if-cached")).status == 200


# --- Bypassed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (("Cache-Control", "no-store"), "no-store"),
        (("Range", "bytes=0-1"), "range"),
        (("If-Match", '"v1"'), "precondition"),
        (("If-Unmodified-Since", DATE), "precondition"),
        (("X-HTTP-Method-Override", "DELETE"), "override"),
        (("X-Method-Override", "DELETE"), "override"),
        (("Cookie", "session=alice"), "cookie"),
        (("Authorization", "Basic YWxpY2U6eA=="), "authorization"),
        (("X-API-Key", "for-the-origin"), "authorization"),
        (("Signature", "a=:AAAA:"), "authorization"),
        (("Connection", "Accept-Language"), "nominated"),
    ],
)
def test_what_the_origin_sees_and_the_key_does_not_hold_bypasses(field, reason):
    stage = a_stage()
    stage.get("/posts/1")
    answer = stage.get("/posts/1", field)
    assert told(answer) == ("BYPASS", f"vantageedge; fwd=bypass; detail={reason}")
    assert len(stage.origin.requests) == 2
    assert len(stage.cache.stored) == 1


@pytest.mark.parametrize("field", [("Authorization", "Basic Ym9iOng="), ("Signature", "a=:AAAA:")])
def test_a_credential_beside_the_one_that_was_believed_is_the_origins_and_bypasses(field):
    """One key in an app, and each user's own password for the origin: what Alice was told is not Bob's to read."""
    stage = a_stage(auth="apikey_required")
    stage.knows_key("key-of-the-app")
    key = ("X-API-Key", "key-of-the-app")
    assert told(stage.get("/posts/1", key)) == MISS
    answer = stage.get("/posts/1", key, field)
    assert told(answer) == ("BYPASS", "vantageedge; fwd=bypass; detail=authorization")
    assert f"{field[0]}: {field[1]}" in stage.origin.heads[1]
    assert stage.get("/posts/1", key)["X-Cache"] == "HIT"


@pytest.mark.parametrize("name", ["X-Locale", "Accept-Language"])
def test_what_is_taken_away_on_this_hop_never_counts_as_what_the_origin_was_asked_for(name):
    """RFC 9110 section 7.6.1 lets a client have a field taken away. What was said without it must not be kept as if it
    had been said to it: whoever asks with the field next would get that."""
    stage = a_stage(key_pattern="path+query+headers", key_headers=("x-locale",))
    stage.origin.answers(200, b"default", Vary="Accept-Language")
    assert stage.get("/posts/1", (name, "de"), ("Connection", name))["X-Cache"] == "BYPASS"
    assert f"{name}: de" not in stage.origin.heads[0]
    stage.origin.answers(200, b"deutsch", Vary="Accept-Language")
    assert stage.get("/posts/1", (name, "de")).body == b"deutsch"
    assert stage.get("/posts/1", (name, "de"), ("Connection", "close, X-Other"))["X-Cache"] == "HIT"


def test_a_get_with_a_body_bypasses():
    stage = a_stage()
    stage.get("/posts/1")
    assert told(stage.send("GET", "/posts/1", body=b"fat")) == ("BYPASS", "vantageedge; fwd=bypass; detail=body")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_not_served_from_memory(method):
    stage = a_stage()
    stage.get("/posts/1")
    assert told(stage.send(method, "/posts/1")) == ("BYPASS", "vantageedge; fwd=method")


def test_a_field_that_is_part_of_the_key_does_not_bypass():
    stage = a_stage(
        key_pattern="path+query+headers", key_headers=("cookie", "Authorization", "x-api-key", "X-Method-Override")
    )
    fields = [("Cookie", "a"), ("Authorization", "b"), ("X-API-Key", "c"), ("X-Method-Override", "d")]
    assert told(stage.get("/posts/1", *fields)) == MISS
    assert stage.get("/posts/1", *fields)["X-Cache"] == "HIT"
    assert stage.get("/posts/1", *fields[1:])["X-Cache"] == "MISS"


def test_a_shared_route_is_shared_whoever_asks():
    stage = a_stage(shared=True)
    stage.get("/posts/1")
    assert stage.get("/posts/1", ("Cookie", "session=alice"), ("Authorization", "Basic x"))["X-Cache"] == "HIT"


def test_an_equal_request_is_kept_under_the_same_key_only_while_nothing_else_changed():
    """Equal heads share the key of the one before: never across callers, schemes or what the configuration says."""
    stage = a_stage(auth="apikey_required")
    stage.knows_key("key-of-alice")
    head = a_head("GET", "/posts/1", [("X-API-Key", "key-of-alice")])
    assert [stage.take(head, scheme=b"https")["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert [stage.take(head)["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    stage.knows_key("key-of-alice", id="key-of-bob")
    assert [stage.take(head)["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    stage.publish(a_snapshot(a_route("/posts/*", "apikey_required", cache=a_cache(300, shared=True)), version=2))
    assert [stage.take(head)["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]


def test_equal_fields_are_read_once_for_the_cache_whatever_is_asked_for():
    stage = a_stage()
    first, second = a_head("GET", "/posts/1"), a_head("GET", "/posts/2")
    second.section = first.section
    assert [stage.take(head)["X-Cache"] for head in (first, second, second)] == ["MISS", "MISS", "HIT"]
    assert "cache" in first.section.derived


def test_a_section_remembers_one_reading_however_many_routes_read_it():
    """Routes are a tenant's to make, and fields a client's to send: what is remembered must not be their product."""
    routes = [
        a_route(f"/{number}", cache=a_cache(key_pattern="path+query+headers", key_headers=(f"x-{number}",)))
        for number in range(20)
    ]
    stage = Stage(*routes)
    section = a_head("GET", "/").section
    for number in range(20):
        head = a_head("GET", f"/{number}")
        head.section = section
        stage.take(head)
    assert len(section.derived) < 5


def test_a_route_without_cache_says_nothing_about_it():
    assert told(Stage(a_route("/*")).get("/")) == (None, None)


# --- Kept -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "fields", "reason"),
    [
        (200, {"Cache_Control": "no-store"}, "no-store"),
        (200, {"Cache_Control": "private"}, "private"),
        (200, {"Set_Cookie": "a=b"}, "set-cookie"),
        (200, {"Vary": "User-Agent"}, "vary"),
        (500, {}, "status"),
        (404, {}, "no-freshness"),
    ],
)
def test_what_must_not_be_kept_is_not_and_the_answer_says_why(status, fields, reason):
    stage = a_stage()
    stage.origin.answers(status, b"x", **fields)
    answer = stage.get("/posts/1")
    assert told(answer) == ("MISS", f"vantageedge; fwd=uri-miss; detail={reason}")
    assert answer.exchange.cache_reason == reason
    assert stage.cache.stored == {}


def test_a_streamed_answer_is_kept_when_it_arrived_whole():
    stage = a_stage()
    stage.origin.answers(200, Pieces(b"one ", b"two"))
    assert stage.get("/posts/1").body == b"one two"
    hit = stage.get("/posts/1")
    assert (hit["X-Cache"], hit.body) == ("HIT", b"one two")


def test_an_answer_that_broke_off_is_not_kept():
    stage = a_stage()
    body = Pieces(b"one ", ClientGone())
    stage.origin.answers(200, body)
    with pytest.raises(AssertionError, match="exactly one"):
        stage.get("/posts/1")
    assert stage.cache.stored == {}
    assert body.closed == 1


def test_an_answer_until_the_connection_closes_is_not_kept():
    stage = a_stage()
    stage.origin.script = [a_response(200, (), Pieces(b"cut off?"), chunked=False)]
    assert told(stage.get("/posts/1"))[1].endswith("detail=unframed")


def test_a_large_answer_streams_through_and_is_not_kept():
    stage = a_stage()
    half = b"x" * (CACHE_OBJECT_BYTES_MAX // 2)
    stage.origin.answers(200, Pieces(half, half, b"x", half))
    assert len(stage.get("/posts/1").body) == 3 * len(half) + 1
    assert stage.cache.stored == {}
    stage.origin.answers(200, Pieces(b"x", length=CACHE_OBJECT_BYTES_MAX + 1))
    assert told(stage.get("/posts/2"))[1].endswith("detail=too-large")
    stage.origin.answers(200, b"x" * (CACHE_OBJECT_BYTES_MAX + 1))
    assert told(stage.get("/posts/3"))[1].endswith("detail=too-large")
    stage.origin.answers(200, b"x" * CACHE_OBJECT_BYTES_MAX)
    assert told(stage.get("/posts/4")) == MISS


def test_nothing_of_one_request_is_kept_with_the_answer():
    stage = a_stage()
    stage.origin.answers(200, b"x", X_Request_Id="the-origins", X_Cache="HIT from far", Connection="close")
    stage.get("/posts/1")
    (stored,) = stage.cache.stored.values()
    assert stored.lines == b""


# --- Keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "same"), [("path", True), ("path+query", False), ("path+query+headers", False)])
def test_the_pattern_says_whether_the_query_counts(pattern, same):
    stage = a_stage(key_pattern=pattern)
    stage.get("/posts/1?a=1")
    assert stage.get("/posts/1?a=2")["X-Cache"] == ("HIT" if same else "MISS")
    assert stage.get("/posts/2?a=1")["X-Cache"] == "MISS"


def test_no_query_and_an_empty_one_are_different_urls():
    stage = a_stage()
    stage.get("/posts/1")
    assert stage.get("/posts/1?")["X-Cache"] == "MISS"


def test_key_headers_part_answers_and_allow_the_vary_they_cover():
    stage = a_stage(key_pattern="path+query+headers", key_headers=("accept-language",))
    stage.origin.answers(200, b"hallo", Vary="Accept-Language")
    assert told(stage.get("/posts/1", ("Accept-Language", "de"))) == MISS
    assert len(stage.cache.stored) == 1, "the key itself tells them apart"
    assert stage.get("/posts/1", ("Accept-Language", "de"))["X-Cache"] == "HIT"
    assert stage.get("/posts/1", ("Accept-Language", "en"))["X-Cache"] == "MISS"
    assert stage.get("/posts/1")["X-Cache"] == "MISS"
    assert stage.get("/posts/1", ("Accept-Language", ""))["X-Cache"] == "MISS", "empty is not absent"


def test_an_answer_that_varies_by_what_browsers_negotiate_is_kept_once_for_each_variant():
    stage = a_stage()
    stage.origin.answers(200, b"zipped", Vary="Accept-Encoding", Content_Encoding="gzip")
    curl, browser = ("Accept-Encoding", "gzip"), ("Accept-Encoding", "gzip, br;q=0.9")
    assert told(stage.get("/posts/1", curl)) == MISS
    assert stage.get("/posts/1", curl)["X-Cache"] == "HIT"
    assert told(stage.get("/posts/1", browser)) == MISS
    assert stage.get("/posts/1", ("Accept-Encoding", "br, GZIP"))["X-Cache"] == "HIT"
    assert stage.get("/posts/1")["X-Cache"] == "MISS"
    assert len({key.url_digest for key in stage.cache.stored}) == 1, "one purge takes them all"


def test_another_worker_finds_variants_by_the_marker():
    stage = a_stage()
    stage.origin.answers(200, b"x", Vary="Accept-Language, Origin")
    fields = [("Accept-Language", "de"), ("Origin", "https://a.example.com")]
    stage.get("/posts/1", *fields)
    other = a_stage()
    other.cache.stored = stage.cache.stored
    assert other.get("/posts/1", *fields)["X-Cache"] == "HIT"
    assert other.get("/posts/1", *fields[:1])["X-Cache"] == "MISS"


def test_an_answer_that_stopped_varying_takes_the_markers_place():
    stage = a_stage()
    stage.origin.answers(200, b"x", Vary="Accept")
    stage.get("/posts/1")
    stage.origin.answers(200, b"plain")
    stage.get("/posts/1", ("Cache-Control", "no-cache"))
    assert stage.get("/posts/1", ("Accept", "anything"))["X-Cache"] == "HIT"


def test_what_one_principal_was_told_is_not_told_to_another():
    stage = a_stage(auth="apikey_required")
    stage.knows_key("alices_key_001", id="key-alice")
    stage.knows_key("bobs_key_00002", id="key-bob")
    stage.get("/posts/1", ("X-API-Key", "alices_key_001"))
    assert stage.get("/posts/1", ("X-API-Key", "alices_key_001"))["X-Cache"] == "HIT"
    assert stage.get("/posts/1", ("X-API-Key", "bobs_key_00002"))["X-Cache"] == "MISS"


def test_on_a_shared_route_it_is_but_only_to_who_may_ask():
    stage = a_stage(auth="apikey_required", shared=True)
    stage.knows_key("alices_key_001", id="key-alice")
    stage.knows_key("bobs_key_00002", id="key-bob")
    stage.get("/posts/1", ("X-API-Key", "alices_key_001"))
    assert stage.get("/posts/1", ("X-API-Key", "bobs_key_00002"))["X-Cache"] == "HIT"
    assert stage.get("/posts/1").status == 401


def test_a_host_the_origin_is_told_of_does_not_change_the_answer_of_another():
    stage = a_stage()
    stage.publish(a_snapshot(*[a_route("/posts/*", cache=a_cache())]), "demo.example.com:8000")
    stage.get("/posts/1", host="demo.example.com")
    assert stage.get("/posts/1", host="demo.example.com:8000")["X-Cache"] == "MISS"


def test_a_host_that_a_trusted_hop_told_of_does_not_change_the_answer_of_another():
    """X-Forwarded-Host reaches the origin; whoever can set it must not set what others get."""
    stage = a_stage()
    head = a_head("GET", "/posts/1")  # equal requests share one
    said = [Told("192.0.2.9", None, host, ("10.0.0.1",)) for host in (None, b"evil.example", b"evil.example", None)]
    answers = [stage.take(head, told=told) for told in (*said, None)]
    assert [answer["X-Cache"] for answer in answers] == ["MISS", "MISS", "HIT", "HIT", "HIT"]


def test_two_tenants_with_the_same_route_ids_paths_and_keys_never_cross():
    route = a_route("/posts/*", "apikey_required", cache=a_cache(shared=True))
    stage = Stage(route)
    stage.publish(a_snapshot(route, id=OTHER_TENANT, subdomain="demo"), "other.example.com")
    stage.knows_key("the_same_key_1")
    stage.knows_key("the_same_key_1", tenant_id=OTHER_TENANT)
    stage.get("/posts/1", ("X-API-Key", "the_same_key_1"))
    other = stage.get("/posts/1", ("X-API-Key", "the_same_key_1"), host="other.example.com")
    assert other["X-Cache"] == "MISS"
    assert len({key.digest for key in stage.cache.stored}) == 2


def test_a_change_that_concerns_stored_answers_leaves_them_behind_and_another_does_not():
    stage = a_stage()
    stage.get("/posts/1")
    stage.publish(a_snapshot(a_route("/posts/*", cache=a_cache(), priority=5), version=2))
    assert stage.get("/posts/1")["X-Cache"] == "HIT"
    stage.publish(a_snapshot(a_route("/posts/*", cache=a_cache(), strip_prefix="/posts"), version=3))
    assert stage.get("/posts/1")["X-Cache"] == "MISS"


def test_an_answer_can_be_purged_by_its_url():
    stage = a_stage()
    stage.get("/posts/%31?a=1")
    (key,) = stage.cache.stored
    assert key.url_digest == url_digest(b"/posts/1", b"a=1")


def test_what_fields_say_to_the_cache_is_read_once_per_header_block(monkeypatch):
    stage = a_stage()
    first = stage.get("/posts/1")
    monkeypatch.setattr(cache, "_read_facts", None)
    again = Exchange(first.exchange.head, None, "192.0.2.7", b"http", b"id", NOW, 0.0)
    assert stage.serve(again)["X-Cache"] == "HIT"


def test_the_memory_of_keys_is_one_for_all_tenants_and_long_ones_are_not_in_it():
    """A bound for each route would be none: a tenant has up to 10,000 of them."""
    remembered = cache._made.cache_info
    assert remembered().maxsize == cache.KEYS_MAX
    stage = a_stage()
    cache._made.cache_clear()
    for target in ("/posts/1", "/posts/1?" + "q" * 512, "/posts/" + "p" * 512):
        assert [stage.get(target)["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert (remembered().currsize, remembered().hits) == (1, 1)


parts = st.tuples(
    st.binary(max_size=6), st.binary(max_size=6), st.none() | st.binary(max_size=6), *[st.binary(max_size=4)] * 4
)


@given(parts, parts)
def test_two_different_lists_of_parts_never_give_the_same_key(one, two):
    assert (cache.key_digest(*one) == cache.key_digest(*two)) is (one == two)


@given(st.lists(st.binary(max_size=5)), st.lists(st.binary(max_size=5)))
def test_joining_parts_loses_nothing(one, two):
    assert (joined(*one) == joined(*two)) is (one == two)


def test_what_a_principal_was_told_by_other_rights_is_not_told_again():
    stage = a_stage(auth="apikey_required")
    for scopes in (("read", "admin"), ("read",)):
        stage.knows_key("alices_key_001", scopes=scopes)
        assert stage.get("/posts/1", ("X-API-Key", "alices_key_001"))["X-Cache"] == "MISS"
    assert stage.get("/posts/1", ("X-API-Key", "alices_key_001"))["X-Cache"] == "HIT"


MEMBERS = ("kind", "subject", "scopes", "org_id", "role", "permissions", "client_id", "issuer")


def _principal(**changed):
    plain = {"kind": "user", "subject": "u", "scopes": ("a",), "org_id": "o", "role": "r", "permissions": ("p",)}
    return Principal(**(plain | {"client_id": "c", "issuer": "i"} | changed))


def test_every_member_that_an_origin_is_told_of_makes_an_answer_somebody_elses():
    assert set(MEMBERS) == set(Principal.__dataclass_fields__) - {"policies", "notice"}  # between it and us
    others = [{name: ("x",) if name in ("scopes", "permissions") else "x"} for name in MEMBERS]
    moved = [{"scopes": ("a", "p"), "permissions": ()}, {"scopes": (), "permissions": ("a", "p")}, {"scopes": ("a,p",)}]
    swapped = [{"client_id": "i", "issuer": "c"}, {"client_id": None, "issuer": "c"}, {"issuer": None}]
    rights = {cache._rights(_principal(**changed)) for changed in ({}, *others, *moved, *swapped)}
    assert len(rights) == 1 + len(others) + len(moved) + len(swapped)


def test_a_cookie_that_no_origin_sees_is_no_reason_to_bypass():
    stage = a_stage()
    stage.get("/posts/1")
    assert stage.get("/posts/1", ("Cookie", "__session=eyJ; __client_uat=1"))["X-Cache"] == "HIT"
    assert stage.get("/posts/1", ("Cookie", "__session=eyJ; a=1"))["X-Cache"] == "BYPASS"


def test_a_request_for_another_protocol_is_not_answered_from_memory_and_what_it_gets_is_not_kept():
    stage = Stage(a_route(cache=a_cache()))
    stage.get("/")
    answer = stage.get("/", ("Connection", "Upgrade"), ("Upgrade", "websocket"))
    assert (answer["X-Cache"], answer["Cache-Status"]) == ("BYPASS", "vantageedge; fwd=bypass; detail=upgrade")
    assert stage.get("/", ("Connection", "Upgrade"), ("Upgrade", "h2c"))["X-Cache"] == "HIT"
