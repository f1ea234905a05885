"""The one error of the edge (edge.errors)."""

import pytest

from edge.errors import GatewayError, Retry, Source


def test_an_error_is_a_problem_of_the_catalogue_with_two_texts():
    error = GatewayError("origin-timeout", "Too late.", internal="10.0.0.7", source=Source.UPSTREAM, retry=Retry.NEVER)
    assert (error.problem.status, error.detail, error.close) == (504, "Too late.", False)
    assert repr(error) == "<GatewayError origin-timeout upstream retry=never '10.0.0.7'>"


def test_a_slug_that_is_not_in_the_catalogue_is_a_bug():
    with pytest.raises(KeyError):
        GatewayError("no-such-problem", "x")


def test_the_same_error_with_other_fields_differs_in_nothing_else():
    error = GatewayError("origin-timeout", "Too late.", internal="i", source=Source.UPSTREAM, retry=Retry.IF_IDEMPOTENT,
                         members={"a": 1}, proxy_error="p", close=True)  # fmt: skip
    other = error.with_fields(((b"A", b"b"),))
    assert (error.fields, other.fields) == ((), ((b"A", b"b"),))
    for name in GatewayError.__slots__:
        assert name == "fields" or getattr(other, name) == getattr(error, name)
