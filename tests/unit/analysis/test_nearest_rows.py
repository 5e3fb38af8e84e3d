"""Nearest rows by TF-IDF: what all rows share counts nothing, order and ties are stable."""

import math

import pytest

from tokensieve.analysis.nearest_rows import NearestRows

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
