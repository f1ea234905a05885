"""Clerk's cookies: their names with and without the instance's suffix, and which one counts.

Laws:  1. The suffixed name wins: several instances may share a host in development. 2. Only names of Clerk's own are
       ever set from a handshake.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Final

_OURS_TO_SET: Final = re.compile(r"(__session|__client_uat|__refresh|__clerk)[A-Za-z0-9_-]*=[!-:<-~]*(;[ -:<-~]*)*")


def suffix_of(publishable_key: str) -> str:
    digest = hashlib.sha1(publishable_key.encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode()[:8]


def read(cookies: Mapping[str, str], name: str, suffix: str) -> str:
    return cookies.get(f"{name}_{suffix}") or cookies.get(name, "")


def client_seen_at(cookies: Mapping[str, str], suffix: str) -> int:
    """`__client_uat`: wall seconds of the client's last change, 0 for signed out."""
    text = read(cookies, "__client_uat", suffix)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else 0


def may_set(directive: str) -> bool:
    """Say whether a handshake's Set-Cookie line is Clerk's own, and for this host alone."""
    return bool(_OURS_TO_SET.fullmatch(directive)) and "domain=" not in directive.lower()
