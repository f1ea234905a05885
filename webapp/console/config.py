"""The page of config versions: what changed, who changed it, when.

In:    the cursor of the path's query.
Out:   the page.
Not here: differences and rolling back.
"""

from __future__ import annotations

from flask import Response, request

from webapp.console.access import reads, visit
from webapp.console.overview import live_state
from webapp.console.rendering import page
from webapp.services import audit, people


@reads("/config", "config_index")
def index() -> Response:
    before = request.args.get("cursor", type=int)
    found = audit.versions(visit().actor, audit.HistoryQuery(before=before if before and 0 < before < 2**63 else None))
    names = people.names(visit().actor)
    items = [
        {**item.model_dump(), "who": names.get(item.author or "", item.author or "the system")} for item in found.items
    ]
    return page(
        "console/config/index.html", items=items, next_cursor=found.next_before, live=live_state(visit().tenant)
    )
