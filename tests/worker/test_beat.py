import time

import pytest

from contracts import tasks

pytestmark = pytest.mark.system


def waiting(bench):
    with bench.redis() as client:
        return client.llen(tasks.BROKER_KEY_PREFIX + tasks.QUEUE_PROBES)


def test_of_two_beats_one_sends_and_the_other_takes_over_when_it_is_killed(bench):
    """No worker runs, so what was sent lies in the queue and can be counted."""
    beats = [bench.beat(WORKER_PROBE_SHARDS="1"), bench.beat(WORKER_PROBE_SHARDS="1")]
    bench.wait(lambda: any(beat.says("lock taken") for beat in beats), "a holder")
    bench.wait(lambda: waiting(bench) >= 1, "the first sweep")
    began, start = waiting(bench), time.monotonic()
    time.sleep(6)
    sent, span_s = waiting(bench) - began, time.monotonic() - start
    assert span_s * 0.5 <= sent <= span_s + 2  # one a second, not two
    assert [beat.says("lock taken") for beat in beats].count(True) == 1
    holder, other = sorted(beats, key=lambda beat: not beat.says("lock taken"))
    holder.kill()
    bench.wait(lambda: other.says("lock taken"), "the other to take over")
    began = waiting(bench)
    bench.wait(lambda: waiting(bench) > began, "it to send")


def test_a_beat_whose_redis_is_away_at_its_start_waits_for_it(bench):
    bench.valkey.stop()
    beat = bench.beat()
    bench.wait(lambda: beat.says("redis away"), "the beat to notice")
    assert beat.popen.poll() is None
    bench.valkey.start()
    bench.wait(lambda: beat.says("lock taken"), "the beat to begin")
    assert beat.stop() == 0
