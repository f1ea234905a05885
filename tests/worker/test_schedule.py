import json
import subprocess
import sys

from contracts import tasks
from tests.worker.conftest import ROOT, environment
from worker import schedule


def test_every_entry_expires_and_goes_to_its_queue():
    for entry in schedule.table(3).values():
        assert 0 < entry["options"]["expires"] <= 2 * entry["schedule"].total_seconds()
        assert entry["options"]["queue"] == tasks.QUEUE_OF[entry["task"]]


def test_each_shard_is_swept_each_second_or_two():
    sweeps = [entry for entry in schedule.table(4).values() if entry["task"] == tasks.HEALTH_SWEEP]
    assert sorted(entry["args"] for entry in sweeps) == [(0,), (1,), (2,), (3,)]
    assert all(1 <= entry["schedule"].total_seconds() <= 2 for entry in sweeps)


def test_the_beat_renews_its_lock_many_times_before_it_would_lose_it():
    assert schedule.LOOP_S * 5 <= schedule.LOCK_S


def test_every_job_has_a_queue_and_says_that_it_is_idempotent():
    """Asked of a process of its own: an application reads its environment once."""
    code = (
        "import json; from worker.app import app; app.loader.import_default_modules();"
        "print(json.dumps({name: task.run.__doc__ for name, task in app.tasks.items()}))"
    )
    environ = environment("postgresql://a@h/d", "postgresql://o@h/d", "redis://127.0.0.1:1/0")
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=True, cwd=ROOT)
    said = {name: text for name, text in json.loads(done.stdout).items() if not name.startswith("celery.")}
    assert set(said) == set(tasks.QUEUE_OF)
    assert set(tasks.QUEUE_OF.values()) <= set(tasks.QUEUES)
    assert [name for name, text in said.items() if "dempotent" not in (text or "")] == []
