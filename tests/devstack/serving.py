"""Run one of the stack's loopback servers as a process on a free port, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from devstack.child import end, free_port, leashed

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def in_process(program: str, port_option: str, *arguments: str) -> Iterator[str]:
    port = free_port()
    argv = [sys.executable, "-c", program, port_option, str(port), *arguments]
    process = subprocess.Popen(
        leashed(argv, signal.SIGKILL), cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline_mono = time.monotonic() + 20
        while True:
            try:
                requests.get(url, timeout=5, allow_redirects=False)
                break
            except requests.ConnectionError:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < deadline_mono, "the server does not answer"
                time.sleep(0.05)
        yield url
    finally:
        end(process, signal.SIGTERM)
