"""Numeric bounds of every value a tenant may set, shared by validation and enforcement.

In:    nothing.
Out:   constants, named with their unit and their bound at the end.
Laws:  1. A bound is written once, here. 2. The API refuses what is outside, naming the field;
       the edge may rely on it.
Not here: settings of a deployment (edge.settings, webapp.settings).
"""

from __future__ import annotations

from typing import Final

# Names and hosts (RFC 1035 section 2.3.1: a label is at most 63 octets).
NAME_CHARS_MAX: Final = 120
SUBDOMAIN_CHARS_MIN: Final = 3
SUBDOMAIN_CHARS_MAX: Final = 63
RESERVED_SUBDOMAINS: Final = frozenset(
    """www api app admin console static mail smtp imap pop ftp ns ns1 ns2 mx dns cdn assets img
    auth login sign-in accounts account clerk status docs help support blog dashboard edge
    gateway internal localhost metrics health billing security root system public private
    test-internal autoconfig autodiscover wpad""".split()
)

# Origins.
ORIGINS_PER_TENANT_MAX: Final = 1_000
TARGETS_PER_ORIGIN_MAX: Final = 64
TARGET_WEIGHT_MIN: Final = 1
TARGET_WEIGHT_MAX: Final = 1_000
URL_CHARS_MAX: Final = 2_048
ORIGIN_TIMEOUT_S_MIN: Final = 1
ORIGIN_TIMEOUT_S_MAX: Final = 300
ORIGIN_TIMEOUT_S_DEFAULT: Final = 30
PEM_CHARS_MAX: Final = 65_536
CA_CERTIFICATES_MAX: Final = 32
CLIENT_CHAIN_MAX: Final = 8
TLS_BYTES_PER_TENANT_MAX: Final = 2 * 1024 * 1024
"""Of all origins' certificates and sealed keys together: they travel in every version of the configuration."""

# Routes.
ROUTES_PER_TENANT_MAX: Final = 10_000
PATTERN_CHARS_MAX: Final = 1_024
PATTERN_SEGMENTS_MAX: Final = 32
PRIORITY_MIN: Final = -1_000
PRIORITY_MAX: Final = 1_000
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REQUIRED_SCOPES_MAX: Final = 32
REQUIRED_ROLES_MAX: Final = 32
ROLE_CHARS_MAX: Final = 128
CORS_ORIGINS_MAX: Final = 64
CORS_FIELD_NAMES_MAX: Final = 64
CORS_MAX_AGE_S_DEFAULT: Final = 600
CORS_MAX_AGE_S_MAX: Final = 86_400
NETWORKS_MAX: Final = 256
"""In one list of networks, of a route or a tenant; of keys and services each has its own bound."""
ACCESS_BYTES_PER_TENANT_MAX: Final = 8 * 1024 * 1024
"""Of all routes' access fields together: they travel in every version of the configuration."""
BODY_BYTES_MAX_DEFAULT: Final = 10 * 1024 * 1024
BODY_BYTES_MAX: Final = 1024 * 1024 * 1024 * 1024

# Issuers.
ISSUERS_PER_TENANT_MAX: Final = 32
ISSUER_CHARS_MAX: Final = 1_024
AUDIENCES_MAX: Final = 16
AUDIENCE_CHARS_MAX: Final = 512
PUBLIC_KEYS_MAX: Final = 8
CLIENT_SECRET_CHARS_MAX: Final = 1_024

# Rate limits.
POLICIES_PER_ROUTE_MAX: Final = 8
POLICY_SCOPES_MAX: Final = 5
POLICY_COST_MAX: Final = 1_000_000
RATE_PER_SECOND_MIN: Final = 0.001
RATE_PER_SECOND_MAX: Final = 1_000_000.0
BURST_MIN: Final = 1
BURST_MAX: Final = 10_000_000
BUCKET_FILL_S_MAX: Final = 31 * 86_400
WINDOW_LIMIT_MAX: Final = 1_000_000_000
WINDOW_S_MIN: Final = 1
WINDOW_S_MAX: Final = 86_400

# Cache.
CACHE_TTL_S_DEFAULT: Final = 300
CACHE_TTL_S_MAX: Final = 31_536_000
CACHE_KEY_HEADERS_MAX: Final = 8
CACHE_OBJECT_BYTES_MAX: Final = 1024 * 1024

# API keys.
KEYS_PER_TENANT_MAX: Final = 1_000_000
KEY_SCOPES_MAX: Final = 32
SCOPE_CHARS_MAX: Final = 64
KEY_CHARS_MIN: Final = 12
KEY_CHARS_MAX: Final = 256
KEY_ADDRESSES_MAX: Final = 64
POLICIES_PER_KEY_MAX: Final = 4
KEYS_PER_IMPORT_MAX: Final = 1_000
KEY_GRACE_S_DEFAULT: Final = 86_400
KEY_GRACES_S: Final = (0, 60, 3_600, KEY_GRACE_S_DEFAULT, 604_800)
ROTATE_EVERY_DAYS_MIN: Final = 1
ROTATE_EVERY_DAYS_MAX: Final = 3_650
SEARCH_CHARS_MAX: Final = 120

# Services: machines that call.
SERVICES_PER_TENANT_MAX: Final = 1_000
"""They travel in every version of the configuration."""
SERVICE_ADDRESSES_MAX: Final = 32
SECRET_GRACE_S_DEFAULT: Final = 86_400
SECRET_GRACE_S_MAX: Final = 604_800

# The control plane's own API.
PAGE_ITEMS_DEFAULT: Final = 50
PAGE_ITEMS_MAX: Final = 200
API_BODY_BYTES_MAX: Final = 1024 * 1024
PREFER_WAIT_S_MAX: Final = 10
