"""`make demo` as a stranger runs it: a copy of the checkout, an empty HOME, ports of its own, no terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from devstack.child import free_port
from devstack.environment import PORTS

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
COPIED = ("contracts", "devstack", "edge", "webapp", "worker", "migrations", "templates", "static", "scripts")
READY_S = 120.0


class Checkout:
    """A copy of the repository with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:  # compiled modules too: they make the start as warm as in the checkout
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(ROOT / "Procfile", folder)
        (folder / "home").mkdir()
        self.ports = {name: str(free_port()) for name in PORTS}
        kept = {
            name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "PYTHONDONTWRITEBYTECODE")
        }
        self.environ = {**kept, **self.ports, "HOME": str(folder / "home")}
        self.output = folder / "output"

    def launch(self, **settings: str) -> subprocess.Popen[bytes]:
        with self.output.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "devstack.launcher"],
                cwd=self.folder,
                env={**self.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def refused(self, **settings: str) -> str:
        """Launch what cannot start; give the last line it said."""
        process = self.launch(**settings)
        assert process.wait(60) == 1
        lines = [line for line in self.output.read_text().splitlines() if line.strip()]
        assert not any("Traceback" in line for line in lines)
        assert sum(line.startswith("make demo: ") for line in lines) == 1
        return lines[-1]

    def wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline_mono = time.monotonic() + READY_S
        while "VantageEdge is ready" not in self.output.read_text():
            assert process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline_mono, self.output.read_text()
            time.sleep(0.1)

    @property
    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / ".devstack" / "demo.json").read_text()))

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "scripts" / name), *arguments],
            cwd="/",
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def left_behind(self) -> list[str]:
        """Name every process that works in this folder, was started from it or has its ports."""
        marks = (str(self.folder).encode(), f"DEVSTACK_CLERK_PORT={self.ports['DEVSTACK_CLERK_PORT']}".encode())
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                said = (process / "cmdline").read_bytes()
                whole = said + (process / "environ").read_bytes() + os.fsencode((process / "cwd").readlink())
            except OSError:
                continue
            if int(process.name) != os.getpid() and any(mark in whole for mark in marks):
                found.append(f"{process.name} {said.decode('utf-8', 'replace')[:80]}")
        return found

    def end(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        process.send_signal(number)
        assert process.wait(60) == 0, self.output.read_text()
        assert self.left_behind() == []


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def demo(checkout: Checkout) -> Iterator[Checkout]:
    process = checkout.launch()
    try:
        checkout.wait_until_ready(process)
        yield checkout
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        assert checkout.left_behind() == []


def test_everything_as_documented_and_nothing_left_behind(checkout: Checkout, demo: Checkout) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    for _ in range(2):  # the second run finds the first one's cache entries and used-up limit
        done = demo.script("test-requests.sh")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("ok  ") == 8
    said = demo.output.read_text()
    curls = [line.strip() for line in said.splitlines() if line.strip().startswith("curl ")]
    assert len(curls) == 5
    for line in curls:
        command = f"{line} -s -o /dev/null -w '%{{http_code}}'"
        shown = subprocess.run(
            ["/bin/sh", "-c", command], cwd=demo.folder, env=demo.environ, capture_output=True, text=True, check=False
        )
        assert shown.stdout == "200", (line, shown)
    second = subprocess.run(
        [sys.executable, "-m", "devstack.launcher"], cwd=demo.folder, env=demo.environ, capture_output=True, check=False
    )
    assert second.returncode == 1
    holder = f"already in use by process {demo.record['pid']}; end that one first"
    assert second.stderr.decode().strip().endswith(holder) and second.stderr.count(b"\n") == 1
    assert requests.get(demo.record["clerk_url"] + "/.well-known/jwks.json", timeout=5).ok  # untouched by the second


def test_the_readme_works_as_written(demo: Checkout) -> None:
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    script = "".join(block for block in blocks if "curl" in block)
    assert script.count("curl ") == 7
    for written, here in (("http://localhost:8080", "console_url"), ("http://demo.localhost:8000", "edge_url")):
        assert written in script
        script = script.replace(written, demo.record[here])
    # -f: an answer that is not 2xx ends the script
    script = "set -e\n" + script.replace("curl ", "curl -sSf ")
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=demo.folder, env=demo.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "X-Vantage-Live: 2/2" in done.stdout


def test_each_token_the_script_prints_is_let_in_where_its_kind_is_asked_for(demo: Checkout) -> None:
    api, host = demo.record["api_url"] + "/api/v1", urlsplit(demo.record["edge_url"])

    def token(*whose: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {demo.script('demo-token', *whose).stdout.strip()}"}

    def call(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = token("alice") | {"Prefer": "wait=5"}
        answer = requests.request(method, api + path, json=body, headers=headers, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    origin = call("GET", "/origins")["items"][0]["id"]
    machine = requests.get(demo.record["clerk_url"] + "/__dev/clients", timeout=5).json()["machines"][1]["id"]
    call("POST", "/services", {"name": "caller", "kind": "clerk_machine", "machine_id": machine})
    kinds = {"jwt": ("alice",), "oauth": ("alice", "oauth"), "service": ("machine",)}
    for kind in kinds:
        path = f"/kind/{kind}"
        call("POST", "/routes", {"path_pattern": path, "origin_id": origin, "auth_mode": f"{kind}_required",
                                 "rewrite": {"strip_prefix": path}})  # fmt: skip
        url = f"http://127.0.0.1:{host.port}{path}"
        statuses = {
            other: requests.get(url, headers=token(*theirs) | {"Host": host.netloc}, timeout=10).status_code
            for other, theirs in kinds.items()
        }
        assert {other for other, status in statuses.items() if status != 401} == {kind}, statuses


def test_what_was_made_survives_a_launcher_killed_outright(checkout: Checkout) -> None:
    first = checkout.launch()
    checkout.wait_until_ready(first)
    api = checkout.record["api_url"] + "/api/v1"
    bearer = {"Authorization": f"Bearer {checkout.script('demo-token', 'alice').stdout.strip()}"}
    origin = {"name": "kept", "url": checkout.record["origin_url"]}
    assert requests.post(f"{api}/origins", json=origin, headers=bearer, timeout=10).status_code == 201
    first.kill()
    first.wait()
    deadline_mono = time.monotonic() + 30
    while checkout.left_behind():
        assert time.monotonic() < deadline_mono, checkout.left_behind()
        time.sleep(0.1)

    again = checkout.launch()
    checkout.wait_until_ready(again)
    bearer = {"Authorization": f"Bearer {checkout.script('demo-token', 'alice').stdout.strip()}"}
    names = [row["name"] for row in requests.get(f"{api}/origins", headers=bearer, timeout=10).json()["items"]]
    assert sorted(names) == ["jsonplaceholder", "kept"]  # and the second seed made nothing twice
    checkout.end(again, signal.SIGINT)


def test_a_process_that_dies_at_its_start_is_named_with_its_last_words(checkout: Checkout) -> None:
    line = checkout.refused(WORKER_PROBE_SHARDS="many")
    # Worker and beat both read it; whichever ends first is named.
    assert re.match(r"make demo: (worker|beat) ended \(exit status", line) and "WORKER_PROBE_SHARDS must be" in line
    assert re.search(r"(worker|beat)\.log\)$", line)
    assert checkout.left_behind() == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"DATABASE_URL": "postgresql://nobody:s3cret@127.0.0.1:1/none"}, "DATABASE_URL cannot be used: "),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL must be a URL that starts with postgresql://"),
        ({"REDIS_URL": "redis://:s3cret@127.0.0.1:1/0"}, "REDIS_URL cannot be used: "),
        ({"REDIS_URL": "nonsense"}, "REDIS_URL must be a URL that starts with redis://"),
        ({"PORT": "eighty"}, "PORT must be a port from 1 to 65535, not 'eighty'"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY must have at least 32 characters"),
        ({"ALLOWED_PRIVATE_ORIGINS": "not-a-network"}, "ALLOWED_PRIVATE_ORIGINS "),
        ({"EDGE_WORKERS": "0"}, "EDGE_WORKERS must be a whole number from 1 to 64"),
        ({"VANTAGEEDGE_ENV": "production"}, "make demo is for development"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_name(checkout: Checkout, settings: dict[str, str], words: str) -> None:
    line = checkout.refused(**settings)
    assert line.startswith(f"make demo: {words}")
    assert "s3cret" not in checkout.output.read_text()
    assert checkout.left_behind() == []


@pytest.mark.parametrize("name", sorted(PORTS))
def test_a_taken_port_is_one_line_with_its_setting(checkout: Checkout, name: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = checkout.refused(**{name: str(port)})
    assert line == f"make demo: port {port} for {PORTS[name][1]} is taken; free it or choose another with {name}"
