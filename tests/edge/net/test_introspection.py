"""Twin of edge.net.introspection: authorities that answer and authorities that do not, over real sockets."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import time
from dataclasses import replace

import gevent
import pytest

from contracts import sealing
from contracts.addresses import parse_networks
from contracts.snapshot import issuer_secret_place
from edge.breaker import BreakerPolicy
from edge.errors import GatewayError
from edge.introspection import Introspector
from edge.net import introspection
from edge.net.address import Resolver
from edge.net.introspection import ACTIVE_S, ASKING_MAX, REFUSED_S, TokenAuthorities
from edge.net.upstream import UpstreamPool
from edge.settings import ClerkSettings, Limits
from tests.edge.fakes import OTHER_TENANT, TENANT
from tests.edge.test_introspection import an_issuer
from tests.origins import misbehaving
from tests.origins.token_authority import ClerkApi, Introspection, a_machine_token, an_oauth_token, answer

KEYS = sealing.parse_keys("1:" + "5a" * 32)
LOOPBACK = parse_networks("127.0.0.0/8")
CARD = {"active": True, "sub": "carol", "scope": "read"}


def sealed(secret="hush", tenant_id=TENANT, issuer_id="issuer-1"):
    return sealing.seal(KEYS, secret.encode(), issuer_secret_place(tenant_id, issuer_id), os.urandom(12))


class Desk:
    """One worker's authorities, on a clock that the test turns; and one tenant's issuer."""

    def __init__(self, url="", clerk_url="http://127.0.0.1:65534", allowed=LOOPBACK, keys=KEYS, **secrets):
        self.now = 1_000.0
        pools = [UpstreamPool(Limits(), networks, Resolver()) for networks in (allowed, parse_networks("0.0.0.0/0"))]
        self.pools = pools
        secrets = {"secret_key": "sk_test_x", "machine_secret_key": "ak_x"} | secrets
        clerk = ClerkSettings("https://clerk.test", "", (), api_url=clerk_url, **secrets)
        self.offset = time.time() - self.now
        self.authorities = TokenAuthorities(*pools, clerk, KEYS if keys else {}, lambda: self.now, self.wall)
        self.issuer = self.of(TENANT, introspection_url=url or "http://127.0.0.1:65534/x")

    def of(self, tenant_id=TENANT, **changes):
        fields = {"client_secret": sealed(tenant_id=tenant_id), **changes}
        return Introspector(an_issuer(**fields), tenant_id)

    def wall(self):
        return self.now + self.offset

    def ask(self, token="t1", authority=None, tenant_id=TENANT):
        digest = hashlib.sha256(token.encode()).digest()
        return self.authorities.check(tenant_id, authority or self.issuer, token.encode(), digest)

    def refused(self, *args, **named):
        """The GatewayError, as (status, Retry-After)."""
        with pytest.raises(GatewayError) as caught:
            self.ask(*args, **named)
        self.error = caught.value
        return caught.value.problem.status, int(dict(caught.value.fields)[b"Retry-After"])

    def total(self, outcome, authority="issuer"):
        return self.authorities.total.get((authority, outcome), 0)


@pytest.fixture
def issuer():
    with Introspection() as server:
        server.words["t1"] = dict(CARD)
        yield server


@pytest.fixture
def clerk():
    with ClerkApi() as server:
        yield server


@pytest.fixture
def desk(issuer):
    desk = Desk(issuer.introspection_url)
    yield desk
    for pool in desk.pools:
        pool.close_idle()


@pytest.fixture
def clerks_desk(clerk):
    desk = Desk(clerk_url=clerk.url)
    yield desk
    for pool in desk.pools:
        pool.close_idle()


# --- Asking an issuer -----------------------------------------------------------------------------------------------


def test_an_issuer_is_asked_as_rfc_7662_says_and_its_word_is_given(desk, issuer):
    said = desk.ask()
    assert (said.subject, said.scopes, said.refusal) == ("carol", ("read",), "")
    (asked,) = issuer.asked
    assert asked.body == b"token=t1&token_type_hint=access_token"
    assert desk.ask("t2").refusal == "the issuer does not call it active"
    assert (desk.total("active"), desk.total("refused")) == (1, 1)
    assert issuer.connections == 1, "the connection is kept"


def test_a_token_with_signs_arrives_as_it_was(desk, issuer):
    issuer.words["a+b/c~d=="] = dict(CARD)
    assert desk.ask("a+b/c~d==").subject == "carol"


@pytest.mark.parametrize(
    "changes",
    [{"active": "true"}, {"active": False}, {"iss": "https://evil.example"}, {"cnf": {}}, {"exp": 1}],
    ids=str,
)
def test_what_the_issuer_says_against_a_token_refuses_it_and_is_remembered_for_5_s(desk, issuer, changes):
    issuer.words["t1"] = CARD | changes
    for _ in range(3):
        assert desk.ask().refusal
    assert len(issuer.asked) == 1
    issuer.words["t1"] = dict(CARD)
    desk.now += REFUSED_S
    assert desk.ask().subject == "carol", "a token that was issued a moment after it was tried is not lost for long"


def test_the_audience_and_required_words_of_the_configuration_count(desk, issuer):
    strict = desk.of(introspection_url=issuer.introspection_url, audience=("api",))
    assert desk.ask(authority=strict).refusal == "aud is somebody else"
    assert desk.ask().refusal == "", "the answer was not taken over for another configuration"
    assert len(issuer.asked) == 2


def test_a_revoked_token_is_refused_within_30_s(desk, issuer):
    assert desk.ask().refusal == ""
    issuer.words["t1"] = {"active": False}
    desk.now += ACTIVE_S - 0.1
    assert desk.ask().refusal == "", "remembered: this is the price"
    assert (len(issuer.asked), desk.total("remembered")) == (1, 1)
    desk.now += 0.1
    assert desk.ask().refusal == "the issuer does not call it active"


def test_nothing_is_remembered_past_its_end(desk, issuer):
    issuer.words["t1"] = CARD | {"exp": desk.wall() + 4}
    assert desk.ask().expires_at == desk.wall() + 4
    issuer.words["t1"] = {"active": False}
    desk.now += 3.9
    assert desk.ask().refusal == ""
    desk.now += 0.1
    assert desk.ask().refusal
    assert len(issuer.asked) == 2


# --- Issuers that fail ----------------------------------------------------------------------------------------------

OK = answer(200, CARD)
FAILURES = {
    "a redirect": answer(302, CARD, b"Location: http://169.254.169.254/latest\r\n"),
    "429": answer(429, {}, b"Retry-After: 30\r\n"),
    "500": answer(500, CARD),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "404": answer(404, {}),
    "400": answer(400, {"error": "invalid_client"}),
    "garbage": answer(200, b"<html>active</html>"),
    "a list": answer(200, [CARD]),
    "one member twice": answer(200, b'{"active":false,"active":true,"sub":"carol"}'),
    "not HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "huge": b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b" " * 70_000,
    "huge, unannounced": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n"
    + b" " * 70_000
    + b"\r\n0\r\n\r\n",
    "half an answer": lambda sock: sock.sendall(OK[:-5]),
    "nothing": lambda sock: None,
    "a reset": misbehaving.reset,
}


@pytest.mark.parametrize("how", FAILURES)
def test_an_issuer_that_does_not_answer_is_503_and_nothing_is_remembered(desk, issuer, how):
    issuer.instead = FAILURES[how]
    assert desk.refused() == (503, 1)
    assert desk.error.problem.slug == "identity-unavailable"
    assert desk.error.detail == "The token cannot be checked right now."
    assert desk.total("failed") == 1
    issuer.instead = None
    assert desk.ask().subject == "carol"


@pytest.mark.parametrize("status", [401, 403])
def test_that_our_own_secret_is_wrong_is_503_and_told_to_the_operator(desk, issuer, caplog, status):
    issuer.instead = answer(status, {"error": "invalid_client"})
    for _ in range(2):
        assert desk.refused() == (503, 1)
    assert desk.total("unauthorised") == 2
    (line,) = [record for record in caplog.records if record.name == introspection.__name__]
    place = f"issuer issuer-1 of tenant {TENANT}"
    assert line.levelno == logging.ERROR
    assert line.getMessage() == f"tokens cannot be checked with {place}: it refuses our own credentials with {status}"


def test_a_wrong_secret_is_really_refused_by_the_server(desk, issuer):
    issuer.clients["gateway"] = "another"
    assert desk.refused() == (503, 1)
    assert desk.total("unauthorised") == 1


def test_one_that_hangs_is_given_up_after_3_s(desk, issuer, monkeypatch):
    monkeypatch.setattr(introspection, "TIMEOUT_S", 0.3)
    issuer.instead = misbehaving.silent
    began = time.monotonic()
    assert desk.refused() == (503, 1)
    assert 0.2 < time.monotonic() - began < 2
    assert "no whole answer within 0.3 s" in desk.error.internal


def test_an_address_inside_is_not_connected_to(issuer):
    desk = Desk(issuer.introspection_url, allowed=())
    assert desk.refused() == (503, 1)
    assert "origin-forbidden" in desk.error.internal
    assert issuer.connections == 0


def test_nobody_there_is_503():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert Desk(f"http://127.0.0.1:{port}/introspect").refused() == (503, 1)


def test_a_secret_that_does_not_open_here_is_503_and_nobody_is_asked(issuer, caplog):
    desk = Desk(issuer.introspection_url, keys=None)
    for _ in range(30):
        assert desk.refused() == (503, 1)
    assert desk.total("secret_unusable") == 30
    assert "which is not among the sealing keys" in caplog.text
    assert len(caplog.records) == 1
    moved = Desk(issuer.introspection_url)
    assert moved.refused(authority=moved.of(introspection_url=issuer.introspection_url,
                                            client_secret=sealed(issuer_id="issuer-2")))[0] == 503  # fmt: skip
    assert issuer.asked == []


def test_no_token_and_no_secret_is_in_an_error_a_log_or_a_repr(desk, issuer, caplog):
    issuer.instead = FAILURES["garbage"]
    desk.refused("s3cret-token")
    places = caplog.text + repr(desk.error) + repr(vars(desk.authorities)) + desk.error.internal + repr(desk.issuer)
    assert "s3cret-token" not in places and "hush" not in places


def test_a_connection_that_was_closed_meanwhile_is_no_failure(desk, issuer):
    served = []

    def once(sock):
        sock.sendall(OK)
        served.append(misbehaving.head(sock))
        misbehaving.reset(sock)

    issuer.instead = once
    desk.ask()
    issuer.instead = None
    desk.now += ACTIVE_S
    assert desk.ask().subject == "carol"
    assert issuer.connections == 2


# --- Many at once ---------------------------------------------------------------------------------------------------


def test_fifty_requests_with_one_token_are_one_question(desk, issuer):
    issuer.takes_s = 0.2
    waiting = [gevent.spawn(desk.ask) for _ in range(50)]
    gevent.joinall(waiting, timeout=5, raise_error=True)
    assert {one.value.subject for one in waiting} == {"carol"}
    assert (len(issuer.asked), desk.total("joined")) == (1, 49)


def test_fifty_that_wait_for_one_failure_all_hear_of_it(desk, issuer):
    issuer.takes_s, issuer.instead = 0.2, FAILURES["500"]
    waiting = [gevent.spawn(desk.refused) for _ in range(50)]
    gevent.joinall(waiting, timeout=5, raise_error=True)
    assert {one.value for one in waiting} == {(503, 1)}
    assert len(issuer.asked) == 1


def test_a_request_that_ends_does_not_end_the_question_others_wait_for(desk, issuer):
    issuer.takes_s = 0.2
    first, second = gevent.spawn(desk.ask), gevent.spawn(desk.ask)
    gevent.sleep(0.05)
    first.kill()
    assert second.get(timeout=5).subject == "carol"


def test_a_flood_of_random_tokens_is_bounded_and_the_rest_is_told_so_at_once(desk, issuer):
    issuer.takes_s = 0.5
    flood = [gevent.spawn(desk.ask, f"random-{number}") for number in range(ASKING_MAX)]
    gevent.sleep(0.05)
    began = time.monotonic()
    assert desk.refused("one-more") == (503, 1)
    assert desk.error.problem.slug == "tenant-overloaded"
    assert time.monotonic() - began < 0.1
    other = desk.of(OTHER_TENANT, introspection_url=issuer.introspection_url)
    assert desk.ask(authority=other, tenant_id=OTHER_TENANT).subject == "carol", "a neighbour has room of its own"
    gevent.joinall(flood, timeout=10, raise_error=True)
    assert desk.ask("one-more").refusal
    assert desk.total("crowded") == 1


# --- The breaker ----------------------------------------------------------------------------------------------------


def test_an_issuer_that_keeps_failing_is_left_alone_answered_for_at_once_and_found_again(desk, issuer):
    issuer.instead = FAILURES["500"]
    for number in range(10):
        assert desk.refused(f"t-{number}")[0] == 503
    began = time.monotonic()
    for number in range(100):
        assert desk.refused(f"t-{number}") == (503, 5)
    assert time.monotonic() - began < 1
    assert (len(issuer.asked), desk.authorities.breakers_open, desk.total("breaker_open")) == (10, 1, 100)
    desk.now += 5
    assert desk.refused()[1] == 10, "the probe failed: twice as long"
    assert len(issuer.asked) == 11
    issuer.instead = None
    desk.now += 10
    assert desk.ask().subject == "carol"
    assert desk.authorities.breakers_open == 0
    assert desk.ask("t-1").refusal


def test_what_is_remembered_serves_on_while_the_issuer_is_down_and_no_longer(desk, issuer):
    assert desk.ask().subject == "carol"
    issuer.instead = FAILURES["500"]
    for number in range(10):
        desk.refused(f"t-{number}")
    assert desk.ask().subject == "carol"
    desk.now += ACTIVE_S
    assert desk.refused()[0] == 503


def test_a_new_configuration_is_tried_at_once(desk, issuer):
    issuer.clients["gateway"] = "new"
    for number in range(10):
        desk.refused(f"t-{number}")
    assert desk.refused() == (503, 5)
    mended = desk.of(introspection_url=issuer.introspection_url, client_secret=sealed("new"))
    assert desk.ask(authority=mended).subject == "carol"


def test_tenants_share_no_breaker_though_they_share_an_issuer(desk, issuer):
    issuer.clients |= {"gateway": "hush", "broken": "x"}
    broken = desk.of(introspection_url=issuer.introspection_url, client_id="broken")
    for number in range(11):
        desk.refused(f"t-{number}", authority=broken)
    other = desk.of(OTHER_TENANT, introspection_url=issuer.introspection_url)
    assert desk.ask(authority=other, tenant_id=OTHER_TENANT).subject == "carol"


def test_the_breaker_is_the_one_that_was_meant():
    assert BreakerPolicy(10, 5.0, 60.0, failure_share=0.5, window_s=10.0, probes=1) == introspection.BREAKER
    assert (ACTIVE_S, REFUSED_S, introspection.TIMEOUT_S) == (30.0, 5.0, 3.0)


# --- Tenants and bounds ---------------------------------------------------------------------------------------------


def test_two_tenants_with_the_same_token_never_share_an_answer(desk, issuer, clerk):
    other = desk.of(OTHER_TENANT, introspection_url=issuer.introspection_url)
    desk.ask()
    issuer.words["t1"] = CARD | {"sub": "dave"}
    assert desk.ask(authority=other, tenant_id=OTHER_TENANT).subject == "dave"
    assert desk.ask().subject == "carol"
    clerk.words["oat_1"] = an_oauth_token()
    shared = Desk(clerk_url=clerk.url)
    for tenant_id in (TENANT, OTHER_TENANT, TENANT):
        assert shared.ask("oat_1", "clerk_access", tenant_id).refusal == ""
    assert len(clerk.asked) == 2


def test_what_is_remembered_is_bounded_and_refused_ones_push_out_no_active_one(desk, issuer, monkeypatch):
    monkeypatch.setattr(introspection, "TENANT_WORDS_MAX", 10)
    monkeypatch.setattr(introspection, "WORDS_MAX", 14)
    desk.ask()
    for number in range(20):
        desk.ask(f"random-{number}")
        assert desk.authorities.words_held <= 10
    asked = len(issuer.asked)
    assert desk.ask().subject == "carol"
    assert len(issuer.asked) == asked
    other = desk.of(OTHER_TENANT, introspection_url=issuer.introspection_url)
    issuer.words |= {f"a-{number}": dict(CARD) for number in range(20)}
    for number in range(20):
        desk.ask(f"a-{number}", other, OTHER_TENANT)
        desk.ask(f"b-{number}", other, OTHER_TENANT)
        assert desk.authorities.words_held <= 14
    for tenant_id in (TENANT, OTHER_TENANT):
        desk.authorities.drop(tenant_id)
    assert desk.authorities.words_held == 0
    desk.authorities.drop("nobody")


def test_what_has_ended_makes_room(desk, issuer):
    for number in range(5):
        desk.ask(f"random-{number}")
    desk.now += REFUSED_S
    desk.ask("another")
    assert desk.authorities.words_held == 1


def test_a_tenant_that_is_dropped_meanwhile_leaves_nothing_behind(desk, issuer):
    issuer.takes_s = 0.2
    asking = gevent.spawn(desk.ask)
    gevent.sleep(0.05)
    desk.authorities.drop(TENANT)
    assert asking.get(timeout=5).subject == "carol"
    assert desk.authorities.words_held == 0


def test_breakers_of_issuers_that_come_and_go_are_bounded(desk, monkeypatch):
    monkeypatch.setattr(introspection, "_AUTHORITIES_MAX", 3)
    for number in range(9):
        desk.refused(authority=desk.of(id=f"issuer-{number}", introspection_url="http://127.0.0.1:65534/x"))
    assert len(desk.authorities._rooms[TENANT].authorities) == 3


def test_a_bug_while_asking_is_503_for_all_who_wait_and_nobody_waits_for_ever(desk, monkeypatch, caplog):
    monkeypatch.setattr(introspection.words, "issuer_answer", lambda *_: 1 / 0)
    assert desk.refused() == (503, 1)
    assert "a token could not be asked about" in caplog.text
    assert desk.authorities._rooms[TENANT].flights == {}


# --- Clerk ----------------------------------------------------------------------------------------------------------


def test_clerk_is_asked_about_access_tokens_with_the_secret_key(clerks_desk, clerk):
    clerk.words["oat_1"] = an_oauth_token(expiration=int(clerks_desk.wall() + 60) * 1000)
    said = clerks_desk.ask("oat_1", "clerk_access")
    assert (said.subject, said.scopes, said.client_id, said.expires_at) == (
        "user_2vGtA1iceDemoAdministrator0", ("profile", "email"), "client_1", int(clerks_desk.wall() + 60),
    )  # fmt: skip
    (asked,) = clerk.asked
    assert (asked.path, asked.body) == (ClerkApi.ACCESS, b'{"access_token": "oat_1"}')
    assert asked.fields["authorization"] == "Bearer sk_test_x"


def test_clerk_is_asked_about_machines_as_their_receiver_or_else_with_the_secret_key(clerk):
    clerk.words["mt_1"] = a_machine_token()
    for secrets, shown in (({}, "ak_x"), ({"machine_secret_key": ""}, "sk_test_x"), ({"secret_key": ""}, "ak_x")):
        assert Desk(clerk_url=clerk.url, **secrets).ask("mt_1", "clerk_machine").subject.startswith("mch_")
        assert clerk.asked[-1].path == ClerkApi.MACHINE
        assert clerk.asked[-1].body == b'{"token": "mt_1"}'
        assert clerk.asked[-1].fields["authorization"] == f"Bearer {shown}"


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_token_that_clerk_does_not_know_is_the_callers_fault_and_opens_no_breaker(clerks_desk, clerk, status):
    clerk.instead = answer(status, clerk.errors("resource_not_found"))
    for kind in ("clerk_access", "clerk_machine"):
        for number in range(30):
            assert clerks_desk.ask(f"t-{number}", kind).refusal == f"Clerk does not know it ({status})"
    assert clerks_desk.authorities.breakers_open == 0
    asked = len(clerk.asked)
    clerks_desk.ask("t-1", "clerk_access")
    assert len(clerk.asked) == asked, "remembered"


@pytest.mark.parametrize(("status", "outcome"), [(401, "unauthorised"), (403, "unauthorised"), (429, "failed"),
                                                 (500, "failed"), (302, "failed")])  # fmt: skip
def test_a_clerk_that_does_not_answer_is_503_and_left_alone_after_ten_times(clerks_desk, clerk, status, outcome):
    clerk.instead = answer(status, {})
    for number in range(10):
        assert clerks_desk.refused(f"t-{number}", "clerk_machine")[0] == 503
    assert clerks_desk.refused("t", "clerk_machine", OTHER_TENANT) == (503, 5), "Clerk is one for all tenants"
    assert clerks_desk.total(outcome, "clerk_machine") == 10
    clerk.instead = None
    assert clerks_desk.ask("t", "clerk_access").refusal == "Clerk does not know it (404)", "each endpoint by itself"


def test_without_a_secret_nobody_is_asked_and_the_log_says_which_one_is_missing(clerk):
    desk = Desk(clerk_url=clerk.url, secret_key="", machine_secret_key="")
    assert desk.ask("oat_1", "clerk_access").refusal == "nobody can ask: CLERK_SECRET_KEY is not set"
    assert desk.ask("mt_1", "clerk_machine").refusal == (
        "nobody can ask: CLERK_MACHINE_SECRET_KEY or CLERK_SECRET_KEY is not set"
    )
    assert clerk.asked == []
    assert desk.total("not_set", "clerk_access") == 1


def test_tenants_share_connections_to_clerk(clerks_desk, clerk):
    for number in range(5):
        clerks_desk.ask("oat_1", "clerk_access", f"tenant-{number}")
    assert (len(clerk.asked), clerk.connections) == (5, 1)


def test_a_tenants_issuer_may_not_be_where_only_the_operator_may_go(issuer, clerk):
    desk = Desk(issuer.introspection_url, clerk.url, allowed=())
    assert desk.ask("oat_1", "clerk_access").refusal == "Clerk does not know it (404)"
    assert desk.refused() == (503, 1)
    assert issuer.connections == 0


def test_revoked_and_expired_at_clerk(clerks_desk, clerk):
    clerk.words |= {
        "oat_1": an_oauth_token(revoked=True, revocation_reason="stolen"), "oat_2": an_oauth_token(expired=True),
        "oat_3": {"active": False}, "oat_4": an_oauth_token(expiration=1),
    }  # fmt: skip
    reasons = [clerks_desk.ask(token, "clerk_access").refusal for token in clerk.words]
    assert reasons == [
        "revoked, says Clerk", "expired, says Clerk", "Clerk does not call it active", "the token expired",
    ]  # fmt: skip


def test_settings_never_show_their_secrets():
    settings = ClerkSettings("https://clerk.test", "", (), secret_key="sk_hush", machine_secret_key="ak_hush")
    assert "hush" not in repr(settings) and "hush" not in repr(replace(settings, jwks_url="x"))
