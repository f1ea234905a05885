"""devstack.processes: commands run, warn, come back, and go with all of their family."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack.child import DevstackError
from devstack.processes import Process, end_all, read_procfile

Run = Callable[[str], Process]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started: list[Process] = []

    def make(command: str) -> Process:
        process = Process("it", command, dict(os.environ), tmp_path / "it.log", tmp_path)
        process.start()
        started.append(process)
        return process

    yield make
    end_all(started, 1.0)


def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline_mono = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_mono
        time.sleep(0.02)


def test_the_products_procfile_has_its_four_processes() -> None:
    assert list(read_procfile(Path(__file__).parents[2] / "Procfile")) == ["web", "edge", "worker", "beat"]


def test_a_wrong_procfile_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "Procfile"
    file.write_text("# all of it\nweb: run\nnonsense\n")
    with pytest.raises(DevstackError, match="Procfile line 3 is not 'name: command'"):
        read_procfile(file)
    with pytest.raises(DevstackError, match="is missing"):
        read_procfile(tmp_path / "none")


def test_the_end_of_a_process_is_told_with_its_last_words(run: Run) -> None:
    process = run("echo first; echo 'PORT is wrong' >&2; exit 3")
    until(process.ended)
    assert process.ended() == "it ended (exit status 3): first | PORT is wrong"


def test_only_whole_lines_that_warn_are_shown_and_only_once(run: Run) -> None:
    process = run(
        "echo INFO fine; echo 'x WARNING careful'; echo '{\"level\": \"error\"}'; printf 'ERROR half'; sleep 60"
    )
    until(lambda: b"half" in process.log.read_bytes())
    assert process.warnings() == ["x WARNING careful", '{"level": "error"}']
    assert process.warnings() == []


def test_a_process_that_ends_is_started_again_after_a_pause(run: Run) -> None:
    process = run("sleep 60")
    first = process.pid
    assert first is not None and process.mend(time.monotonic()) is None
    os.kill(first, signal.SIGKILL)
    until(process.ended)
    now_mono = time.monotonic()
    assert process.mend(now_mono) == "it ended (signal SIGKILL); starting it again in 1 s"
    assert process.mend(now_mono + 0.5) is None and process.pid is None
    assert process.mend(now_mono + 1.1) is None
    assert process.pid not in (None, first)


def test_the_whole_family_ends_even_when_it_will_not_listen(run: Run, tmp_path: Path) -> None:
    process = run(
        "trap '' TERM; (trap '' TERM; echo $$ > child; exec sleep 60) & sh -c 'echo $$ > grandchild; sleep 60'"
    )
    until(lambda: (tmp_path / "grandchild").exists() and (tmp_path / "grandchild").read_text().strip())
    grandchild = int((tmp_path / "grandchild").read_text())
    begun_mono = time.monotonic()
    end_all([process], 0.5)
    assert time.monotonic() - begun_mono < 5
    until(lambda: not _lives(grandchild))
    assert process.pid is None


def _lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
