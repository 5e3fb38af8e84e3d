"""Nearest rows by TF-IDF, whose shared terms count nothing, and self-BLEU against values worked out by hand."""

import math

import pytest

from tokensieve.analysis.similarity import NearestRows, diversity, self_bleu
from tokensieve.types import Tokens, bools, ints

TEXTS = [
    "<|user|> How many orders came from Lisbon after March?",
    "<|user|> Write a function that returns the squares of a list.",
    "<|user|> How many orders came from Porto?",
    "<|user|> How many orders came from Porto?",
]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("orders from Lisbon", [0, 2]),
        ("Write squares", [1]),
        ("how many orders came from porto", [2, 3]),
        ("<|user|>", []),
        ("entirely unrelated words", []),
        ("", []),
    ],
)
def test_the_nearest_come_first(question: str, expected: list[int]) -> None:
    assert [row for row, _ in NearestRows(TEXTS).nearest(question, 2)] == expected


def test_the_cosine_is_that_of_the_weights() -> None:
    index = NearestRows(["a a b", "b c", "c d"])
    ((first, cosine),) = index.nearest("b c", 1)
    assert (first, round(cosine, 9)) == (1, 1.0)
    # "a a b" holds a (2 times, idf ln 3), b (ln 1.5), "a a" and "a b" (ln 3 each); the question a and "a a" once.
    rare, common = math.log(3), math.log(1.5)
    length = math.sqrt(((1 + math.log(2)) * rare) ** 2 + common**2 + 2 * rare**2)
    one = math.sqrt((1 + math.log(2)) ** 2 + 1) * rare
    expected = ((1 + math.log(2)) ** 2 * rare**2 + rare**2) / (length * one)
    ((first, cosine),) = index.nearest("a a", 3)
    assert (first, round(cosine, 9)) == (0, round(expected, 9))


def test_one_text_or_none_has_no_terms_that_tell_it_from_others() -> None:
    assert NearestRows(["a b"]).nearest("a b", 3) == []
    assert NearestRows([]).nearest("a b", 3) == []


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
