"""A real edge host of several workers, an origin, and clients, for tests that need processes."""

from __future__ import annotations

import http.client
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil

from devstack.child import free_port
from tests.edge.publishing import HOST, PEPPER


class Origin:
    """Answers every GET with its path; `?ms=` makes it wait."""

    def __init__(self) -> None:
        class Answers(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                time.sleep(float(parse_qs(urlsplit(self.path).query).get("ms", ["0"])[0]) / 1000)
                body = self.path.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class EdgeHost:
    """`python -m edge` in a process of its own."""

    def __init__(self, redis_url: str, folder: Path, workers: int = 2, **environ: str) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.log = folder / "edge.log"
        self.access_log = folder / "access.log"
        self.environ = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(folder),
            "REDIS_URL": redis_url,
            "KEY_PEPPERS": "1:" + PEPPER.hex(),
            "EDGE_BASE_DOMAIN": "localhost",
            "CLERK_ISSUER": "https://clerk.test",
            "CLERK_JWKS_URL": "https://127.0.0.1:9/jwks.json",
            "CONSOLE_URL": "http://localhost:8080",
            "EDGE_BIND": "127.0.0.1",
            "EDGE_PORT": str(self.port),
            "EDGE_METRICS_PORT": str(self.metrics_port),
            "EDGE_WORKERS": str(workers),
            "EDGE_STATE_DIR": str(folder / "state"),
            "EDGE_ACCESS_LOG": str(self.access_log),
            "ALLOWED_PRIVATE_ORIGINS": "127.0.0.0/8",
            "EDGE_AUTH_FAILURES_MAX": "0",  # every client of a test has the same address
        } | environ
        self.workers = workers
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EdgeHost:
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> EdgeHost:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "edge"], env=self.environ, stdout=log, stderr=log)
        self.eventually(lambda: self.probe("/readyz")[0] == 200 and self.metric("vantageedge_workers") == self.workers)
        return self

    def stop(self) -> int:
        """SIGTERM and wait; gives the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(40)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()
            raise

    def eventually(self, condition, timeout_s: float = 15.0) -> None:
        end = time.monotonic() + timeout_s
        while True:
            try:
                if condition():
                    return
            except (OSError, http.client.HTTPException):
                pass
            assert self.process is None or self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"it did not become true in time\n{self.log.read_text()[-2000:]}"
            time.sleep(0.02)

    def pids(self) -> list[int]:
        assert self.process is not None
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def get(self, path: str, key: str | None = None, timeout_s: float = 10.0) -> tuple[int, bytes]:
        """One request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            fields = {"Host": HOST, "Connection": "close"} | ({"X-API-Key": key} if key else {})
            connection.request("GET", path, headers=fields)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def statuses(self, path: str, times: int = 20, key: str | None = None) -> set[int]:
        """Over so many connections that every worker gets some."""
        return {self.get(path, key)[0] for _ in range(times)}

    def probe(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """The sum of all series whose name and labels start like this."""
        text = self.probe("/metrics")[1]
        return sum(float(value) for value in re.findall(rf"^{re.escape(name)}.* ([0-9.e+-]+)$", text, re.M))


class Load:
    """Threads that ask again and again; `failures` has everything that was not a 200."""

    def __init__(self, edge: EdgeHost, path: str, threads: int = 4, key: str | None = None) -> None:
        self._edge = edge
        self._ask = (path, key)
        self._stop = threading.Event()
        self.answered = 0
        self.failures: list[object] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                status, _ = self._edge.get(*self._ask)
            except ConnectionRefusedError:
                return  # nobody listens any more: nothing was lost
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(error)
                continue
            self.answered += 1
            if status != 200:
                self.failures.append(status)
