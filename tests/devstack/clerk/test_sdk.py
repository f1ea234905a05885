"""The service's own SDK (clerk-backend-api) against the running stand-in: it reads all answers, believes its tokens.

The second half is the other way round: what that SDK believes too much, the product's verifier refuses.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from clerk_backend_api import Clerk, models
from clerk_backend_api.security import (
    AuthenticateRequestOptions,
    TokenVerificationError,
    VerifyTokenOptions,
    authenticate_request,
    verify_token,
)

from contracts import clerk
from devstack.clerk import machines, people
from devstack.clerk.applications import DEMO_REDIRECT
from tests.devstack.serving import in_process
from webapp.auth import cookies

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*DEPRECATED.*:DeprecationWarning"),  # it reads its own deprecated members
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # and leaves its client for opaque tokens open
    pytest.mark.filterwarnings("ignore:Exception ignored.*socket:pytest.PytestUnraisableExceptionWarning"),
]
CONSOLE = "http://localhost:8080"
ALICE, DEMO = people.ALICE.user_id, people.DEMO_COMPANY.org_id


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = "from devstack.clerk.__main__ import main; main()"
    folder = str(tmp_path_factory.mktemp("sdk") / "clerk")
    with in_process(program, "--port", "--folder", folder) as served:
        yield served


@pytest.fixture(autouse=True)
def nothing_is_left_to_later_tests() -> Iterator[None]:
    """What the SDK leaves open is collected here, where nobody minds, and not during somebody else's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def client(url: str, key: str = people.SECRET_KEY) -> Clerk:
    return Clerk(bearer_auth=key, server_url=f"{url}/v1", timeout_ms=5_000)


@pytest.fixture
def sdk(url: str) -> Iterator[Clerk]:
    with client(url) as made:
        yield made


def control(url: str, path: str, **body: Any) -> dict:
    answer = requests.post(f"{url}/__dev/{path}", json=body, timeout=5)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def mint(url: str, **wanted: Any) -> str:
    person = {} if wanted.get("kind") == "machine" else {"person": "alice"}
    return str(control(url, "tokens", **{**person, **wanted})["jwt"])


def options(url: str, **more: Any) -> VerifyTokenOptions:
    return VerifyTokenOptions(api_url=url, secret_key=people.SECRET_KEY, **more)


def pem(url: str) -> str:
    return str(requests.get(f"{url}/__dev/settings", timeout=5).json()["CLERK_JWT_KEY"])


def asked(url: str, headers: dict[str, str], **more: Any):
    """Ask the SDK's authenticate_request, which knows no address but the service's own, so with the key at hand."""
    wanted: dict[str, Any] = {"jwt_key": pem(url), "authorized_parties": [CONSOLE], "accepts_token": ["session_token"]}
    return authenticate_request(SimpleNamespace(headers=headers), AuthenticateRequestOptions(**(wanted | more)))


def verified(url: str, token: str, *, cookie: bool = False) -> clerk.Session:
    keys = clerk.parse_keyset(requests.get(f"{url}/.well-known/jwks.json", timeout=5).content)
    return clerk.verify_session(token, keys, clerk.Expectation(url, (CONSOLE,), azp_required=cookie), time.time())


# ---- it reads every answer


def test_people_organisations_and_memberships_are_read(sdk: Clerk) -> None:
    alice = sdk.users.get(user_id=ALICE)
    assert isinstance(alice, models.User)
    assert (alice.first_name, alice.email_addresses[0].email_address) == ("Alice", people.ALICE.email)
    listed = sdk.users.list(request=models.GetUserListRequest(user_id=[people.BOB.user_id]))
    assert [each.id for each in listed] == [people.BOB.user_id]
    assert sdk.organizations.get(organization_id="demo-company").id == DEMO
    assert [each.slug for each in sdk.organizations.list(limit=50).data] == ["demo-company", "charlie-labs"]
    held = sdk.organization_memberships.list(organization_id=DEMO, limit=10).data
    assert [each.role for each in held] == ["org:admin", "org:member"]
    assert held[0].permissions == list(people.MEMBERSHIPS[0].permissions)
    own = sdk.users.get_organization_memberships(user_id=ALICE)
    assert own.total_count == 1 and own.data[0].organization.id == DEMO


def test_keys_and_sessions_are_read_and_a_revoked_session_gives_no_token(url: str, sdk: Clerk) -> None:
    keys = sdk.jwks.get_jwks()
    assert keys is not None and keys.keys is not None
    assert (keys.keys[0].kid, keys.keys[0].alg) == (people.INSTANCE_ID, "RS256")
    session_id = control(url, "tokens", person="bob")["session_id"]
    assert sdk.sessions.get(session_id=session_id).status == "active"
    made = sdk.sessions.create_token(session_id=session_id)
    assert made.jwt is not None and verified(url, made.jwt).session_id == session_id
    assert sdk.sessions.revoke(session_id=session_id).status == "revoked"
    with pytest.raises(models.ClerkErrors):
        sdk.sessions.create_token(session_id=session_id)


