"""The foundation: tenants, users, origins, targets, routes, api_keys, config_versions, outbox, audit_log.

Row-level security is forced on every table, for the owner too: a row is seen under its tenant (app.tenant_id), by the
system (app.system), and a tenant's own row also under its organisation (app.org_id). The settings are local to a
transaction; with none of them set nothing is seen. nullif: a local setting reads '' after its transaction.
"""

from alembic import context, op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE tenants (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    subdomain text NOT NULL,
    clerk_org_id text NOT NULL,
    status text DEFAULT 'active' NOT NULL,
    in_flight_max integer DEFAULT 1000 NOT NULL,
    config_version bigint DEFAULT 0 NOT NULL,
    row_version bigint DEFAULT 1 NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT tenants_pkey PRIMARY KEY (id),
    CONSTRAINT tenants_subdomain_key UNIQUE (subdomain),
    CONSTRAINT tenants_clerk_org_id_key UNIQUE (clerk_org_id),
    CONSTRAINT tenants_status_check CHECK (status IN ('active', 'suspended'))
);

CREATE TABLE users (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    clerk_user_id text NOT NULL,
    email text,
    role text NOT NULL,
    last_seen_at timestamptz,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT users_tenant_id_clerk_user_id_key UNIQUE (tenant_id, clerk_user_id),
    CONSTRAINT users_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
    CONSTRAINT users_role_check CHECK (role IN ('admin', 'member'))
);

CREATE TABLE origins (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    url text NOT NULL,
    health_check_path text,
    timeout_seconds double precision NOT NULL,
    connect_timeout_seconds double precision DEFAULT 5 NOT NULL,
    load_balancing text DEFAULT 'round_robin' NOT NULL,
    row_version bigint DEFAULT 1 NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT origins_pkey PRIMARY KEY (id),
    CONSTRAINT origins_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT origins_tenant_id_name_key UNIQUE (tenant_id, name),
    CONSTRAINT origins_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
    CONSTRAINT origins_load_balancing_check CHECK (load_balancing IN ('round_robin'))
);

CREATE TABLE targets (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    origin_id uuid NOT NULL,
    url text NOT NULL,
    weight integer DEFAULT 1 NOT NULL,
    position integer NOT NULL,
    healthy boolean,
    health_reason text,
    health_since timestamptz,
    health_latency_ms double precision,
    CONSTRAINT targets_pkey PRIMARY KEY (id),
    CONSTRAINT targets_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT targets_tenant_id_origin_id_fkey FOREIGN KEY (tenant_id, origin_id)
        REFERENCES origins (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT targets_tenant_id_origin_id_position_key UNIQUE (tenant_id, origin_id, position)
        DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE routes (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    name text,
    path_pattern text NOT NULL,
    methods text[] DEFAULT '{}' NOT NULL,
    origin_id uuid NOT NULL,
    auth_mode text NOT NULL,
    priority integer DEFAULT 0 NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    required_scopes text[] DEFAULT '{}' NOT NULL,
    any_user boolean DEFAULT false NOT NULL,
    rate_limit jsonb,
    cache_policy jsonb,
    rewrite jsonb,
    forward_credential boolean DEFAULT false NOT NULL,
    preserve_host boolean DEFAULT false NOT NULL,
    body_bytes_max bigint NOT NULL,
    row_version bigint DEFAULT 1 NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT routes_pkey PRIMARY KEY (id),
    CONSTRAINT routes_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT routes_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
    CONSTRAINT routes_tenant_id_origin_id_fkey FOREIGN KEY (tenant_id, origin_id)
        REFERENCES origins (tenant_id, id) ON DELETE RESTRICT,
    CONSTRAINT routes_auth_mode_check CHECK (auth_mode IN ('public', 'jwt_required', 'apikey_required'))
);
CREATE INDEX routes_tenant_id_created_at_id_idx ON routes (tenant_id, created_at, id);
CREATE INDEX routes_tenant_id_origin_id_idx ON routes (tenant_id, origin_id);

CREATE TABLE api_keys (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    key_prefix text NOT NULL,
    last_four text NOT NULL,
    digest text NOT NULL,
    scopes text[] DEFAULT '{}' NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    imported boolean DEFAULT false NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    created_by text,
    row_version bigint DEFAULT 1 NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT api_keys_tenant_id_digest_key UNIQUE (tenant_id, digest),
    CONSTRAINT api_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
);
CREATE INDEX api_keys_tenant_id_created_at_id_idx ON api_keys (tenant_id, created_at, id);

CREATE TABLE config_versions (
    tenant_id uuid NOT NULL,
    version bigint NOT NULL,
    body text NOT NULL,
    sha256 text NOT NULL,
    author text,
    message text NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT config_versions_pkey PRIMARY KEY (tenant_id, version),
    CONSTRAINT config_versions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    tenant_id uuid NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    published_at timestamptz,
    stream_id text,
    attempts integer DEFAULT 0 NOT NULL,
    last_error text,
    CONSTRAINT outbox_pkey PRIMARY KEY (id),
    CONSTRAINT outbox_kind_check CHECK (kind IN ('config', 'key', 'removed'))
);
CREATE INDEX outbox_pending_idx ON outbox (tenant_id, id) WHERE published_at IS NULL;

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    tenant_id uuid NOT NULL,
    at timestamptz DEFAULT clock_timestamp() NOT NULL,
    via text NOT NULL,
    user_id uuid,
    clerk_user_id text,
    session_id text,
    impersonator text,
    action text NOT NULL,
    noun_id text NOT NULL,
    before jsonb,
    after jsonb,
    config_version bigint NOT NULL,
    request_id text NOT NULL,
    ip text,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id),
    CONSTRAINT audit_log_via_check CHECK (via IN ('api', 'console', 'worker', 'cli'))
);
CREATE INDEX audit_log_tenant_id_id_idx ON audit_log (tenant_id, id);
"""

_OF_TENANT = ("users", "origins", "targets", "routes", "api_keys", "config_versions", "outbox", "audit_log")
_APPEND_ONLY = ("config_versions", "audit_log")
_SYSTEM = "current_setting('app.system', true) = 'on'"
_TENANT = "nullif(current_setting('app.tenant_id', true), '')::uuid"


def upgrade() -> None:
    op.execute(_TABLES)
    role = '"' + context.get_context().opts["app_role"].replace('"', '""') + '"'
    own = f"id = {_TENANT} OR clerk_org_id = nullif(current_setting('app.org_id', true), '') OR {_SYSTEM}"
    _secure("tenants", own, role)
    for table in _OF_TENANT:
        _secure(table, f"tenant_id = {_TENANT} OR {_SYSTEM}", role)
    op.execute(f"GRANT SELECT ON alembic_version TO {role}")


def _secure(table: str, rule: str, role: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY {table}_of_tenant ON {table} USING ({rule}) WITH CHECK ({rule})")
    verbs = "SELECT, INSERT" if table in _APPEND_ONLY else "SELECT, INSERT, UPDATE, DELETE"
    op.execute(f"GRANT {verbs} ON {table} TO {role}")


def downgrade() -> None:
    for table in reversed(("tenants", *_OF_TENANT)):
        op.execute(f"DROP TABLE {table}")
