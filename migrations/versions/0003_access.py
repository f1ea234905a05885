"""Who may call: routes.access and all six auth modes, tenants.addresses, and the table issuers.

Nullable columns without a default: PostgreSQL writes no row. The wider check of auth_mode reads the routes once, which
takes well under a second for a million of them.

Down: a route that asks for more than the older control plane can say is switched off rather than opened; so are all
routes of a tenant that not every client may speak to.
"""

from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OLD_MODES = "('public', 'jwt_required', 'apikey_required')"
_MODES = "('public', 'jwt_required', 'apikey_required', 'oauth_required', 'service_required', 'any')"
_OF_TENANT = (
    "tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid OR current_setting('app.system', true) = 'on'"
)

_ISSUERS = """
CREATE TABLE issuers (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    issuer text NOT NULL,
    audience text[] DEFAULT '{}' NOT NULL,
    algorithms text[] DEFAULT '{}' NOT NULL,
    jwks_uri text,
    public_keys text,
    required_scopes text[] DEFAULT '{}' NOT NULL,
    introspection_url text,
    client_id text,
    client_secret_sealed text,
    row_version bigint DEFAULT 1 NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT issuers_pkey PRIMARY KEY (id),
    CONSTRAINT issuers_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT issuers_tenant_id_name_key UNIQUE (tenant_id, name),
    CONSTRAINT issuers_tenant_id_issuer_key UNIQUE (tenant_id, issuer),
    CONSTRAINT issuers_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
    CONSTRAINT issuers_kind_check CHECK (kind IN ('jwt', 'oauth', 'introspection'))
);
CREATE INDEX issuers_tenant_id_created_at_id_idx ON issuers (tenant_id, created_at, id);
ALTER TABLE issuers ENABLE ROW LEVEL SECURITY;
ALTER TABLE issuers FORCE ROW LEVEL SECURITY;
"""


def upgrade() -> None:
    op.execute("ALTER TABLE tenants ADD COLUMN addresses jsonb")
    op.execute("ALTER TABLE routes ADD COLUMN access jsonb")
    op.execute("ALTER TABLE routes DROP CONSTRAINT routes_auth_mode_check")
    op.execute(f"ALTER TABLE routes ADD CONSTRAINT routes_auth_mode_check CHECK (auth_mode IN {_MODES})")
    op.execute(_ISSUERS)
    op.execute(f"CREATE POLICY issuers_of_tenant ON issuers USING ({_OF_TENANT}) WITH CHECK ({_OF_TENANT})")
    role = '"' + context.get_context().opts["app_role"].replace('"', '""') + '"'
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON issuers TO {role}")


def downgrade() -> None:
    op.execute("DROP TABLE issuers")
    op.execute("SELECT set_config('app.system', 'on', true)")  # the policies are forced on the owner too
    op.execute(
        "UPDATE routes SET enabled = false WHERE access IS NOT NULL"
        " OR tenant_id IN (SELECT id FROM tenants WHERE addresses IS NOT NULL)"
    )
    op.execute(
        f"UPDATE routes SET enabled = false, auth_mode = 'apikey_required' WHERE auth_mode NOT IN {_OLD_MODES}"
    )
    op.execute("ALTER TABLE routes DROP CONSTRAINT routes_auth_mode_check")
    op.execute(f"ALTER TABLE routes ADD CONSTRAINT routes_auth_mode_check CHECK (auth_mode IN {_OLD_MODES})")
    op.execute("ALTER TABLE routes DROP COLUMN access")
    op.execute("ALTER TABLE tenants DROP COLUMN addresses")
