"""Asks one policy as fast as it can, from a process of its own.

Run:   python -m tests.edge.store.counters.hammer REDIS_URL SECONDS GREENLETS POLICY_JSON
Out:   JSON: [[asked_at, answered_at, allowed], ...]
"""

from __future__ import annotations

import json
import sys
import time

import gevent
import msgspec

from contracts.snapshot import PolicyConfig
from edge.ports import Check
from edge.settings import parse_redis_url
from edge.store.cluster import client_for
from edge.store.counters.distributed import DistributedCounters
from tests.edge.publishing import DEMO


def main() -> None:
    url, seconds, greenlets, policy = sys.argv[1:]
    client = client_for(parse_redis_url(url), deadline_s=5.0)
    client.start()
    client.call("EXISTS", "anything")
    counters = DistributedCounters(client, lambda: 2)
    checks = (Check(DEMO, msgspec.json.decode(policy, type=PolicyConfig), b"caller"),)
    answers = []
    end = time.time() + float(seconds)

    def ask() -> None:
        while time.time() < end:
            asked_at = time.time()
            allowed = counters.admit(checks)[0].allowed
            if allowed:
                answers.append((asked_at, time.time(), allowed))
            gevent.sleep(0.001)

    gevent.joinall([gevent.spawn(ask) for _ in range(int(greenlets))])
    assert counters.degraded_total == 0
    print(json.dumps({"answers": answers, "calls": counters.script_calls_total}))


if __name__ == "__main__":
    main()
