"""devstack.postgres: a cluster that starts for anyone, keeps its data, and says in one line why it cannot."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from devstack.child import DevstackError
from devstack.postgres import Postgres

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path / "pg", durable=False)
    server.start()
    yield server
    server.stop()


def query(server: Postgres, text: str, role: str = "super", database: str = "vantageedge") -> list[tuple[object, ...]]:
    with psycopg.connect(server.url(role, database), autocommit=True) as connection:  # type: ignore[arg-type]
        cursor = connection.execute(text)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def test_the_programs_role_is_neither_superuser_nor_above_row_security(cluster: Postgres) -> None:
    rows = query(
        cluster, "SELECT rolname, rolsuper, rolbypassrls, rolcanlogin FROM pg_roles WHERE rolname ~ '^vantage'"
    )
    assert sorted(rows) == [("vantageedge_app", False, False, True), ("vantageedge_owner", False, False, True)]
    assert query(cluster, "SELECT current_user", "app") == [("vantageedge_app",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(cluster, "CREATE TABLE t (n int)", "app")
    query(cluster, "CREATE TABLE t (n int)", "owner")


def test_nobody_gets_in_without_the_password(cluster: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{cluster.port}/postgres")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{cluster.port}/postgres")
    assert (cluster.folder / "passwords.json").stat().st_mode & 0o077 == 0


def test_a_database_made_from_a_template_has_its_tables(cluster: Postgres) -> None:
    cluster.create_database("first")
    query(cluster, "CREATE TABLE kept (n int)", "owner", "first")
    cluster.create_database("second", template="first")
    assert query(cluster, "SELECT count(*) FROM kept", "owner", "second") == [(0,)]
    with psycopg.connect(cluster.url("owner", "second")):
        cluster.drop_database("second")
    assert query(cluster, "SELECT 1 FROM pg_database WHERE datname = 'second'") == []


def test_data_survive_a_crash_and_a_stale_pid_file(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "pg").start()
    query(server, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)", "owner")
    server.kill()
    pid_file = tmp_path / "pg" / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text(
        "\n".join([str(os.getpid()), *lines[1:]]) + "\n"
    )  # the number now means another, living process
    with server:
        assert query(server, "SELECT n FROM kept") == [(7,)]


def test_an_interrupted_initialisation_begins_again(tmp_path: Path) -> None:
    half = tmp_path / "pg" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    (tmp_path / "pg" / "data").mkdir()
    with Postgres(tmp_path / "pg", durable=False) as server:
        assert query(server, "SELECT 1") == [(1,)]
    assert not half.exists()


def test_a_broken_data_folder_is_named_with_its_cure(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg", durable=False) as server:
        pass
    (tmp_path / "pg" / "data" / "global" / "pg_control").unlink()
    with pytest.raises(DevstackError, match=r"pg_control is missing\); delete it \(rm -r .*/pg/data\)") as caught:
        server.start()
    assert "\n" not in str(caught.value)
    (tmp_path / "pg" / "data" / "PG_VERSION").write_text("17\n")
    (tmp_path / "pg" / "data" / "global" / "pg_control").touch()
    with pytest.raises(DevstackError, match="written by PostgreSQL 17, this is 18"):
        server.start()


def test_a_lost_password_file_is_mended(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg", durable=False) as server:
        query(server, "CREATE TABLE kept (n int)", "owner")
    (tmp_path / "pg" / "passwords.json").unlink()
    with Postgres(tmp_path / "pg", durable=False) as server:
        assert query(server, "SELECT count(*) FROM kept", "owner") == [(0,)]


def test_a_taken_port_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(DevstackError, match=f"port {port} for PostgreSQL is taken; .* POSTGRES_PORT"):
            Postgres(tmp_path / "pg", port, durable=False).start()


def test_a_second_user_of_the_folder_is_refused(cluster: Postgres) -> None:
    with pytest.raises(DevstackError, match=f"already in use by process {os.getpid()}"):
        Postgres(cluster.folder).start()


def test_the_server_ends_when_its_launcher_is_killed(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys, time, pathlib
        from devstack.postgres import Postgres
        server = Postgres(pathlib.Path(sys.argv[1]), durable=False).start()
        print(server.pid, flush=True)
        time.sleep(60)
    """)
    launcher = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "pg")], cwd=ROOT, stdout=subprocess.PIPE)
    with launcher:
        assert launcher.stdout is not None
        pid = int(launcher.stdout.readline())
        os.kill(pid, 0)
        launcher.send_signal(signal.SIGKILL)
    deadline_mono = time.monotonic() + 10
    while Path(f"/proc/{pid}/cwd").exists() and time.monotonic() < deadline_mono:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}/cwd").exists()
    with Postgres(tmp_path / "pg", durable=False) as server:
        assert query(server, "SELECT 1") == [(1,)]


@as_root
@pytest.mark.parametrize("drop", ["namespace", "account"])
def test_root_starts_it_in_a_folder_only_root_can_enter(tmp_path: Path, drop: str) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = Postgres(closed / "pg", durable=False, drop=drop)  # type: ignore[arg-type]
    try:
        with server:
            query(server, "CREATE TABLE kept (n int)", "owner")
            assert closed.stat().st_mode & 0o777 == 0o700
        with server:
            assert query(server, "SELECT count(*) FROM kept", "owner") == [(0,)]
    finally:
        for left in Path("/var/tmp").glob("vantageedge-data-*"):
            if drop == "account":
                shutil.rmtree(left)


@as_root
def test_the_data_follow_when_the_way_changes(tmp_path: Path) -> None:
    for count, drop in enumerate(("namespace", "account", "namespace")):
        with Postgres(tmp_path / "pg", durable=False, drop=drop) as server:  # type: ignore[arg-type]
            query(server, f"CREATE TABLE t{count} (n int)", "owner")
            assert query(server, "SELECT count(*) FROM pg_tables WHERE tablename ~ '^t[0-9]$'") == [(count + 1,)]
    for left in Path("/var/tmp").glob("vantageedge-data-*"):
        shutil.rmtree(left)