def test_machines_and_their_tokens_are_read(url: str, sdk: Clerk) -> None:
    listed = sdk.machines.list(limit=10)
    assert machines.GATEWAY_ID in [each.id for each in listed.data]
    found = sdk.machines.get(machine_id=machines.CALLER_ID)
    assert [each.id for each in found.scoped_machines] == [machines.GATEWAY_ID]
    made = sdk.machines.create(request={"name": "sdk", "scoped_machines": [machines.GATEWAY_ID]})
    assert sdk.machines.get_secret_key(machine_id=made.id).secret == made.secret_key
    with client(url, made.secret_key) as caller, client(url, machines.GATEWAY_SECRET) as gateway:
        token = caller.m2m.create_token(seconds_until_expiration=60, claims={"role": "billing"})
        told = gateway.m2m.verify_token(token=token.token)
        assert (told.subject, told.scopes, told.claims) == (made.id, [machines.GATEWAY_ID], {"role": "billing"})
        assert (told.revoked, told.expired) == (False, False)
        assert caller.m2m.list_tokens(subject=made.id).total_count == 1
        assert caller.m2m.revoke_token(m2m_token_id=token.id, revocation_reason="over").revoked is True
        assert gateway.m2m.verify_token(token=token.token).revocation_reason == "over"
        with pytest.raises(models.VerifyM2MTokenM2mResponseResponseBody):  # 404
            gateway.m2m.verify_token(token="mt_unknown")
        signed = caller.m2m.create_token(token_format=models.TokenFormat.JWT)
        assert signed.token.count(".") == 2
    assert sdk.machines.delete(machine_id=made.id).id == made.id


def test_oauth_applications_and_access_tokens_are_read(url: str, sdk: Clerk) -> None:
    made = sdk.oauth_applications.create(
        request={"name": "sdk", "redirect_uris": [DEMO_REDIRECT], "scopes": "profile email"}
    )
    assert made.client_secret and made.pkce_required is True
    assert made.client_id in [each.client_id for each in sdk.oauth_applications.list(limit=50).data]
    minted = control(url, "tokens", kind="oauth", person="alice", client_id="2vGtDemoOpaque00")
    told = sdk.oauth_access_tokens.verify(access_token=minted["token"])
    assert (told.subject, told.scopes, told.id) == (ALICE, ["profile", "email"], minted["token_id"])
    with pytest.raises(models.VerifyOAuthAccessTokenOauthAccessTokensResponseResponseBody):  # 404
        sdk.oauth_access_tokens.verify(access_token="oat_unknown")


def test_the_services_own_api_keys_are_read(sdk: Clerk) -> None:
    made = sdk.api_keys.create_api_key(name="sdk", subject=DEMO, scopes=["read"])
    told = sdk.api_keys.verify_api_key(secret=made.secret)
    assert (told.id, told.subject, told.scopes) == (made.id, DEMO, ["read"])


def test_too_many_requests_is_an_error_with_its_status_and_retry_after(url: str, sdk: Clerk) -> None:
    requests.post(f"{url}/__dev/throttle?answers=1&retry_after=3", timeout=5)
    with pytest.raises(models.SDKError) as caught:
        sdk.users.get(user_id=ALICE)
    assert (caught.value.status_code, caught.value.headers["Retry-After"]) == (429, "3")
    assert sdk.users.get(user_id=ALICE).id == ALICE


def test_opaque_tokens_pass_its_request_check(url: str) -> None:
    """It asks without `/v1` and calls the token `secret`; the address given here makes up for the first."""
    opaque = control(url, "tokens", kind="oauth", person="alice", client_id="2vGtDemoOpaque00")["token"]
    told = verify_token(opaque, VerifyTokenOptions(api_url=f"{url}/v1", secret_key=people.SECRET_KEY))
    assert told["subject"] == ALICE
    with client(url, machines.CALLER_SECRET) as caller:
        text = caller.m2m.create_token().token
    own = VerifyTokenOptions(api_url=f"{url}/v1", machine_secret_key=machines.GATEWAY_SECRET)
    assert verify_token(text, own)["subject"] == machines.CALLER_ID


# ---- it believes the sessions


@pytest.mark.parametrize("version", [1, 2])
def test_session_tokens_are_believed_with_their_permissions(url: str, version: int) -> None:
    token = mint(url, version=version)
    assert verify_token(token, options(url, authorized_parties=[CONSOLE]))["sub"] == ALICE
    for headers in ({"Authorization": f"Bearer {token}"}, {"cookie": f"__session={token}"}):
        state = asked(url, headers)
        assert state.is_signed_in and state.payload["org_id"] == DEMO
        assert state.payload["org_permissions"] == list(verified(url, token).org_permissions)
        assert len(state.payload["org_permissions"]) == 3
        auth: Any = state.to_auth()
        assert (auth.user_id if version == 1 else auth.sub) == ALICE
        assert auth.org_permissions == state.payload["org_permissions"]
    assert state.payload["org_role"] == ("org:admin" if version == 1 else "admin")  # ours has `org:` in both
    assert verified(url, token).org_role == "org:admin"


