"""The stand-in as an app: asked through a test client, so no port is needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from devstack.clerk.app import create_app
from devstack.clerk.keys import SigningKeys

HOST = "127.0.0.1:8081"


class Browser(FlaskClient):
    """A client with its own cookies that asks for the instance by its address."""

    def open(self, *args: Any, **options: Any) -> Any:
        options.setdefault("base_url", f"http://{HOST}")
        return super().open(*args, **options)


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key: to make one takes longer than most of these tests."""
    folder = tmp_path_factory.mktemp("key")
    SigningKeys(folder)
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, signing_key: Path) -> FlaskClient:
    """A client of one instance for a whole module: for tests that change nothing."""
    folder = tmp_path_factory.mktemp("shared") / "clerk"
    shutil.copytree(signing_key, folder)
    made = create_app(folder, HOST, "http://localhost:8080")
    made.test_client_class = Browser
    return made.test_client()


@pytest.fixture
def app(tmp_path: Path, signing_key: Path) -> Flask:
    shutil.copytree(signing_key, tmp_path / "clerk")
    made = create_app(tmp_path / "clerk", HOST, "http://localhost:8080")
    made.test_client_class = Browser
    return made


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()
