"""A broker over TLS: a wrapper of the real one, as managed stores offer it."""

import contextlib
import socket
import ssl
import threading

import pytest

from contracts import keyspace, tasks
from tests.worker.test_checker import certificate

pytestmark = pytest.mark.system
__all__ = ["certificate"]


@pytest.fixture
def tls_port(bench, certificate):
    """The port of a TLS front of the Valkey."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    opened, threads = [listener], []

    def pump(source, sink):
        with contextlib.suppress(OSError, ValueError):
            while piece := source.recv(65_536):
                sink.sendall(piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve():
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            try:
                front = context.wrap_socket(raw, server_side=True)
            except OSError:
                raw.close()
                continue
            back = socket.create_connection(("127.0.0.1", bench.valkey.port))
            opened.extend((front, back))
            for pair in ((front, back), (back, front)):
                threads.append(threading.Thread(target=pump, args=pair, daemon=True))
                threads[-1].start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    for process in bench.processes:
        process.kill()
    for thread in list(threads):
        thread.join(5)
    for end in opened:
        end.close()


@pytest.mark.parametrize("verified", [True, False])
def test_worker_and_beat_speak_tls_to_their_broker(bench, tls_port, certificate, verified):
    password = bench.valkey.url.split(":")[2].split("@")[0]
    if verified:
        more = {"CELERY_BROKER_URL": f"rediss://:{password}@localhost:{tls_port}/0", "SSL_CERT_FILE": str(certificate)}
    else:
        more = {"CELERY_BROKER_URL": f"rediss://:{password}@127.0.0.1:{tls_port}/0?ssl_cert_reqs=none"}
    bench.worker(**more)
    beat = bench.beat(**more)
    bench.wait(lambda: beat.says("lock taken"), "the beat")
    bench.send(tasks.CACHE_PURGE, bench.tenant_id, None, None)
    with bench.redis() as client:
        bench.wait(lambda: client.hlen(keyspace.cache_generations(bench.tenant_id)), "the purge")
