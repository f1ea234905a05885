"""Table `services`: machines that call, with their secrets sealed."""

from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE services (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    key_id text NOT NULL,
    scopes text[] DEFAULT '{}' NOT NULL,
    addresses text[] DEFAULT '{}' NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    secret text,
    previous_secret text,
    previous_until timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz,
    created_by text,
    row_version bigint DEFAULT 1 NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT services_pkey PRIMARY KEY (id),
    CONSTRAINT services_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT services_tenant_id_key_id_key UNIQUE (tenant_id, key_id),
    CONSTRAINT services_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
    CONSTRAINT services_kind_check CHECK (kind IN ('hmac', 'clerk_machine')),
    CONSTRAINT services_secret_check CHECK ((kind = 'hmac' AND revoked_at IS NULL) = (secret IS NOT NULL)),
    CONSTRAINT services_previous_check CHECK ((previous_secret IS NULL) = (previous_until IS NULL))
);
CREATE INDEX services_tenant_id_created_at_id_idx ON services (tenant_id, created_at, id);
ALTER TABLE services ENABLE ROW LEVEL SECURITY;
ALTER TABLE services FORCE ROW LEVEL SECURITY;
"""
_OF_TENANT = (
    "tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid OR current_setting('app.system', true) = 'on'"
)


def upgrade() -> None:
    op.execute(_TABLE)
    op.execute(f"CREATE POLICY services_of_tenant ON services USING ({_OF_TENANT}) WITH CHECK ({_OF_TENANT})")
    role = '"' + context.get_context().opts["app_role"].replace('"', '""') + '"'
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON services TO {role}")


def downgrade() -> None:
    op.execute("DROP TABLE services")
