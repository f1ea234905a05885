import pytest

pytestmark = pytest.mark.system


def test_a_worker_says_it_is_ready_and_ends_on_sigterm(bench):
    worker = bench.worker()
    assert worker.stop() == 0
