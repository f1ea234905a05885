"""On PYTHONPATH of an edge under test only: SIGRTMIN makes a worker compute for ever, in its hub."""

import signal


def _spin(number, frame):
    signal.signal(signal.SIGABRT, signal.SIG_IGN)  # worse than real: not even the first signal to end it helps
    while True:
        pass


signal.signal(signal.SIGRTMIN, _spin)
