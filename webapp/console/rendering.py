"""How a page is answered: whole for a browser, one block of it for htmx, and words for times.

In:    a template, its context, and whether htmx asks.
Out:   responses; Jinja filters and globals.
Laws:  1. A fragment is a block of the page's own template, chosen by the view: there is no second markup of anything.
       2. No page of the console is ever stored by a browser or a proxy.
Not here: what the pages hold (one module per noun).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from flask import Response, current_app, flash, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

_STEPS: Final = (
    (60, 1, "second"),
    (3_600, 60, "minute"),
    (86_400, 3_600, "hour"),
    (86_400 * 30, 86_400, "day"),
    (86_400 * 365, 86_400 * 30, "month"),
)
_YEAR_S: Final = 86_400 * 365


def wants_fragment() -> bool:
    """Say whether htmx asked for this answer."""
    return request.headers.get("HX-Request") == "true"


def page(template: str, /, block: str | None = None, status: int = 200, **context: Any) -> Response:
    """Render a page, or only its `block` when htmx asks."""
    if block is not None and wants_fragment():
        html = _render_block(template, block, context)
    else:
        html = render_template(template, **context)
    response = make_response(html, status)
    response.headers["Vary"] = "HX-Request"
    return response


def _render_block(template: str, block: str, context: dict[str, Any]) -> str:
    app = current_app
    app.update_template_context(context)
    loaded = app.jinja_env.get_template(template)
    scope = loaded.new_context(context)
    # Up to the first text of its outermost layout a template only imports and sets names: what the block rests on.
    next(iter(loaded.root_render_func(scope)), None)
    return "".join(scope.blocks[block][0](scope))


def go(location: str, message: str | None = None, note: str | None = None, tone: str = "good") -> AnyResponse:
    """Answer a write: to the next page (303, or HX-Redirect for htmx), with a toast on it."""
    if message:
        flash(f"{message}\n{note}" if note else message, tone)
    if wants_fragment():
        response = make_response("", 204)
        response.headers["HX-Redirect"] = location
        return response
    return redirect(location, 303)


def relative(at: datetime, now: datetime | None = None) -> str:
    """Say how long ago, as static/js/times.js does."""
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    size = abs(seconds)
    if size < 10:
        return "just now"
    for limit, unit, word in _STEPS:
        if size < limit:
            words = counted(int(size // unit), word)
            break
    else:
        words = counted(int(size // _YEAR_S), "year")
    return f"in {words}" if seconds < 0 else f"{words} ago"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Say a length of time in its largest whole unit: 300 is `5 minutes`, 90 is `90 seconds`."""
    for unit, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= unit and seconds % unit == 0:
            return counted(int(seconds // unit), word)
    return f"{seconds:g} {'second' if seconds == 1 else 'seconds'}"


def size(count: int) -> str:
    """Say a number of bytes: 10485760 is `10 MiB`."""
    for unit, word in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:g} {word}" if count % unit == 0 else f"{count / unit:.1f} {word}"
    return counted(count, "byte")


def exact(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


FILTERS: Final[Mapping[str, Any]] = {
    "relative": relative,
    "exact": exact,
    "iso": iso,
    "duration": duration,
    "filesize": size,
}
