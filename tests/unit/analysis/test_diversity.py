"""Self-BLEU against values worked out by hand."""

import math

import pytest

from tokensieve.analysis.diversity import diversity, self_bleu
from tokensieve.types import Tokens, bools, ints


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([[1, 2, 3, 4], [1, 2, 3, 4]], 1.0),
        ([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], 0.0),
        # Each against the other: 5/6 of the tokens, 4/5 of the pairs, 3/4 of the triples, 2/3 of the quadruples.
        ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7]], (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25),
        # The shorter one matches whole with a brevity penalty of exp(1 - 5 / 4); the longer one 4/5, 3/4, 2/3, 1/2.
        ([[1, 2, 3, 4], [1, 2, 3, 4, 5]], (math.exp(-0.25) + (4 / 5 * 3 / 4 * 2 / 3 / 2) ** 0.25) / 2),
        # A repeated token counts as often as the other answer has it: 2 of 4, and no pair beyond that: 1/3, 0, 0.
        ([[1, 1, 1, 1], [1, 1, 2, 3]], 0.0),
        ([[1, 2, 3, 4]], None),
        ([[1, 2, 3], [1, 2, 3]], None),
    ],
)
def test_self_bleu_is_that_of_its_formula(answers: list[list[int]], expected: float | None) -> None:
    assert self_bleu(answers) == (None if expected is None else pytest.approx(expected))


def test_an_answer_is_not_compared_with_itself_but_with_its_copies() -> None:
    assert self_bleu([[1, 2, 3, 4, 5]] * 2 + [[9, 8, 7, 6, 5]]) == pytest.approx(2 / 3)


def test_the_draw_depends_on_ids_alone_and_takes_responses() -> None:
    def row(name: str, response: list[int]) -> Tokens:
        size = len(response)
        return Tokens(name, ints([0, 0, *response]), bools([False] * 2 + [True] * size), bools([False] * (size + 2)))

    rows = [row(str(n), [n % 3, n % 3 + 1, 5, 6, 7, n % 2]) for n in range(30)]
    assert diversity(rows, 10) == diversity(reversed(rows), 10)
    assert diversity(rows[:1]) is None
