from collections.abc import Iterator

import pytest

from tokensieve.data.shards import read_ahead
from tokensieve.errors import InputError


def test_reading_ahead_is_one_item_and_keeps_order_and_errors() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(4):
            made.append(number)
            yield number
        raise InputError("the file ends in the middle of a row")

    ahead = read_ahead(items())
    assert next(ahead) == 0
    assert len(made) <= 2
    assert [next(ahead), next(ahead), next(ahead)] == [1, 2, 3]
    with pytest.raises(InputError, match="middle of a row"):
        next(ahead)
    assert list(read_ahead([])) == []
