"""Policies that are a function of the user's own."""

import math
from pathlib import Path

import pytest
from tests.scored_rows import choose, factors, row

from tokensieve.config import SelectSettings
from tokensieve.errors import InputError
from tokensieve.selection import as_policy, code_digest, fit, parse_policy, select_tokens
from tokensieve.selection.thresholds import Stm

FUNCTIONS = """
import numpy as np

def flags(row):
    return row.nll_T() < 2

def weights(row):
    return np.exp(-row.nll_T())

def short(row):
    return [True]

def too_large(row):
    return np.full(len(row.tokens), 2.0)

def mixed(row):
    return row.nll_T() < 2 if row.tokens.id == "a" else np.ones(len(row.tokens))

value = 3
"""


def test_a_users_function_decides_from_a_file_and_as_an_object(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FUNCTIONS)
    rows = [row([1.0, 3.0, 9.0])]
    assert factors(choose(rows, f"{file}:flags")[0]) == [1, 0, 1]
    assert factors(choose(rows, f"{file}:weights")[0]) == pytest.approx([math.exp(-1), math.exp(-3), 1])
    assert factors(choose(rows, f"{file}:flags & keep:first:2")[0]) == [1, 1, 1]
    assert factors(choose(rows, f"lowest:{file}:flags")[0]) == [0, 1, 1]
    rule = fit(SelectSettings(), lambda: rows, policy=as_policy(lambda one: one.nll_T() < 2))
    assert factors(select_tokens(rows[0], rule)) == [1, 0, 1]
    rule = fit(SelectSettings(), lambda: rows, policy=as_policy(Stm(100.0)))
    assert factors(select_tokens(rows[0], rule)) == [1, 1, 1]


def test_a_function_of_another_scorer_sees_that_scorers_scores(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FUNCTIONS)
    rows = [row([1.0, 3.0, 9.0], others={"larger": [3.0, 1.0, 9.0]})]
    assert factors(choose(rows, f"({file}:flags)@larger")[0]) == [0, 1, 1]
    assert factors(choose(rows, f"{file}:flags@larger & keep:first:1")[0]) == [1, 1, 1]
    assert factors(choose(rows, f"{file}:flags")[0]) == [1, 0, 1], "the row itself is as it was"
    with pytest.raises(InputError, match="smaller"):
        choose(rows, f"({file}:flags)@smaller")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", "shape"),
        ("too_large", r"gave 2 for token 2, expected a weight in \[0, 1\]"),
        ("mixed", "row b: .*gave weights for this row and flags for the first"),
        ("value", "no function 'value'"),
        ("missing", "no function 'missing'"),
    ],
)
def test_a_users_function_that_gives_no_decision_is_refused(tmp_path: Path, name: str, message: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FUNCTIONS)
    with pytest.raises(InputError, match=message):
        choose([row([1.0, 3.0], "a"), row([1.0, 3.0], "b")], f"{file}:{name}")


@pytest.mark.parametrize("changed", ["mine.py", "near_a_policy.py"])
def test_a_changed_function_is_another_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "near_a_policy.py").write_text(FUNCTIONS)
    file = tmp_path / "mine.py"
    file.write_text(f"import near_a_policy\n{FUNCTIONS}")
    policies = [f"{file}:flags", f"random:{file}:flags", f"stm:2 & {file}:flags", f"({file}:flags)@larger"]
    before = [code_digest(parse_policy(policy)) for policy in policies]
    (tmp_path / changed).write_text((tmp_path / changed).read_text().replace("< 2", "< 3"))
    after = [code_digest(parse_policy(policy)) for policy in policies]
    assert all(one and one != other for one, other in zip(before, after, strict=True))
    assert code_digest(parse_policy("stm:2")) == ""
    with pytest.raises(InputError, match=r"expected file\.py:name"):
        code_digest(parse_policy(f"{tmp_path}/nowhere.py:flags"))
