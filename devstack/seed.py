"""Put the demo tenant in place through the product's own API, as alice would.

In:    a running demo's console URL and stand-in.
Out:   tenants demo-company and charlie-labs, one origin, four routes, one imported key.
Laws:  1. May run any number of times: what is there already stays as it is. 2. Only the public JSON API is used, so
       the seed is also its first client. 3. Nothing is deleted.
Not here: starting the demo (launcher).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import requests

from devstack import environment
from devstack.child import DevstackError
from devstack.clerk import people

DEMO_KEY = "demo_key_abc123"
ORIGIN_NAME = "jsonplaceholder"
Json = dict[str, Any]


def routes(origin_id: str) -> list[Json]:
    """Give the demo's four routes."""
    return [
        {
            "name": "public",
            "path_pattern": "/api/public/*",
            "origin_id": origin_id,
            "auth_mode": "public",
            "rewrite": {"strip_prefix": "/api/public"},
        },
        {
            "name": "users",
            "path_pattern": "/api/users/*",
            "origin_id": origin_id,
            "auth_mode": "jwt_required",
            "rate_limit": {"requests_per_second": 10, "burst": 100},
            "rewrite": {"strip_prefix": "/api"},
        },
        {
            "name": "admin",
            "path_pattern": "/api/admin/*",
            "origin_id": origin_id,
            "auth_mode": "apikey_required",
            "rewrite": {"strip_prefix": "/api/admin"},
        },
        {
            "name": "posts",
            "path_pattern": "/api/posts/*",
            "origin_id": origin_id,
            "auth_mode": "public",
            "cache_policy": {"enabled": True, "ttl_seconds": 300, "cache_key_pattern": "path+query"},
            "rewrite": {"strip_prefix": "/api"},
        },
    ]


class Api:
    """The JSON API, asked as one person with a token of the stand-in."""

    def __init__(self, api_url: str, clerk_url: str, person: str) -> None:
        self._url = f"{api_url}/api/v1"
        self._clerk_url = clerk_url
        self._person = person
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between us and loopback
        self._token_at_mono = -1e9

    def close(self) -> None:
        self._session.close()

    def _token(self) -> str:
        answer = self._session.post(f"{self._clerk_url}/__dev/tokens", json={"person": self._person}, timeout=10)
        return str(answer.json()["jwt"])

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """Raises DevstackError with the problem's own words."""
        if time.monotonic() - self._token_at_mono > 30:
            self._session.headers["Authorization"] = f"Bearer {self._token()}"
            self._token_at_mono = time.monotonic()
        try:
            answer = self._session.request(method, self._url + path, json=body, timeout=20)
            said = answer.json() if answer.content else {}
        except (requests.RequestException, ValueError) as error:
            raise DevstackError(
                f"seed: {method} {path} failed: {type(error).__name__}; see .devstack/logs/web.log"
            ) from None
        if not answer.ok:
            problem = {name: said.get(name) for name in ("code", "detail", "errors") if said.get(name)}
            raise DevstackError(f"seed: {method} {path} -> {answer.status_code} {json.dumps(problem)}")
        return dict(said)

    def all(self, path: str) -> list[Json]:
        """Give every row of a list call."""
        rows: list[Json] = []
        cursor = ""
        while True:
            page = self.ask("GET", f"{path}?limit=100{cursor}")
            rows += page["items"]
            if page["next_cursor"] is None:
                return rows
            cursor = f"&cursor={page['next_cursor']}"


def _one(api: Api, path: str, fits: Callable[[Json], bool], make: Json, at: str | None = None) -> Json:
    """Find a row or make it."""
    for row in api.all(path):
        if fits(row):
            return row
    return api.ask("POST", at or path, make)


def seed(api_url: str, clerk_url: str, origin_url: str) -> str:
    """Seed; give the id of demo-company. Raises DevstackError."""
    charlie = Api(api_url, clerk_url, "charlie")
    alice = Api(api_url, clerk_url, "alice")
    try:
        _tenant(charlie, people.CHARLIE_LABS, "charlie")
        tenant = _tenant(alice, people.DEMO_COMPANY, environment.TENANT_SUBDOMAIN)
        tenant_id = str(tenant["id"])
        origin = {"tenant_id": tenant_id, "name": ORIGIN_NAME, "url": origin_url, "health_check_path": "/health"}
        kept = _one(alice, "/origins", lambda row: row["name"] == ORIGIN_NAME, {**origin, "timeout_seconds": 30})
        _move(alice, kept, origin_url)
        for route in routes(str(kept["id"])):
            pattern = route["path_pattern"]
            _one(alice, "/routes", lambda row, p=pattern: row["path_pattern"] == p, {"tenant_id": tenant_id, **route})  # type: ignore[misc]
        key = {"tenant_id": tenant_id, "name": "demo", "key": DEMO_KEY, "scopes": ["read", "write"]}
        mine = (DEMO_KEY[:4], DEMO_KEY[-4:])
        _one(
            alice,
            "/api-keys",
            lambda row: bool(row["imported"]) and (row["key_prefix"], row["last_four"]) == mine,
            key,
            at="/api-keys/import",
        )
    finally:
        alice.close()
        charlie.close()
    return tenant_id


def _tenant(api: Api, org: people.Organisation, subdomain: str) -> Json:
    new = {"name": org.slug, "subdomain": subdomain, "clerk_org_id": org.org_id}
    return _one(api, "/tenants", lambda row: row["clerk_org_id"] == org.org_id, new)


def _move(api: Api, origin: Json, origin_url: str) -> None:
    """Follow the demo's origin to another port."""
    if str(origin["url"]).rstrip("/") != origin_url.rstrip("/"):
        api.ask("PATCH", f"/origins/{origin['id']}", {"url": origin_url})


def main() -> None:
    try:
        demo = environment.load()
        running = json.loads(demo.record.read_text())
        seed(running["api_url"], running["clerk_url"], running["origin_url"])
    except (OSError, ValueError, KeyError):
        sys.exit("seed: no demo is running here; start it with `make demo`, which seeds by itself")
    except DevstackError as error:
        sys.exit(str(error))
    print("The demo tenant is in place")


if __name__ == "__main__":
    main()
