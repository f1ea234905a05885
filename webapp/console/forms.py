"""What a person typed, and what is wrong with it: the state of one form.

In:    the fields of a request, or the values of a row.
Out:   Form: values for the controls, a message per control, and readers that turn text into the values services take.
Laws:  1. What was typed comes back as it was typed, wrong or not. 2. Rules are the services' rules (the API's): a form
       only says "this is not a number" by itself. 3. A secret is never given back.
Not here: rules and bounds (webapp.schemas, contracts.bounds), markup (templates/components/field.html).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from werkzeug.datastructures import MultiDict

_LABELS: Final = {
    "url": "URL",
    "more_targets": "further targets",
    "limit_kind": "rate limit",
    "limit": "requests",
    "window_seconds": "time window",
    "ttl_seconds": "cache time",
    "key_headers": "headers",
    "cache_key_pattern": "told apart by",
    "body_mib_max": "largest request body",
    "origin_id": "origin",
    "route_id": "route",
    "auth_mode": "auth",
    "expires_on": "date",
    "tls_ca_certificates": "certificate authorities",
    "tls_server_name": "server name",
    "tls_client_certificate": "client certificate",
    "tls_client_key": "client key",
}
_WORDINGS: Final = (
    ("Input should be less than or equal to ", "must be at most "),
    ("Input should be greater than or equal to ", "must be at least "),
    ("Input should be a valid ", "must be a "),
    ("Input should be ", "must be "),
    ("String should ", "must "),
    ("Tuple should ", "must "),
)
Values = Mapping[str, str | list[str]]


class Form:
    def __init__(self, values: Values | MultiDict[str, str] | None = None) -> None:
        self._values: dict[str, list[str]] = {}
        self.errors: dict[str, str] = {}
        """Control -> message; the first message of a control stands."""
        self.message: str | None = None
        if isinstance(values, MultiDict):
            self._values = {name: list(values.getlist(name)) for name in values}
        else:
            for name, value in (values or {}).items():
                self._values[name] = [value] if isinstance(value, str) else list(value)

    def __repr__(self) -> str:
        return f"<Form {sorted(self._values)} errors={sorted(self.errors)}>"

    def raw(self) -> dict[str, str | list[str]]:
        return dict(self._values)

    def value(self, name: str) -> str:
        return (self._values.get(name) or [""])[-1]

    def values_of(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def text(self, name: str) -> str | None:
        """Give the text without the spaces around it; None when there is none."""
        return self.value(name).strip() or None

    def checked(self, name: str) -> bool:
        return self.value(name) == "on"

    def words(self, name: str) -> list[str]:
        """Give what was typed with commas, spaces or lines between."""
        return self.value(name).replace(",", " ").split()

    def whole(self, name: str, default: int | None = None) -> int | None:
        """Give a whole number, or say on the control that it is not one."""
        number = self.number(name, default)
        if number is not None and number != int(number):
            self.refuse(name, "must be a whole number")
            return None
        return None if number is None else int(number)

    def number(self, name: str, default: float | None = None) -> float | None:
        text = self.text(name)
        if text is None:
            return default
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not math.isfinite(number):
            self.refuse(name, "must be a number")
            return None
        return number

    def refuse(self, name: str, message: str) -> None:
        is_empty = not self.value(name).strip() and message.startswith("String should have at least")
        self.errors.setdefault(name, "must be filled in" if is_empty else _plain(message))

    def refuse_all(self, problems: Iterable[tuple[str, str]], controls: Mapping[str, str]) -> None:
        """Put a service's messages on the controls.

        `controls` maps the service's field (`rate_limit.burst`, or a parent of it) to a control's name. What fits
        no control becomes the form's own message, so that nothing said is lost.
        """
        for location, message in problems:
            control = _control_of(location, controls)
            if control is None:
                self.message = f"{location}: {message}" if location else message
            else:
                self.refuse(control, message)


def _control_of(location: str, controls: Mapping[str, str]) -> str | None:
    """Find the control of a field, of its parent, or of the list it is in: `targets.0` before `targets`."""
    parts = location.removeprefix("body.").split(".")
    for length in range(len(parts), 0, -1):
        for spelled in (parts[:length], [part for part in parts[:length] if not part.isdigit()]):
            control = controls.get(".".join(spelled))
            if control is not None:
                return control
    return None


def _plain(message: str) -> str:
    """Give pydantic's own messages in the words of ours."""
    for theirs, ours in _WORDINGS:
        if message.startswith(theirs):
            return ours + message.removeprefix(theirs)
    return message


def label(control: str) -> str:
    """Give what a person calls a control."""
    words = _LABELS.get(control) or control.replace("_", " ")
    return words[:1].upper() + words[1:]


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def without_nones(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if value is not None}
