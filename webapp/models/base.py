"""What every table has, and the base class all models share.

Out:   Base, and mixins for keys, tenancy and times.
Laws:  1. Ids are random UUIDs made by the database; times are timestamptz in UTC. 2. `row_version` counts changes of a
       row and is its ETag. 3. The migrations are written by hand; a test compares them with these models.
Not here: row-level security and grants (migrations/), who may see what (webapp.extensions).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Integer, MetaData, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        }
    )
    # What the database makes (ids, times) is read back with the statement that made it.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy reads it so
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it so
        str: Text(),
        int: Integer(),
        datetime: DateTime(timezone=True),
        UUID: Uuid(),
        dict[str, Any]: JSONB(none_as_null=True),
        list[str]: ARRAY(Text()),
    }


class Identified:
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))


class Stamped:
    # clock_timestamp, not now(): a transaction may have waited for the tenant's lock, and order of creation is meant.
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), onupdate=func.clock_timestamp())


class Versioned:
    row_version: Mapped[int] = mapped_column(BigInteger(), server_default=text("1"), default=1)
