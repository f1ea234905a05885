"""Holds places among the requests in flight, from a process of its own, until it is killed.

Run:   python -m tests.edge.store.counters.holder REDIS_URL REQUESTS POLICY_JSON
Out:   how many were let in, in one line.
"""

from __future__ import annotations

import sys

import gevent
import msgspec

from contracts.snapshot import PolicyConfig
from edge.ports import Check
from edge.settings import parse_redis_url
from edge.store.cluster import client_for
from edge.store.counters.slots import Slots
from tests.edge.publishing import DEMO


def main() -> None:
    url, requests, policy = sys.argv[1:]
    client = client_for(parse_redis_url(url))
    client.start()
    client.call("EXISTS", "anything")
    worker = Slots(client, lambda: 4)
    check = Check(DEMO, msgspec.json.decode(policy, type=PolicyConfig), b"caller")
    print(sum(worker.enter((check,))[0].allowed for _ in range(int(requests))), flush=True)
    gevent.sleep(60)


if __name__ == "__main__":
    main()
