"""Caddy: plain reverse_proxy. A key check and a rate limit are not in its standard modules."""

from __future__ import annotations

import os

from bench.budgets import PLAIN
from bench.lab import HOST, Ask, Lab, program
from devstack.child import free_port


def start(lab: Lab) -> list[Ask]:
    """Raises Absent, BenchError."""
    binary = program("caddy", "caddy")
    port = free_port()
    conf = lab.data("Caddyfile", "Caddyfile", {"PORT": port, "ORIGIN": lab.origin_port})
    home = lab.folder / "caddy"
    home.mkdir()
    env = {
        "PATH": os.environ.get("PATH", ""), "GOMAXPROCS": "1", "HOME": str(home),
        "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home),
    }  # fmt: skip
    argv = [binary, "run", "--config", str(conf), "--adapter", "caddyfile"]
    process = lab.spawn("caddy", argv, port, env=env)
    return [Ask("Caddy", PLAIN, process.pid, port, "/plain/posts/1", (f"Host: {HOST}",))]
