"""Run migrations as the owner of the schema (MIGRATION_DATABASE_URL), one transaction for each revision.

In:    the Flask application in context (Flask-Migrate), its MIGRATION_DATABASE_URL and DATABASE_URL.
Laws:  1. A migration waits for a lock at most 5 s, so that it fails rather than holds up the programs.
       2. `app_role` in the context's options is the role of DATABASE_URL: the one that gets grants.
"""

from __future__ import annotations

from alembic import context
from flask import current_app
from sqlalchemy import create_engine, make_url, pool, text

from webapp.models import Base


def run() -> None:
    owner_url = current_app.config["MIGRATION_DATABASE_URL"]
    app_role = make_url(current_app.config["SQLALCHEMY_DATABASE_URI"]).username or "vantageedge_app"
    engine = create_engine(owner_url, poolclass=pool.NullPool, connect_args={"connect_timeout": 5})
    with engine.connect() as connection:
        connection.execute(text("SET lock_timeout = '5s'"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            transaction_per_migration=True,
            compare_type=True,
            app_role=app_role,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
