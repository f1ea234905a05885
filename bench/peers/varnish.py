"""Varnish: a cache hit from memory. Its VCL is compiled when it starts, so a C compiler is needed.

Not the same: it logs to shared memory, which nothing reads here; no key, no limit.
"""

from __future__ import annotations

import shutil

from bench.budgets import CACHED
from bench.lab import HOST, Absent, Ask, Lab, program
from devstack.child import free_port


def start(lab: Lab) -> list[Ask]:
    """Raises Absent, BenchError."""
    binary = program("varnishd", "varnish")
    if not shutil.which("gcc") and not shutil.which("cc"):
        raise Absent("varnishd needs a C compiler for its configuration (apt-get install gcc)")
    port = free_port()
    vcl = lab.data("varnish.vcl", "varnish.vcl", {"ORIGIN": lab.origin_port})
    workdir = lab.folder / "varnish"
    argv = [
        binary, "-F", "-j", "none", "-n", str(workdir), "-a", f"127.0.0.1:{port}", "-f", str(vcl), "-s", "malloc,64m",
        "-p", "thread_pools=1", "-p", "thread_pool_min=100", "-p", "thread_pool_max=200",
    ]  # fmt: skip
    process = lab.spawn("varnish", argv, port)
    return [Ask("Varnish", CACHED, process.pid, port, "/cached/posts/1", (f"Host: {HOST}",))]
