"""origins.tls: an origin's own certificate authorities, server name and client certificate.

A nullable column without a default: PostgreSQL writes no row and holds its lock for a moment only.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE origins ADD COLUMN tls jsonb")


def downgrade() -> None:
    op.execute("ALTER TABLE origins DROP COLUMN tls")
