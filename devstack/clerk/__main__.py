"""Run the stand-in: python -m devstack.clerk --folder .devstack/clerk --port 8081 --console-url http://localhost:8080."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import gevent

from devstack.child import DevstackError
from devstack.clerk.app import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="devstack.clerk", description="A stand-in for Clerk, on loopback only.")
    parser.add_argument("--folder", type=Path, default=Path(".devstack/clerk"))
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--console-url", default="http://localhost:8080")
    chosen = parser.parse_args()
    gevent.signal_handler(signal.SIGTERM, sys.exit, 0)
    try:
        serve(chosen.folder, chosen.port, chosen.console_url)
    except KeyboardInterrupt:
        pass
    except (DevstackError, OSError) as error:
        sys.exit(f"the stand-in for Clerk did not start: {error}")


if __name__ == "__main__":
    main()
