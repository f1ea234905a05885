"""The demo's settings: what the developer set, else `.env`, else a default of the demo; secrets made once and kept.

In:    the environment, `.env`, `.devstack/secrets.json`.
Out:   Demo: ports, folders and the environment every process of the demo gets.
Laws:  1. The environment wins over `.env`, and both over the defaults. 2. Secrets are random, kept 0600, and carry the
       demo's mark, so that production refuses them. 3. A wrong port is an error that names its variable.
Not here: starting anything (launcher), what a variable means to a program (webapp.settings, edge.settings).
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devstack.child import DevstackError
from devstack.clerk import machines, people

ROOT = Path(__file__).resolve().parent.parent
MARK = "demo-only"
TENANT_SUBDOMAIN = "demo"
PORTS: dict[str, tuple[int, str]] = {
    "PORT": (8080, "the console and API"),
    "EDGE_PORT": (8000, "the edge"),
    "EDGE_METRICS_PORT": (9100, "the edge's metrics"),
    "DEVSTACK_CLERK_PORT": (8081, "the stand-in for Clerk"),
    "DEVSTACK_ORIGIN_PORT": (8082, "the demo's origin"),
    "DEVSTACK_POSTGRES_PORT": (54329, "PostgreSQL"),
    "DEVSTACK_VALKEY_PORT": (63799, "Valkey"),
}

_CAME_LATER = {"SEALING_KEYS"}
"""Secrets that a folder made by an earlier release has not; they are added."""


@dataclass(slots=True)
class Demo:
    """One demo over one folder. `environ` is what its processes get; the two stores' URLs are added when known."""

    folder: Path
    ports: Mapping[str, int]
    environ: dict[str, str] = field(repr=False)
    own_postgres: bool
    own_valkey: bool

    @property
    def console_url(self) -> str:
        return self.environ["CONSOLE_URL"]

    @property
    def edge_url(self) -> str:
        return self.environ["EDGE_PUBLIC_URL_TEMPLATE"].replace("{subdomain}", TENANT_SUBDOMAIN)

    @property
    def edge_host(self) -> str:
        return f"{TENANT_SUBDOMAIN}.{self.environ['EDGE_BASE_DOMAIN']}"

    @property
    def clerk_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['DEVSTACK_CLERK_PORT']}"

    @property
    def origin_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['DEVSTACK_ORIGIN_PORT']}"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def record(self) -> Path:
        """Where scripts find a running demo's addresses."""
        return self.folder / "demo.json"


def load(environ: Mapping[str, str] | None = None, root: Path = ROOT) -> Demo:
    """Read the settings and make what is missing. Raises DevstackError."""
    given = {**read_dotenv(root / ".env"), **(os.environ if environ is None else environ)}
    if given.get("VANTAGEEDGE_ENV", "development") != "development":
        raise DevstackError("make demo is for development; unset VANTAGEEDGE_ENV, or use the Procfile in production")
    folder = root / ".devstack"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in ("logs", "edge"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    ports = {name: _port(name, given.get(name, ""), default) for name, (default, _) in PORTS.items()}
    _require_distinct(ports)
    settings = {**_defaults(folder, ports), **_secrets(folder / "secrets.json")}
    settings |= {name: value for name, value in given.items() if value.strip() or name not in settings}
    programs = Path(sys.executable).parent
    settings["PATH"] = f"{programs}{os.pathsep}{settings.get('PATH', os.defpath)}"
    return Demo(folder, ports, settings, not given.get("DATABASE_URL"), not given.get("REDIS_URL"))


def _defaults(folder: Path, ports: Mapping[str, int]) -> dict[str, str]:
    clerk_host = f"127.0.0.1:{ports['DEVSTACK_CLERK_PORT']}"
    console_url = f"http://localhost:{ports['PORT']}"
    return {
        "VANTAGEEDGE_ENV": "development",
        **{name: str(port) for name, port in ports.items()},
        "WEB_BIND": "127.0.0.1",
        "WEB_WORKERS": "1",  # eight threads; a second process would double the console's part of the start
        "CONSOLE_URL": console_url,
        "EDGE_BIND": "127.0.0.1",
        "EDGE_WORKERS": "2",
        "EDGE_CONNECTIONS_PER_CLIENT_MAX": "10000",  # every client of the demo is this machine
        "EDGE_BASE_DOMAIN": "localhost",
        "EDGE_STATE_DIR": str(folder / "edge"),
        "EDGE_PUBLIC_URL_TEMPLATE": f"http://{{subdomain}}.localhost:{ports['EDGE_PORT']}",
        "ALLOWED_PRIVATE_ORIGINS": "127.0.0.0/8,::1/128",
        "CLERK_PUBLISHABLE_KEY": people.publishable_key(clerk_host),
        "CLERK_SECRET_KEY": people.SECRET_KEY,
        "CLERK_WEBHOOK_SECRET": people.WEBHOOK_SECRET,
        "CLERK_FRONTEND_API_URL": f"http://{clerk_host}",
        "CLERK_API_URL": f"http://{clerk_host}",
        "CLERK_MACHINE_ID": machines.GATEWAY_ID,
        "CLERK_MACHINE_SECRET_KEY": machines.GATEWAY_SECRET,
        "PYTHONUNBUFFERED": "1",
    }


def _secrets(path: Path) -> dict[str, str]:
    made = {
        "SECRET_KEY": f"{MARK}-{secrets.token_hex(24)}",
        "KEY_PEPPERS": f"1:{MARK.encode().hex()}{secrets.token_hex(32)}",
        "SEALING_KEYS": f"1:{MARK.encode().hex()}{secrets.token_hex(32 - len(MARK))}",
    }
    try:
        kept = json.loads(path.read_text())
        lost = {name for name in made if name not in kept} - _CAME_LATER
        if lost:
            raise KeyError(*lost)
        if made.keys() <= kept.keys():
            return {name: str(kept[name]) for name in made}
        made |= {name: str(kept[name]) for name in made.keys() & kept.keys()}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Keys stored under the lost pepper would be refused for ever without a word: better to ask.
        cure = "delete .devstack to begin anew, or set SECRET_KEY and KEY_PEPPERS"
        raise DevstackError(f"{path} cannot be read as the demo's secrets; {cure}") from None
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(made, file)
    temporary.replace(path)
    return made


def _port(name: str, text: str, default: int) -> int:
    value = text.strip() or str(default)
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 65_535):
        raise DevstackError(f"{name} must be a port from 1 to 65535, not {value!r}")
    return int(value)


def _require_distinct(ports: Mapping[str, int]) -> None:
    seen: dict[int, str] = {}
    for name, port in ports.items():
        if port in seen:
            raise DevstackError(f"{name} and {seen[port]} are both {port}; give one of them another port")
        seen[port] = name


def read_dotenv(path: Path) -> dict[str, str]:
    """Read NAME=value lines. Raises DevstackError naming a line that is neither that nor a comment."""
    values: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return values
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise DevstackError(f"{path.name} line {number} is not NAME=value")
        values[name.strip()] = value.strip().strip("\"'")
    return values