def test_a_key_rotated_under_the_same_kid_is_found_by_it_and_by_us(url: str) -> None:
    before = mint(url)
    assert verify_token(before, options(url))["sub"] == ALICE
    requests.post(f"{url}/__dev/keys/rotate?kid=same", timeout=5)
    after = mint(url)
    assert verify_token(after, options(url))["sub"] == ALICE
    assert verified(url, after).user_id == ALICE
    with pytest.raises(TokenVerificationError, match="signature"):
        verify_token(before, options(url))
    with pytest.raises(clerk.BadSignature):
        verified(url, before)


# ---- it believes too much


TOO_MUCH: list[tuple[str, Callable[[str], str]]] = [
    ("another issuer", lambda url: mint(url, flaw="wrong-issuer")),
    ("an issuer with a slash", lambda url: mint(url, flaw="issuer-slash")),
    ("no issuer", lambda url: mint(url, flaw="no-issuer")),
    ("a pending session", lambda url: mint(url, flaw="pending")),
    ("an OAuth access token", lambda url: mint(url, kind="oauth", claims={"azp": CONSOLE})),
    ("a session typed at+jwt", lambda url: mint(url, flaw="at+jwt")),
    ("a machine's category", lambda url: mint(url, flaw="machine")),
    ("a template's token", lambda url: mint(url, flaw="template")),
    ("no session id", lambda url: mint(url, flaw="no-sid")),
    ("no end", lambda url: mint(url, flaw="no-exp")),
    ("a life of decades", lambda url: mint(url, flaw="long-life")),
    ("no beginning", lambda url: mint(url, flaw="no-nbf")),
    ("version 3", lambda url: mint(url, flaw="version-3")),
    ("bound to a key", lambda url: mint(url, flaw="bound")),
]


@pytest.mark.parametrize(("what", "make"), TOO_MUCH, ids=[what for what, _ in TOO_MUCH])
def test_what_it_believes_too_much_is_refused_by_us(url: str, what: str, make: Callable[[str], str]) -> None:
    token = make(url)
    assert asked(url, {"Authorization": f"Bearer {token}"}).is_signed_in
    assert verify_token(token, options(url))
    with pytest.raises(clerk.SessionRefused):
        verified(url, token)


def test_a_machines_token_is_a_session_to_it_where_no_party_is_asked_for(url: str) -> None:
    """With an `aud` it is refused for that alone; without, a machine is somebody who signed in."""
    bare = mint(url, kind="machine", flaw="no-audience")
    assert asked(url, {"Authorization": f"Bearer {bare}"}, authorized_parties=None).is_signed_in
    assert not asked(
        url, {"Authorization": f"Bearer {mint(url, kind='machine')}"}, authorized_parties=None
    ).is_signed_in
    for token in (bare, mint(url, kind="machine")):
        with pytest.raises(clerk.SessionRefused):
            verified(url, token)


def test_a_cookie_whose_name_only_begins_like_the_session_is_taken_by_it_and_not_by_us(url: str) -> None:
    mine, planted = mint(url), str(control(url, "tokens", person="charlie")["jwt"])
    header = f"__session_evil={planted}; __session={mine}"
    assert asked(url, {"cookie": header}).payload["sub"] == people.CHARLIE.user_id
    sent = dict(pair.split("=", 1) for pair in header.split("; "))
    suffix = cookies.suffix_of(people.publishable_key(url.removeprefix("http://")))
    assert verified(url, cookies.read(sent, "__session", suffix), cookie=True).user_id == ALICE


def test_an_audience_is_refused_by_it_and_ignored_by_us_in_a_session(url: str) -> None:
    """A customised session token may have `aud`; who asks for none need not match it (azp decides)."""
    token = mint(url, claims={"aud": "https://api.example"})
    assert not asked(url, {"Authorization": f"Bearer {token}"}).is_signed_in
    assert verified(url, token).user_id == ALICE


def test_permissions_after_a_users_own_feature_are_read_wrongly_by_it(url: str) -> None:
    """The masks count the organisation's features alone, as the service's JavaScript SDK does."""
    org = {"id": DEMO, "slg": "demo-company", "rol": "admin", "per": "manage,read", "fpm": "3,2"}
    token = mint(url, claims={"fea": "u:beta,o:dashboard,o:teams", "o": org})
    theirs = asked(url, {"Authorization": f"Bearer {token}"}).payload["org_permissions"]
    ours = verified(url, token).org_permissions
    assert ours == ("org:dashboard:manage", "org:dashboard:read", "org:teams:read")
    assert theirs == ["org:dashboard:read"]


def test_one_bad_cookie_or_a_basic_field_hides_the_session_from_it(url: str) -> None:
    token = mint(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not asked(url, {"cookie": f"bad cookie=1 2; __session={token}"}).is_signed_in
    assert not asked(url, {"Authorization": "Basic eDp5", "cookie": f"__session={token}"}).is_signed_in
