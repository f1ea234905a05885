"""What all nouns of the API share: authentication first, strict bodies, ETags, versions, `Prefer: wait`.

In:    a request for one of our endpoints.
Out:   parsed values for a view; answers with the fields every answer has.
Laws:  1. Who asks is settled before what is asked is read. 2. A body is one JSON object, read strictly: no number in
       quotes, no unknown or repeated member. 3. ETag is the row's version; If-Match is honoured where it is sent.
Not here: problems (webapp.api.problems), rules (webapp.schemas, services).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, get_type_hints
from uuid import UUID

from flask import current_app, make_response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ValidationError
from werkzeug.wrappers import Response

from contracts.bounds import PREFER_WAIT_S_MAX
from contracts.problems import MEDIA_TYPE
from webapp.api.problems import HttpProblem
from webapp.auth import bearer
from webapp.schemas.base import View
from webapp.services import propagation
from webapp.services.errors import FieldError, Invalid, StoreUnavailable, invalid_from
from webapp.services.publishing import Receipt

PREFIX: Final = "/api/v1"
_WAIT: Final = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?([0-9]{1,6})\"?\s*(?=[;,]|$)", re.IGNORECASE)
_ETAG: Final = re.compile(r'\s*"r([0-9]{1,18})"\s*')
_F = TypeVar("_F", bound=Callable[..., Any])
_M = TypeVar("_M", bound=BaseModel)


class IdPath(BaseModel):
    id: UUID


class ProblemModel(BaseModel):
    """application/problem+json (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    at_fault: str
    request_id: str
    errors: tuple[FieldError, ...] = ()
    """422 and some 409: which fields, and why."""


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemModel"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


_PROBLEMS: Final[dict[str | int, Any]] = {
    "400": _problem("The body is not valid JSON"),
    "401": _problem("No bearer token, or one that is not believed"),
    "403": _problem("The role does not allow it, or the organisation has no tenant"),
    "404": _problem("No such thing, or another tenant's"),
    "409": _problem("Conflicts with what is there"),
    "412": _problem("If-Match names another version"),
    "413": _problem("The body is too large"),
    "415": _problem("The body is not application/json"),
    "422": _problem("Some fields are not valid"),
    "503": _problem("A store is away"),
}


def noun(name: str, description: str) -> APIBlueprint:
    """Make the blueprint of one noun: authenticated, under PREFIX, one tag in the documentation."""
    blueprint = APIBlueprint(
        f"api_{name.replace('-', '_')}",
        __name__,
        url_prefix=PREFIX,
        abp_tags=[Tag(name=name, description=description)],
        abp_security=[{"clerk": []}],
        abp_responses=dict(_PROBLEMS),
    )
    blueprint.before_request(bearer.authenticate)
    return blueprint


def endpoint(view: _F) -> _F:
    """Give a view its `path`, `query` and `body`, by the models it is annotated with. Raises Invalid, HttpProblem."""
    hints = get_type_hints(view)

    @functools.wraps(view)
    def parsed(**path: Any) -> Any:
        values: dict[str, Any] = {}
        if "path" in hints:
            values["path"] = hints["path"].model_construct(**path)
        if "query" in hints:
            values["query"] = _read_query(hints["query"])
        elif request.args:
            raise Invalid.field(next(iter(request.args)), "is not a parameter of this call")
        if "body" in hints:
            values["body"] = _read_body(hints["body"])
        return view(**values)

    parsed.__delay_validate_request__ = True  # type: ignore[attr-defined]
    return parsed  # type: ignore[return-value]


def _read_query(model: type[_M]) -> _M:
    for name in request.args:
        if len(request.args.getlist(name)) > 1:
            raise Invalid.field(name, "is given twice")
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        raise invalid_from(error) from None


def _read_body(model: type[_M]) -> _M:
    if _nothing_said(model):
        return model()
    if request.mimetype != "application/json":
        raise HttpProblem("media-type-unsupported", "Send the body as application/json.")
    raw = request.get_data(cache=False)
    try:
        parsed = json.loads(raw, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except _DuplicateMember as error:
        raise Invalid.field(str(error), "is given twice") from None
    except (ValueError, RecursionError) as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise HttpProblem("json-malformed", f"The body is not valid JSON{where}.") from None
    if not isinstance(parsed, dict):
        raise Invalid.field("body", "must be a JSON object")
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":  # lone surrogates, UTF-16: stricter than json is
            raise HttpProblem("json-malformed", "The body is not valid JSON in UTF-8.") from None
        raise invalid_from(error) from None


def _nothing_said(model: type[BaseModel]) -> bool:
    """Say whether an action that needs nothing said (`rotate`) was asked for without a body."""
    if (
        request.method != "POST"
        or request.mimetype
        or any(field.is_required() for field in model.model_fields.values())
    ):
        return False
    return not request.get_data()


class _DuplicateMember(Exception):
    """`str` of it is the member's name."""


def _no_duplicates(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            raise _DuplicateMember(name[:100])
        members[name] = value
    return members


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def if_match() -> int | None:
    """Give the row version that If-Match names: None for no field or `*`, -1 (no row has it) for what is not ours."""
    field = request.headers.get("If-Match")
    if field is None or field.strip() == "*":
        return None
    match = _ETAG.fullmatch(field)
    return int(match[1]) if match else -1


def show(view: View, status: int = 200) -> Response:
    """Answer a thing or a page of things."""
    response = make_response(current_app.json.dumps(view.model_dump(mode="json")), status)
    response.headers["Content-Type"] = "application/json"
    response.headers["Cache-Control"] = "no-store"
    version = getattr(view, "row_version", None)
    if version is not None:
        response.headers["ETag"] = f'"r{version}"'
    return response


def wrote(view: View | None, receipt: Receipt, status: int = 200) -> Response:
    """Answer a write: the thing as it is now, its version, and how far it is, waited for if that was asked."""
    response: Response
    if view is None:
        response = make_response("", 204)
        response.headers.pop("Content-Type", None)
    else:
        response = show(view, status)
    response.headers["X-Vantage-Config-Version"] = str(receipt.version)
    response.headers["X-Vantage-Change"] = receipt.stream_id or "pending"
    wait_s = _preferred_wait_s()
    if wait_s is not None:
        try:
            live = propagation.await_live(receipt, wait_s)
        except StoreUnavailable:
            response.headers["X-Vantage-Live"] = "unknown"
        else:
            response.headers["X-Vantage-Live"] = f"{live.live}/{live.total}"
        response.headers["Preference-Applied"] = f"wait={wait_s}"
    return response


def created(view: View, receipt: Receipt, path: str) -> Response:
    """Answer 201 with the Location of what was made."""
    response = wrote(view, receipt, 201)
    response.headers["Location"] = f"{PREFIX}/{path}/{getattr(view, 'id', '')}"
    return response


def _preferred_wait_s() -> int | None:
    """Read `Prefer: wait=N` (RFC 7240 section 4.3), at most PREFER_WAIT_S_MAX."""
    match = _WAIT.search(",".join(request.headers.getlist("Prefer")))
    return min(int(match[1]), PREFER_WAIT_S_MAX) if match else None
