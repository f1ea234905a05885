"""devstack.environment: what a demo runs with, and what it refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contracts import apikey, clerk, sealing
from devstack import environment
from devstack.child import DevstackError
from devstack.clerk import machines


def test_the_environment_wins_over_dotenv_and_both_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# mine\nEDGE_WORKERS=3\nexport EDGE_BASE_DOMAIN='edge.test'\nPORT=9001\n")
    demo = environment.load({"PORT": "9002", "REDIS_URL": " "}, tmp_path)
    assert demo.ports["PORT"] == 9002
    assert (demo.environ["EDGE_WORKERS"], demo.environ["EDGE_BASE_DOMAIN"]) == ("3", "edge.test")
    assert demo.console_url == "http://localhost:9002"
    assert demo.own_postgres


def test_secrets_are_made_once_kept_private_and_marked(tmp_path: Path) -> None:
    first, second = (environment.load({}, tmp_path).environ for _ in range(2))
    assert first["SECRET_KEY"] == second["SECRET_KEY"]
    assert first["KEY_PEPPERS"] == second["KEY_PEPPERS"]
    assert (tmp_path / ".devstack" / "secrets.json").stat().st_mode & 0o077 == 0
    assert environment.MARK in first["SECRET_KEY"] and environment.MARK in first["CLERK_SECRET_KEY"]
    assert environment.MARK.encode() in apikey.parse_peppers(first["KEY_PEPPERS"])[1]
    assert first["SECRET_KEY"] not in repr(environment.load({}, tmp_path))


def test_a_folder_of_an_earlier_release_gets_the_secrets_that_came_later_and_keeps_its_own(tmp_path: Path) -> None:
    first = environment.load({}, tmp_path).environ
    path = tmp_path / ".devstack" / "secrets.json"
    older = {name: first[name] for name in ("SECRET_KEY", "KEY_PEPPERS")}
    path.write_text(json.dumps(older))
    second = environment.load({}, tmp_path).environ
    assert {name: second[name] for name in older} == older
    key = sealing.parse_keys(second["SEALING_KEYS"])[1]
    assert environment.MARK.encode() in key and second["SEALING_KEYS"] != first["SEALING_KEYS"]
    assert environment.load({}, tmp_path).environ["SEALING_KEYS"] == second["SEALING_KEYS"]
    path.write_text(json.dumps({"SECRET_KEY": "x" * 40}))
    with pytest.raises(DevstackError, match="cannot be read"):
        environment.load({}, tmp_path)


def test_damaged_secrets_are_named_and_not_silently_replaced(tmp_path: Path) -> None:
    environment.load({}, tmp_path)
    (tmp_path / ".devstack" / "secrets.json").write_text('{"SECRET_KEY": ')
    with pytest.raises(DevstackError, match=r"secrets\.json cannot be read as the demo's secrets; delete \.devstack"):
        environment.load({}, tmp_path)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"PORT": "80800"}, "PORT must be a port from 1 to 65535, not '80800'"),
        ({"EDGE_PORT": "x"}, "EDGE_PORT must be a port from 1 to 65535, not 'x'"),
        ({"EDGE_PORT": "8080"}, "EDGE_PORT and PORT are both 8080"),
        ({"VANTAGEEDGE_ENV": "production"}, "make demo is for development; unset VANTAGEEDGE_ENV"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, given: dict[str, str], line: str) -> None:
    with pytest.raises(DevstackError, match=line):
        environment.load(given, tmp_path)


def test_a_wrong_line_of_dotenv_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=8080\nnonsense\n")
    with pytest.raises(DevstackError, match=r"\.env line 2 is not NAME=value"):
        environment.load({}, tmp_path)


def test_the_publishable_key_names_the_stand_in(tmp_path: Path) -> None:
    demo = environment.load({"DEVSTACK_CLERK_PORT": "9123"}, tmp_path)
    assert clerk.frontend_api_host(demo.environ["CLERK_PUBLISHABLE_KEY"]) == "127.0.0.1:9123"
    assert demo.clerk_url == demo.environ["CLERK_FRONTEND_API_URL"] == "http://127.0.0.1:9123"


def test_the_edge_of_the_demo_is_the_machine_that_is_spoken_to(tmp_path: Path) -> None:
    environ = environment.load({}, tmp_path).environ
    assert environ["CLERK_MACHINE_ID"] == machines.GATEWAY_ID
    assert environ["CLERK_MACHINE_SECRET_KEY"] == machines.GATEWAY_SECRET


def test_every_variable_the_demo_sets_is_in_the_example(tmp_path: Path) -> None:
    example = environment.read_dotenv(Path(__file__).parents[2] / ".env.example")
    own = {"PATH", "PYTHONUNBUFFERED"}
    assert set(environment.load({}, tmp_path).environ) - own <= set(example)
