"""The stand-in as an app: asked through a test client, so no port is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from devstack.clerk.app import create_app

HOST = "127.0.0.1:8081"


class Browser(FlaskClient):
    """A client with its own cookies that asks for the instance by its address."""

    def open(self, *args: Any, **options: Any) -> Any:
        options.setdefault("base_url", f"http://{HOST}")
        return super().open(*args, **options)


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    made = create_app(tmp_path / "clerk", HOST, "http://localhost:8080")
    made.test_client_class = Browser
    return made


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()
