"""The browsers of rows and flips: a stable draw, the page's data, and its size with the most that a report may hold."""

import json
import re

import numpy as np
from tests.large_report import large_report
from tests.synthetic_report import HOSTILE, synthetic_report

from tokensieve.report import sample_rows
from tokensieve.report.browsers import flip_data, token_data
from tokensieve.report.page import render
from tokensieve.types import Scored, Scores, Selected, Tokens, ints


def row(name: str, length: int = 4) -> Selected:
    in_response_T = np.arange(length) > 0
    tokens = Tokens(name, ints(range(length)), in_response_T, np.arange(length) == length - 1)
    nll_T = np.linspace(0, 1, length, dtype=np.float32)
    nll_T[0] = np.nan
    return Selected(Scored(tokens, {"base": Scores(nll_T)}), in_response_T & (nll_T < 0.9))


def test_the_draw_depends_on_ids_only() -> None:
    rows = [row(f"r{n}") for n in range(100)]
    drawn = [r.id for r in sample_rows(rows, str, limit=10)]
    assert drawn == [r.id for r in sample_rows(reversed(rows), str, limit=10)]
    assert drawn == [r.id for r in sample_rows([*rows[:50], *rows[50:]], str, limit=20)][:10]
    assert drawn != [f"r{n}" for n in range(10)]


def test_a_row_is_carried_over_token_by_token() -> None:
    (shown,) = sample_rows([row("r")], lambda token: f"<{token}>")
    assert shown.pieces == ("<0>", "<1>", "<2>", "<3>")
    assert shown.nll == (None, 0.3333, 0.6667, 1.0)
    assert shown.in_response == (False, True, True, True)
    assert shown.train == (False, True, True, False)
    assert shown.not_shown == 0


def test_long_rows_are_shown_from_their_beginning_and_say_so() -> None:
    (shown,) = sample_rows([row("r", 30)], str, max_tokens=10)
    assert len(shown.pieces) == len(shown.nll) == 10
    assert shown.not_shown == 20


def test_no_rows_give_none() -> None:
    assert sample_rows([], str) == ()


LIMIT_BYTES = 5_000_000


def test_every_flip_of_the_report_is_in_the_pages_data_and_nothing_ends_its_element() -> None:
    report = synthetic_report()
    page = render(report)
    found = re.search(r'<script type="application/json" id="flip-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert "<" not in found[1]
    data = json.loads(found[1])
    assert data == flip_data(report)
    for target, shown in zip(report.targets, data["targets"], strict=True):
        assert [one["id"] for one in shown["problems"]] == [one.id for one in target.flip_problems]
        assert sum(len(cell["shown"]) for arm in shown["arms"] for cell in arm["tasks"]) == sum(
            len(cell.shown) for arm in target.arms for cell in arm.flips
        )
    assert HOSTILE not in page


def test_a_report_without_flips_has_no_such_section() -> None:
    report = synthetic_report()
    targets = tuple(target.model_copy(update={"flip_problems": (), "near_rows": ()}) for target in report.targets)
    bare = report.model_copy(update={"targets": targets})
    assert flip_data(bare) is None
    assert 'id="flips"' not in render(bare)


def test_ten_arms_of_five_seeds_with_long_rows_and_answers_stay_under_five_megabytes() -> None:
    report = large_report()
    assert [len(target.arms) for target in report.targets] == [10, 10]
    assert all(len(arm.runs) == 5 for target in report.targets for arm in target.arms)
    size = len(render(report).encode())
    assert 2_500_000 < size < LIMIT_BYTES
    data = token_data(report)
    assert isinstance(data, dict)
    assert isinstance(data["targets"], list)
    assert len(data["targets"]) == 2
