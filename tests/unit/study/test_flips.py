"""Flips: which answers changed sides, of which kind, within the budget, and near which training rows."""

from collections.abc import Sequence

import numpy as np
import pytest

from tokensieve.report import ArmReport, SeedRun, TargetReport
from tokensieve.report.browser_schema import kind_of
from tokensieve.study.flips import shortened, with_flips
from tokensieve.types import Outcome, Problem, Sample, Scored, Scores, Selected, Tokens, Verdict, bools, ints

R, W, N, C = Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER, Outcome.CUT_OFF
WORDS = ["<user>", "orders", "from", "lisbon", "porto", "squares", "list", "answer"]


def answers(*outcomes: Outcome | None, text: str = "an answer") -> list[Sample]:
    return [
        Sample(str(n), "t", 0, f"{text} {n}", verdict=None if outcome is None else Verdict(outcome, "x"))
        for n, outcome in enumerate(outcomes)
    ]


def problems(task: str) -> list[Problem]:
    questions = ["orders from lisbon", "squares", "orders from porto", "squares list", "list"]
    return [
        Problem(str(n), task, ({"role": "user", "content": question},), gold=f"gold {n}")
        for n, question in enumerate(questions)
    ]


def row(name: str, *places: int) -> Selected:
    """A training row: the words at some places are its prompt, the last word its response."""
    ids = ints([0, *places, 7])
    response = bools([False] * (len(ids) - 1) + [True])
    tokens = Tokens(name, ids, response, response)
    return Selected(Scored(tokens, {"base": Scores(np.ones(len(ids), dtype=np.float32))}), response)


ROWS = [row("lisbon", 1, 2, 3), row("porto", 1, 2, 4), row("squares", 5, 6)]


def text(ids: Sequence[int]) -> str:
    return " ".join(WORDS[one] for one in ids)


def target(*arms: tuple[str, int]) -> TargetReport:
    made = tuple(
        ArmReport(name=name, policy="plain", rows_in=1, rows_out=1, runs=tuple(SeedRun(seed=s) for s in range(seeds)))
        for name, seeds in arms
    )
    return TargetReport(task="t", others=(), base=(), arms=made)


def test_flips_are_the_answers_that_changed_sides_by_kind() -> None:
    before = {"t": answers(R, R, R, W, N)}
    after = {"a": [{"t": answers(W, N, R, N, R)}, {"t": answers(R, C, None, R, N)}]}
    found = with_flips(target(("a", 2), ("untrained", 0)), before, after, problems, ROWS, text, 10**6)
    (cell,) = found.arms[0].flips
    assert cell.counts == {
        "right → wrong": 1,
        "right → wrong form": 1,
        "right → cut off": 1,
        "right → not judged": 1,
        "wrong → right": 1,
        "wrong form → right": 1,
    }
    assert found.arms[1].flips == ()
    shown = {(found.flip_problems[flip.problem].id, flip.seed, flip.outcome) for flip in cell.shown}
    assert shown == {("0", 0, W), ("1", 0, N), ("4", 0, R), ("1", 1, C), ("2", 1, Outcome.NOT_JUDGED), ("3", 1, R)}
    assert len(found.flip_problems) == 5


def test_a_problem_comes_with_the_training_rows_whose_prompts_are_nearest() -> None:
    before, after = {"t": answers(R, R, R, R, R)}, {"a": [{"t": answers(W, W, W, W, W)}]}
    found = with_flips(target(("a", 1)), before, after, problems, ROWS, text, 10**6)
    nearest = {one.id: [found.near_rows[near.row].id for near in one.nearest] for one in found.flip_problems}
    assert nearest == {"0": ["lisbon", "porto"], "1": ["squares"], "2": ["porto", "lisbon"], "3": ["squares"],
                       "4": ["squares"]}  # fmt: skip
    lisbon = next(one for one in found.near_rows if one.id == "lisbon")
    assert (lisbon.prompt, lisbon.response) == ("<user> orders from lisbon", "answer")


@pytest.mark.parametrize("characters", [600, 3000, 20_000])
def test_the_budget_holds_whatever_the_answers_are(characters: int) -> None:
    before = {"t": answers(*[R] * 5, text="b" * 5000)}
    after = {name: [{"t": answers(*[W, N] * 2, W, text="a" * 5000)}] for name in ("one", "two")}
    found = with_flips(target(("one", 1), ("two", 1)), before, after, problems, ROWS, text, characters)
    held = sum(len(one.question + one.gold + one.before) for one in found.flip_problems)
    held += sum(len(flip.after) for arm in found.arms for cell in arm.flips for flip in cell.shown)
    assert held <= 2 * characters
    for arm in found.arms:
        (cell,) = arm.flips
        assert sum(cell.counts.values()) == 5
        assert len(cell.shown) >= 1


def test_kinds_take_turns_so_that_a_rare_one_is_shown() -> None:
    before = {"t": answers(R, R, R, R, W, text="b" * 400)}
    after = {"a": [{"t": answers(W, W, W, W, R, text="a" * 400)}]}
    (cell,) = with_flips(target(("a", 1)), before, after, problems, ROWS, text, 4000).arms[0].flips
    assert len(cell.shown) < 5
    assert R in [flip.outcome for flip in cell.shown]


def test_shortened_texts_say_by_how_much() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcdef", 2) == "ab … (4 more characters)"


def test_kinds_keep_wrong_form_apart() -> None:
    assert kind_of(R, N) == "right → wrong form"
    assert kind_of(W, R) == "wrong → right"
