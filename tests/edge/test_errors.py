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
