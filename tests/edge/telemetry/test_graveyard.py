"""Twin of edge.telemetry.graveyard: what two parents bury at the same time is all counted, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edge.telemetry import graveyard, metrics
from edge.telemetry.metrics import Dump

ROOT = Path(__file__).parents[3]
BURIER = """
import sys
from pathlib import Path
from edge.telemetry import graveyard
sys.stdin.readline()
for pid in range(int(sys.argv[2]), int(sys.argv[3])):
    graveyard.bury(Path(sys.argv[1]), pid)
"""


def leave(folder: Path, pid: int, count: float) -> None:
    dump = Dump()
    dump.counters = {"things_total": {"": count}}
    graveyard.write_whole(folder / f"{pid}.dump", metrics.encode(dump))


def test_two_parents_bury_at_once_and_no_count_is_lost(tmp_path):
    for pid in range(1, 201):
        leave(tmp_path, pid, 1.0)
    buriers = [
        subprocess.Popen(
            [sys.executable, "-c", BURIER, str(tmp_path), str(first), str(first + 100)], stdin=subprocess.PIPE, cwd=ROOT
        )
        for first in (1, 101)
    ]
    for burier in buriers:
        burier.stdin.write(b"\n")
        burier.stdin.flush()
    for burier in buriers:
        burier.communicate(timeout=30)
    total = graveyard.read(tmp_path / graveyard.GRAVES)
    assert total.counters["things_total"][""] == 200
    assert sorted(total.dead) == list(range(1, 201))
    assert list(tmp_path.glob("*.sock")) == []
    assert {path.name for path in tmp_path.glob("[0-9]*")} == set()


def test_a_worker_that_left_nothing_is_no_trouble_and_neither_is_a_folder_that_is_gone(tmp_path):
    graveyard.bury(tmp_path, 7)
    assert graveyard.read(tmp_path / graveyard.GRAVES) is None
    graveyard.bury(tmp_path / "gone", 7)
