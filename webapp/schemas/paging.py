"""Pages of a list: an opaque cursor forward, a bounded number of items.

In:    rows in order of (created_at, id); the cursor of the page before.
Out:   Page with its items and the next cursor.
Laws:  1. A cursor is a place, not an offset: pages neither skip nor repeat while rows come and go.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from pydantic import Field, field_validator

from contracts import bounds
from webapp.schemas.base import Input, View

T = TypeVar("T")
Position = tuple[datetime, UUID]


class PageQuery(Input):
    limit: Annotated[int, Field(ge=1, le=bounds.PAGE_ITEMS_MAX)] = bounds.PAGE_ITEMS_DEFAULT
    cursor: Annotated[str, Field(max_length=200)] | None = None

    @field_validator("cursor")
    @classmethod
    def _readable(cls, cursor: str | None) -> str | None:
        if cursor is not None:
            read_cursor(cursor)
        return cursor

    @property
    def position(self) -> Position | None:
        return None if self.cursor is None else read_cursor(self.cursor)


class Page(View, Generic[T]):
    items: tuple[T, ...]
    next_cursor: str | None = None
    """None on the last page."""


def write_cursor(position: Position) -> str:
    created_at, row_id = position
    return base64.urlsafe_b64encode(f"{created_at.isoformat()}/{row_id}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> Position:
    """Raises ValueError."""
    try:
        created_at, _, row_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").partition("/")
        position = datetime.fromisoformat(created_at), UUID(row_id)
    except (ValueError, binascii.Error):
        raise ValueError("is not a cursor of this list") from None
    if position[0].tzinfo is None:
        raise ValueError("is not a cursor of this list")
    return position
