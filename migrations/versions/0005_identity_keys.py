"""Table identity_keys: the keys of a tenant's identity tokens, sealed, and where each is in its life.

A new table: nothing that is there is read or locked. Down takes the keys away for good; routes that ask for a token are
answered 503 by an edge that knows them, and origins find no key set.
"""

from alembic import context, op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OF_TENANT = (
    "tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid OR current_setting('app.system', true) = 'on'"
)

_IDENTITY_KEYS = """
CREATE TABLE identity_keys (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    state text NOT NULL,
    state_since timestamptz DEFAULT clock_timestamp() NOT NULL,
    public_jwk text NOT NULL,
    private_key_sealed text,
    row_version bigint DEFAULT 1 NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT identity_keys_pkey PRIMARY KEY (id),
    CONSTRAINT identity_keys_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT identity_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
    CONSTRAINT identity_keys_state_check CHECK (state IN ('next', 'signing', 'retired')),
    CONSTRAINT identity_keys_private_key_check CHECK ((state = 'retired') = (private_key_sealed IS NULL))
);
CREATE UNIQUE INDEX identity_keys_tenant_id_state_idx ON identity_keys (tenant_id, state) WHERE state <> 'retired';
CREATE INDEX identity_keys_state_state_since_idx ON identity_keys (state, state_since);
ALTER TABLE identity_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity_keys FORCE ROW LEVEL SECURITY;
"""


def upgrade() -> None:
    op.execute(_IDENTITY_KEYS)
    op.execute(f"CREATE POLICY identity_keys_of_tenant ON identity_keys USING ({_OF_TENANT}) WITH CHECK ({_OF_TENANT})")
    role = '"' + context.get_context().opts["app_role"].replace('"', '""') + '"'
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON identity_keys TO {role}")


def downgrade() -> None:
    op.execute("DROP TABLE identity_keys")
