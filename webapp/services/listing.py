"""One page of a noun's rows, in order of creation, by one query.

Laws:  1. The order is (created_at, id), which an index of each listed table serves. 2. One row more than asked for is
       read, to know whether there is a next page; nothing is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from webapp.schemas.paging import Page, PageQuery, write_cursor

R = TypeVar("R")
V = TypeVar("V")


def page(
    session: Session, rows: Select[R], model: Any, query: PageQuery, view: Callable[[Sequence[R]], Sequence[V]]
) -> Page[V]:
    """`model` gives the ordering columns; `view` turns all rows of the page at once."""
    place = tuple_(model.created_at, model.id)
    if query.position is not None:
        rows = rows.where(place > query.position)
    found = session.scalars(rows.order_by(model.created_at, model.id).limit(query.limit + 1)).all()
    shown = found[: query.limit]
    last: Any = shown[-1] if len(found) > query.limit else None
    return Page(
        items=tuple(view(shown)),
        next_cursor=None if last is None else write_cursor((last.created_at, last.id)),
    )
