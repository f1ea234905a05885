"""/propagation: which edges are alive, and whether they have the newest change in force."""

from __future__ import annotations

from werkzeug.wrappers import Response

from webapp.api.blueprint import endpoint, noun, show
from webapp.auth.bearer import current_actor
from webapp.schemas.base import View
from webapp.services import propagation

blueprint = noun("propagation", "How far changes have come.")


class EdgeView(View):
    worker: str
    started_at: float
    age_s: float
    is_current: bool


class PropagationView(View):
    live: int
    total: int
    edges: tuple[EdgeView, ...]


@blueprint.get("/propagation", summary="See the live edges", responses={200: PropagationView})
@endpoint
def index() -> Response:
    current_actor()
    edges = tuple(EdgeView.model_validate(edge) for edge in propagation.current())
    return show(PropagationView(live=sum(edge.is_current for edge in edges), total=len(edges), edges=edges))
