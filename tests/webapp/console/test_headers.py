"""webapp.console.headers: the policy allows our own files and Clerk's script, and nothing inline."""

from __future__ import annotations

from flask import Response

from webapp.console.headers import content_security_policy, protect

CLERK = "https://clerk.example.com"


def _directives(policy: str) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in policy.split(";"))


def test_a_page_runs_our_scripts_and_clerks_and_sends_forms_to_us_alone() -> None:
    policy = _directives(content_security_policy(CLERK))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == f"'self' {CLERK}"
    assert policy["style-src"] == "'self'"
    assert policy["form-action"] == "'self'"
    assert policy["base-uri"] == policy["frame-ancestors"] == "'none'"


def test_only_the_page_of_clerks_widget_allows_inline_styles_and_none_allows_inline_scripts() -> None:
    loose = _directives(content_security_policy(CLERK, loose=True))
    assert "'unsafe-inline'" in loose["style-src"]
    assert "unsafe" not in loose["script-src"]
    assert "unsafe" not in content_security_policy(CLERK)


def test_no_page_is_stored_and_https_is_kept_where_it_is_used() -> None:
    plain = protect(Response(), CLERK, secure=False)
    secure = protect(Response(), CLERK, secure=True)
    assert plain.headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in plain.headers
    assert "max-age=63072000" in secure.headers["Strict-Transport-Security"]
