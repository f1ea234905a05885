"""nginx: plain, the chain as its own modules offer it (map, limit_req, JSON log), and proxy_cache; also the origin.

Not the same: it keeps no Prometheus metrics, and its key check is one look-up in a map of the configuration.
"""

from __future__ import annotations

import os

from bench.budgets import CACHED, FULL, PLAIN
from bench.lab import HOST, LOAD_CORE, Ask, Lab, program
from bench.publish import KEY, WRONG_KEY
from devstack.child import free_port


def _user() -> str:
    return "user root;" if os.geteuid() == 0 else ""


def start(lab: Lab, bodies_port: int = 0, name: str = "nginx") -> list[Ask]:
    """`bodies_port`: the origin behind /bodies/, where there is one. Raises Absent, BenchError."""
    binary = program("nginx", "nginx-light")
    port = free_port()
    folder = lab.folder / name
    folder.mkdir(mode=0o755)
    values: dict[str, object] = {
        "USER": _user(), "FOLDER": folder, "PORT": port, "ORIGIN": lab.origin_port,
        "BODIES": bodies_port or lab.origin_port, "KEY": KEY,
        "LOG": lab.access_log(f"{name}-access.log"),
    }  # fmt: skip
    conf = lab.data(f"{name}.conf", "nginx.conf", values)
    process = lab.spawn(name, [binary, "-c", str(conf), "-e", str(folder / "error.log")], port)
    host = (f"Host: {HOST}",)
    keyed = (*host, f"X-API-Key: {KEY}")
    return [
        Ask("nginx", PLAIN, process.pid, port, "/plain/posts/1", host),
        Ask("nginx", FULL, process.pid, port, "/full/posts/1", keyed, (*host, f"X-API-Key: {WRONG_KEY}")),
        Ask("nginx", CACHED, process.pid, port, "/cached/posts/1", host),
    ]


def start_origin(lab: Lab, port: int, body: str) -> None:
    """Answer everything with `body`. Raises Absent, BenchError."""
    binary = program("nginx", "nginx-light")
    folder = lab.folder / "origin"
    folder.mkdir(mode=0o755)
    conf = lab.data("origin.conf", "nginx-origin.conf", {"USER": _user(), "FOLDER": folder, "PORT": port, "BODY": body})
    lab.spawn("origin", [binary, "-c", str(conf), "-e", str(folder / "error.log")], port, LOAD_CORE)
