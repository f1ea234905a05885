"""Keeps the workers of one host alive, and replaces them without losing a request: the parent process.

In:    Settings and how to read them again, sockets, the folder of the workers' numbers, signals.
Out:   one serving worker per slot; exit code 0 after a drain, 3 when no worker ever served.
Laws:  1. A worker is asked to leave only when its successor on the same slot serves. 2. One worker boots at a time in a
       restart: the others keep the processors. 3. What a reload brings is kept only if a worker serves with it; else
       the old workers and settings stay. 4. A slot whose workers die young waits longer each time, 5 s at most.
       5. Nobody is judged by a clock that stood still: after a pause of our own no worker counts as wedged.
Not here: what a worker is made of and how it drains (server), making sockets (sockets), patching (__main__).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from edge.server import ENDING, EdgeWorker, Inheritance
from edge.settings import Settings
from edge.sockets import VARIABLE, Sockets, StartError
from edge.telemetry import graveyard

_LOG: Final = logging.getLogger(__name__)
_LOG.setLevel(logging.INFO)  # what an operator's signal led to is always told
_GRACE_S: Final = 5
"""What the parent waits beyond the drain before it kills."""
_QUICK_S: Final = 2
"""The same when a quick stop was asked for."""
_HANDSHAKES_S: Final = 0.5
"""What connections that clients have begun get to be completed and accepted, before workers close their sockets."""
_LOOK_S: Final = 0.05
"""How often the parent looks while a worker boots."""
_BOOT_TIMEOUTS: Final = 3
"""A worker may take so many heartbeat timeouts until its first heartbeat: it imports everything."""
_PAUSED_S: Final = 2.0
"""The loop turns each second; when it did not for so long, we were not running."""
_YOUNG_S: Final = 10.0
"""A worker that dies younger than this makes its slot wait before the next one."""
_PAUSES_S: Final = (0.25, 0.5, 1.0, 2.0, 5.0)
_WORKERS_MAX: Final = 64
ENDS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


@dataclass(slots=True)
class Life:
    """What the parent knows of one worker. `retired_mono`: when it was asked to leave."""

    slot: int
    generation: int
    born_mono: float
    serving: bool = False
    retired_mono: float = 0.0


@dataclass(frozen=True, slots=True)
class Generation:
    """What the workers of one start or reload have in common."""

    number: int
    settings: Settings
    workers: int


class Application(BaseApplication):  # type: ignore[misc]
    """gunicorn's configuration, taken from Settings alone: no file, no arguments, no environment."""

    def __init__(self, settings: Settings, after_fork: Callable[[Any, Any], None], folder: Path) -> None:
        self._settings = settings
        self._after_fork = after_fork
        self._folder = folder
        super().__init__()

    def load_config(self) -> None:
        shared_memory = Path("/dev/shm")  # noqa: S108 - a folder to make nameless files in, as gunicorn advises
        for name, value in {
            "bind": f"[{self._settings.bind}]:{self._settings.port}",
            "worker_class": EdgeWorker,
            "control_socket_disable": True,
            "loglevel": "warning",
            "worker_tmp_dir": str(shared_memory) if os.access(shared_memory, os.W_OK) else None,
            "proc_name": "vantageedge-edge",
            "pre_fork": _watch_boot,
            "post_fork": self._after_fork,
            "child_exit": self._after_death,
        }.items():
            self.cfg.set(name, value)
        self.adopt(self._settings)

    def adopt(self, settings: Settings) -> None:
        self.cfg.set("workers", settings.workers)
        self.cfg.set("timeout", settings.heartbeat_timeout_s)
        self.cfg.set("graceful_timeout", int(settings.limits.drain_timeout_s) + _GRACE_S)

    def load(self) -> None:
        """There is no WSGI application."""

    def _after_death(self, arbiter: Any, worker: Any) -> None:
        graveyard.bury(self._folder, worker.pid)


def _watch_boot(arbiter: Any, worker: Any) -> None:
    """Begin to watch a worker at its birth: its heartbeat file would count as fresh for ever until its first beat."""
    first_mono = time.monotonic() + (_BOOT_TIMEOUTS - 1) * arbiter.timeout
    os.utime(worker.tmp.fileno(), (first_mono, first_mono))
    worker.first_mono = worker.tmp.last_update()


