"""devstack.valkey: a server that starts at once, keeps its keys, and ends with its launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import redis

from devstack.child import DevstackError
from devstack.valkey import Valkey

ROOT = Path(__file__).parents[2]


def test_a_password_is_asked_and_kept_private(valkey: Valkey) -> None:
    with redis.Redis(port=valkey.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis.from_url(valkey.url) as client:
        assert client.ping()
    assert (valkey.folder / "valkey.conf").stat().st_mode & 0o077 == 0
    assert b"requirepass" not in Path(f"/proc/{valkey.pid}/cmdline").read_bytes()


def test_keys_survive_a_crash_on_the_same_port(tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey").start()
    url = server.url
    with redis.Redis.from_url(url) as client:
        client.set("k", "v")
        time.sleep(1.2)  # appendfsync everysec
    server.kill()
    server.start()
    assert server.url == url
    with redis.Redis.from_url(url) as client:
        assert client.get("k") == b"v"
    server.stop()


def test_a_crash_is_a_crash(valkey: Valkey) -> None:
    pid = valkey.pid
    valkey.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with redis.Redis.from_url(valkey.url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_a_server_that_cannot_read_its_data_says_so_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "valkey"
    with Valkey(folder) as server, redis.Redis.from_url(server.url) as client:
        client.set("k", "v")
    for manifest in (folder / "appendonlydir").glob("*.manifest"):
        manifest.write_text("nonsense\n")
    with pytest.raises(DevstackError, match=r"Valkey did not start: .*delete .*/valkey") as caught:
        server.start()
    assert "\n" not in str(caught.value)


def test_a_second_user_of_the_folder_is_refused(valkey: Valkey) -> None:
    with pytest.raises(DevstackError, match=f"already in use by process {os.getpid()}"):
        Valkey(valkey.folder).start()


def test_a_server_left_behind_is_ended_at_the_next_start(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, sys, pathlib, signal
        from devstack import child, valkey
        child.leashed = lambda argv, ends_with, drop="keep": list(argv)  # as where the kernel has no leash
        server = valkey.Valkey(pathlib.Path(sys.argv[1])).start()
        print(server.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "v")], check=False, cwd=ROOT, stdout=subprocess.PIPE
    )
    assert done.returncode == -signal.SIGKILL
    orphan = int(done.stdout)
    os.kill(orphan, 0)
    with Valkey(tmp_path / "v") as server:
        assert server.pid != orphan
        stat = Path(f"/proc/{orphan}/stat")
        assert not stat.exists() or ") Z " in stat.read_text()


def test_the_server_ends_when_its_launcher_is_killed(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys, time, pathlib
        from devstack.valkey import Valkey
        print(Valkey(pathlib.Path(sys.argv[1])).start().pid, flush=True)
        time.sleep(60)
    """)
    launcher = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "v")], cwd=ROOT, stdout=subprocess.PIPE)
    with launcher:
        assert launcher.stdout is not None
        pid = int(launcher.stdout.readline())
        launcher.send_signal(signal.SIGKILL)
    deadline_mono = time.monotonic() + 5
    while Path(f"/proc/{pid}/cwd").exists() and time.monotonic() < deadline_mono:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}/cwd").exists()
