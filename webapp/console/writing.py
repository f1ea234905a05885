"""One way to send a form to a service, and to say how far the change has come.

In:    a form, and the call that the services take it by.
Out:   what was written, or the form with its messages; a line like "Live on 2 of 2 edges".
Laws:  1. A refusal of the fields is shown on the fields; any other refusal goes on to the error page. 2. Waiting for
       the edges never takes longer than LIVE_WAIT_S.
Not here: rules (webapp.schemas, services).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from pydantic import ValidationError

from webapp.console.forms import Form
from webapp.services import propagation
from webapp.services.errors import Conflict, Invalid, PreconditionFailed, StoreUnavailable, invalid_from
from webapp.services.publishing import Receipt

LIVE_WAIT_S: Final = 1.0
Wanted = TypeVar("Wanted")
Done = TypeVar("Done")


def submitted(
    form: Form, controls: Mapping[str, str], read: Callable[[], Wanted], write: Callable[[Wanted], Done]
) -> Done | None:
    """Read the form, then write what it says; None when it must be shown again, and nothing was written.

    Raises what is not about the fields (Forbidden, NotFound, a Conflict without fields).
    """
    try:
        wanted = read()
        return None if form.errors else write(wanted)
    except ValidationError as error:
        _refuse(form, invalid_from(error), controls)
    except Invalid as error:
        _refuse(form, error, controls)
    except Conflict as error:
        if not error.errors:
            raise
        _refuse(form, error, controls)
    except PreconditionFailed:
        form.message = (
            "Somebody changed this while you were editing. Open it in a new tab to compare, then reload here."
        )
    return None


def _refuse(form: Form, error: Invalid | Conflict, controls: Mapping[str, str]) -> None:
    form.refuse_all(((item.location, item.message) for item in error.errors), controls)


def live_note(receipt: Receipt) -> str:
    """Say how far the change has come. Blocks at most LIVE_WAIT_S."""
    if not receipt.is_published:
        return "Saved; the edges get it as soon as Redis is back."
    try:
        state = propagation.await_live(receipt, LIVE_WAIT_S)
    except StoreUnavailable:
        return "Saved; the edges cannot be seen from here right now."
    if state.total == 0:
        return f"Config v{receipt.version}; no edge is running."
    words = f"Config v{receipt.version} live on {state.live} of {state.total} edges"
    return f"{words} in {state.elapsed_ms:.0f} ms." if state.is_complete else f"{words}; the others follow."
