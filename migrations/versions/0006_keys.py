"""api_keys: networks, limits of their own, and rotation: who replaced whom, what waits to be revealed.

Columns come without a rewrite of the table. The foreign key is not validated, because every row there is has NULL. The
indexes are built without a lock that writers would wait for, each in a transaction of its own: interrupted there (a
dump that runs meanwhile is enough), the columns stay, and all of it may be repeated.

Down: a key that is for some networks alone is switched off rather than opened to all, and so is a successor that waits.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = """
ALTER TABLE api_keys
    ADD COLUMN IF NOT EXISTS addresses text[] DEFAULT '{}' NOT NULL,
    ADD COLUMN IF NOT EXISTS rate_limit jsonb,
    ADD COLUMN IF NOT EXISTS deprecated_at timestamptz,
    ADD COLUMN IF NOT EXISTS rotated_from_id uuid,
    ADD COLUMN IF NOT EXISTS rotate_every_days integer,
    ADD COLUMN IF NOT EXISTS rotation_overdue_at timestamptz,
    ADD COLUMN IF NOT EXISTS sealed_key text,
    ADD COLUMN IF NOT EXISTS reveal_until timestamptz,
    ADD COLUMN IF NOT EXISTS revealed_at timestamptz,
    DROP CONSTRAINT IF EXISTS api_keys_tenant_id_rotated_from_id_fkey,
    ADD CONSTRAINT api_keys_tenant_id_rotated_from_id_fkey FOREIGN KEY (tenant_id, rotated_from_id)
        REFERENCES api_keys (tenant_id, id) ON DELETE SET NULL (rotated_from_id) NOT VALID
"""
_INDEXES = {
    "api_keys_tenant_id_rotated_from_id_idx": "(tenant_id, rotated_from_id) WHERE rotated_from_id IS NOT NULL",
    "api_keys_tenant_id_name_idx": "(tenant_id, name text_pattern_ops)",
    "api_keys_tenant_id_key_prefix_idx": "(tenant_id, key_prefix text_pattern_ops)",
    "api_keys_rotating_idx": "(tenant_id, id)"
    " WHERE revoked_at IS NULL AND (rotate_every_days IS NOT NULL OR deprecated_at IS NOT NULL)",
    "api_keys_expiring_idx": "(expires_at) WHERE enabled AND revoked_at IS NULL AND expires_at IS NOT NULL",
}


def upgrade() -> None:
    op.execute(_COLUMNS)
    with op.get_context().autocommit_block():
        for name, what in _INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # half of one, when this was interrupted
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON api_keys {what}")


def downgrade() -> None:
    op.execute("SELECT set_config('app.system', 'on', true)")  # the policies are forced on the owner too
    op.execute("UPDATE api_keys SET enabled = false WHERE addresses <> '{}' OR sealed_key IS NOT NULL")
    op.execute("DROP INDEX api_keys_tenant_id_name_idx, api_keys_tenant_id_key_prefix_idx, api_keys_expiring_idx")
    op.execute(
        "ALTER TABLE api_keys DROP COLUMN addresses, DROP COLUMN rate_limit, DROP COLUMN deprecated_at,"
        " DROP COLUMN rotated_from_id, DROP COLUMN rotate_every_days, DROP COLUMN rotation_overdue_at,"
        " DROP COLUMN sealed_key, DROP COLUMN reveal_until, DROP COLUMN revealed_at"
    )
