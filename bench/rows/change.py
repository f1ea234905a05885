"""From a config change in Redis to the last worker that has it in force.

The API answers only when its change is in Redis, so what is measured here, from just before the write, is no less than
what the budget means: from the API's answer on.

Laws:  1. Sixteen kept connections over two workers: that one worker has them all is a chance of 1 in 32,768. 2. In
       force means that every connection is answered by the new route.
"""

from __future__ import annotations

import http.client
import time

from bench import publish
from bench.lab import BenchError
from bench.peers import edge
from bench.rows import Plan, Row, budget
from bench.stats import Spread, median, percentile

CHANGES = 100
_CONNECTIONS = 16
_HOST = "change.localhost"
_PATIENCE_S = 10.0


def run(plan: Plan) -> list[Row]:
    """Raises BenchError."""
    lab = plan.lab
    publish.publish(lab.valkey.url, publish.one_route(lab.origin_port, 1), _HOST, ())
    host = edge.launch(lab, "edge-change", workers=2)
    connections = [http.client.HTTPConnection("127.0.0.1", host.port, timeout=10) for _ in range(_CONNECTIONS)]
    taken_ms = []
    for connection in connections:
        if not _in_force(connection, 1):
            raise BenchError("change: the first version is not served")
    for version in range(2, CHANGES + 2):
        tenant = publish.one_route(lab.origin_port, version)
        began_mono = time.monotonic()
        publish.publish(lab.valkey.url, tenant, _HOST, ())
        waiting = connections
        while waiting:
            waiting = [one for one in waiting if not _in_force(one, version)]
            if time.monotonic() - began_mono > _PATIENCE_S:
                raise BenchError(f"change: version {version} is not in force after {_PATIENCE_S:.0f} s")
        taken_ms.append(1e3 * (time.monotonic() - began_mono))
    for connection in connections:
        connection.close()
    lab.end(host.process)
    plan.evidence["change"] = {"milliseconds": taken_ms}
    p99 = percentile(taken_ms, 0.99)
    note = f"median {median(taken_ms):.0f} ms of {CHANGES} changes, two workers"
    return [Row(budget("change"), Spread(p99, min(taken_ms), max(taken_ms), CHANGES), note)]


def _in_force(connection: http.client.HTTPConnection, version: int) -> bool:
    connection.request("GET", f"/v{version}/1", headers={"Host": _HOST})
    answer = connection.getresponse()
    answer.read()
    return answer.status == 200
