"""The rate of a matrix product."""

from tokensieve.models.device import matmul_rate


def test_a_rate_is_that_of_a_real_machine() -> None:
    assert 1e7 < matmul_rate("cpu") < 1e15
