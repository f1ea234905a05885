"""webapp.console.forms: what was typed comes back as typed, and each message finds its control."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import MultiDict

from webapp.console.forms import Form, label, sentence


def test_what_was_typed_comes_back_as_typed() -> None:
    form = Form(MultiDict([("name", " spaced "), ("methods", "GET"), ("methods", "PUT")]))
    assert form.value("name") == " spaced "
    assert form.text("name") == "spaced"
    assert form.values_of("methods") == ["GET", "PUT"]
    assert form.value("absent") == ""


@pytest.mark.parametrize("text", ["soon", "1e999", "nan", "inf"])
def test_what_is_not_a_number_is_said_on_its_control(text: str) -> None:
    form = Form({"timeout": text})
    assert form.number("timeout", 30.0) is None
    assert form.errors == {"timeout": "must be a number"}


def test_a_fraction_is_not_a_whole_number_and_nothing_typed_is_the_default() -> None:
    form = Form({"burst": "1.5"})
    assert form.whole("burst") is None
    assert form.errors == {"burst": "must be a whole number"}
    assert Form({"burst": " "}).whole("burst", 7) == 7


def test_a_message_finds_the_control_of_its_field_of_its_list_or_of_its_parent() -> None:
    form = Form()
    controls = {"targets.0": "url", "targets": "more", "rate_limit": "kind", "rate_limit.policies.limit": "limit"}
    form.refuse_all(
        [
            ("targets.0.url", "first"),
            ("targets.3.url", "fourth"),
            ("rate_limit.policies.0.limit", "too many"),
            ("body.rate_limit.mode", "unknown"),
        ],
        controls,
    )
    assert form.errors == {"url": "first", "more": "fourth", "limit": "too many", "kind": "unknown"}
    assert form.message is None


def test_a_message_without_a_control_is_the_forms_own() -> None:
    form = Form()
    form.refuse_all([("tenant_id", "is another's")], {})
    assert form.message == "tenant_id: is another's"


def test_the_first_message_of_a_control_stands_and_reads_like_ours() -> None:
    form = Form({"timeout": "999"})
    form.refuse("timeout", "Input should be less than or equal to 300")
    form.refuse("timeout", "another")
    form.refuse("name", "String should have at least 1 character")
    assert form.errors == {"timeout": "must be at most 300", "name": "must be filled in"}
    assert (sentence("must be"), label("url"), label("timeout_seconds")) == ("Must be", "URL", "Timeout seconds")