class Parent(Arbiter):  # type: ignore[misc]
    """gunicorn's arbiter with workers that have slots and generations. `reread`: gives new settings, or raises."""

    def __init__(
        self, app: Application, settings: Settings, reread: Callable[[], Settings], sockets: Sockets, folder: Path
    ) -> None:
        self.reexec_pid = self.master_pid = 0
        super().__init__(app)
        self.LISTENERS = sockets.all
        self.WORKERS: dict[int, Any] = {}
        self._reread = reread
        self._sockets = sockets
        self._folder = folder
        self._lives: dict[int, Life] = {}
        self._current = Generation(1, settings, settings.workers)
        self._previous: Generation | None = None
        """What we return to when no worker of the current generation comes to serve; None once one did."""
        self._proven = False
        self._numbers = 1
        self._announced = 0
        self._deaths: dict[int, int] = {}
        self._not_before_mono: dict[int, float] = {}
        self._halt: HaltServer | None = None
        self._stopping = False
        self._looked_mono = time.monotonic()
        self._judge_from_mono = 0.0

    # ---- what the loop does each time

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        unsettled = any(not life.serving for life in self._lives.values()) or len(self._lives) < self.num_workers
        signals: list[int] = super().wait_for_signals(_LOOK_S if unsettled else timeout)
        return signals

    def murder_workers(self) -> None:
        now = time.monotonic()
        if now - self._looked_mono > max(_PAUSED_S, self.timeout / 2):
            # They stood still as we did (a stopped process group, a paused machine): they get the time back.
            self._judge_from_mono = now + self.timeout
        self._looked_mono = now
        if now >= self._judge_from_mono:
            super().murder_workers()

    def manage_workers(self) -> None:
        """Bring the workers nearer to what they should be; called at least each second."""
        if self._halt is not None:
            raise self._halt
        for pid, life in self._lives.items():
            if not life.serving and self.WORKERS[pid].tmp.last_update() != self.WORKERS[pid].first_mono:
                self._begins_to_serve(life)
        self._spawn_missing()
        self._retire_replaced()
        limit_mono = time.monotonic() - self.cfg.graceful_timeout
        for pid, life in self._lives.items():
            if life.retired_mono and life.retired_mono < limit_mono:
                self.kill_worker(pid, signal.SIGKILL)

    def _begins_to_serve(self, life: Life) -> None:
        life.serving = True
        if life.generation == self._current.number:
            self._proven = True
            self._previous = None

    def _spawn_missing(self) -> None:
        now = time.monotonic()
        booting = any(not life.serving and not life.retired_mono for life in self._lives.values())
        for slot in range(self._current.workers):
            stay = [life for life in self._lives.values() if life.slot == slot and not life.retired_mono]
            if not stay:
                if now >= self._not_before_mono.get(slot, 0.0):
                    self._spawn(slot)
            elif not booting and all(life.generation != self._current.number for life in stay):
                if now >= self._not_before_mono.get(slot, 0.0):
                    self._spawn(slot)
                booting = True

    def _retire_replaced(self) -> None:
        number, workers = self._current.number, self._current.workers
        replaced = {life.slot for life in self._lives.values() if life.generation == number and life.serving}
        settled = all(slot in replaced for slot in range(workers))
        if settled and self._announced != number:
            self._announced = number
            if number > 1:
                _LOG.info("reload: all workers (%d) serve with what is set now; the old ones finish and leave", workers)
            elif self.master_pid:
                told = "serving beside the parent %d: end that one to go on with this, or this one (%d) to go back"
                _LOG.info(told, self.master_pid, self.pid)
        for pid, life in self._lives.items():
            if life.generation == number or life.retired_mono:
                continue
            if life.slot in replaced or (settled and life.slot >= workers):
                self._retire(pid, life)

    def _retire(self, pid: int, life: Life) -> None:
        life.retired_mono = time.monotonic()
        self.kill_worker(pid, signal.SIGTERM)

    def _spawn(self, slot: int) -> None:
        current = self._current
        EdgeWorker.inherited = Inheritance(current.settings, self._sockets.dealt(slot, current.workers), self._folder)
        # A worker has our handlers until it sets its own: a signal in between would be put into a queue nobody reads.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
        try:
            pid = self.spawn_worker()
        except OSError as error:  # of ours: in the child every way out is SystemExit
            _LOG.error("a worker cannot be started: %s", error)
            self._pause(slot)
        else:
            self._lives[pid] = Life(slot, current.number, time.monotonic())
        finally:
            if os.getpid() == self.pid:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)

    # ---- deaths

    def reap_workers(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            if pid == self.reexec_pid:
                self.reexec_pid = 0
                _LOG.error("the new parent %d ended (%s); this one goes on", pid, _told(code))
            worker, life = self.WORKERS.pop(pid, None), self._lives.pop(pid, None)
            if worker is not None:
                worker.tmp.close()
                self.cfg.child_exit(self, worker)
            if life is not None:
                self._judge(pid, life, code)

    def _judge(self, pid: int, life: Life, code: int) -> None:
        if code not in (0, -signal.SIGTERM, -signal.SIGQUIT):  # by such a signal: before it served
            _LOG.error("worker %d ended (%s)", pid, _told(code))
        elif not life.retired_mono and not self._stopping:
            _LOG.info("worker %d left (%s), not asked by us", pid, _told(code))
        if life.retired_mono:
            return
        if life.serving and time.monotonic() - life.born_mono >= _YOUNG_S:
            self._deaths.pop(life.slot, None)
            return
        deaths = self._pause(life.slot)
        unproven = life.generation == self._current.number and not self._proven and not life.serving
        if unproven and (code > 0 or deaths >= len(_PAUSES_S)):
            self._give_up(code)

    def _pause(self, slot: int) -> int:
        """Let a slot wait for its next worker, longer each time in a row; gives how often it did."""
        deaths = self._deaths[slot] = self._deaths.get(slot, 0) + 1
        self._not_before_mono[slot] = time.monotonic() + _PAUSES_S[min(deaths, len(_PAUSES_S)) - 1]
        return deaths

    def _give_up(self, code: int) -> None:
        """No worker of this generation ever served, and this one could not either."""
        if self._previous is None:
            self._halt = HaltServer("no worker can boot", code if code > 0 else self.WORKER_BOOT_ERROR)
            return
        _LOG.error("the reload is given up: its workers cannot boot; the old ones and their settings stay")
        failed = self._current.number
        self._adopt(self._previous)
        self._previous = None
        self._proven = any(life.serving and life.generation == self._current.number for life in self._lives.values())
        for pid, life in self._lives.items():
            if life.generation == failed and not life.retired_mono:
                self._retire(pid, life)

    # ---- signals

    def handle_hup(self) -> None:
        """Read the settings again and replace every worker."""
        try:
            settings = self._reread()
        except (ValueError, StartError, OSError) as error:  # a mistake must not end a host that serves
            for line in str(error).splitlines():
                _LOG.error("SIGHUP changes nothing: %s", line)
            return
        self._replace_all(settings, settings.workers)

    def handle_ttin(self) -> None:
        """One worker more, until the next reload."""
        self._replace_all(self._current.settings, min(self._current.workers + 1, _WORKERS_MAX))

    def handle_ttou(self) -> None:
        """One worker fewer, until the next reload. The rest is replaced: somebody must serve the freed socket."""
        self._replace_all(self._current.settings, max(self._current.workers - 1, 1))

    def _replace_all(self, settings: Settings, workers: int) -> None:
        try:
            self._sockets.grow(workers)
        except StartError as error:
            _LOG.error("%d workers cannot be: %s", workers, error)
            return
        self.LISTENERS = self._sockets.all
        if self._previous is None:
            self._previous = self._current
        self._proven = False
        self._numbers += 1
        self._deaths.clear()
        self._not_before_mono.clear()
        self._adopt(Generation(self._numbers, settings, workers))

    def _adopt(self, generation: Generation) -> None:
        self._current = generation
        self.app.adopt(generation.settings)
        self.timeout = self.cfg.timeout
        self.num_workers = generation.workers

    @property
    def _alone(self) -> bool:
        """Whether no other parent serves from our sockets."""
        return bool(self.reexec_pid == self.master_pid == 0)

    def reexec(self) -> None:
        """Start a new parent from what is now on the disk, and hand it every socket; we go on until we are ended."""
        if not self._alone:
            _LOG.error("SIGUSR2 changes nothing: there are two parents already")
            return
        parent = os.getpid()
        self.reexec_pid = os.fork()
        if self.reexec_pid:
            return
        try:
            for number in self.SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            environ = os.environ | {"GUNICORN_PID": str(parent), VARIABLE: self._sockets.hand_over(self._folder)}
            os.chdir(self.START_CTX["cwd"])
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606 - our own program
        except OSError:
            _LOG.exception("the new parent cannot be started")
        finally:
            os._exit(1)

    def stop(self, graceful: bool = True) -> None:
        self._stopping = True
        if self._alone and self.WORKERS:
            with contextlib.suppress(OSError):  # without it nobody answers probes any more: as good as red
                (self._folder / ENDING).touch()
            graceful = graceful and self._let_balancers_notice()
        if not graceful:
            self.cfg.set("graceful_timeout", _QUICK_S)
        for life in self._lives.values():
            life.retired_mono = life.retired_mono or time.monotonic()
        super().stop(graceful)

    def _let_balancers_notice(self) -> bool:
        """Go on serving until nobody is about to come; False when a quick stop is asked for. Blocks."""
        told = self._wait_out(self._current.settings.drain_notice_s)
        if not told and self._sockets.let_nobody_begin():
            told = self._wait_out(_HANDSHAKES_S)
        return told <= {signal.SIGTERM}

    def _wait_out(self, duration_s: float) -> set[int]:
        """Wait while workers go on serving; gives what told us to hurry."""
        end_mono = time.monotonic() + duration_s
        while self.WORKERS and (left_s := end_mono - time.monotonic()) > 0:
            if told := ENDS.intersection(super().wait_for_signals(min(left_s, 0.1))):
                return set(told)
            self.reap_workers()
        return set()


def _told(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
