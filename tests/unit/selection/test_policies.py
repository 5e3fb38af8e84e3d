"""Each policy's decision on rows whose answer was worked out by hand, and what a policy refuses."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scored_rows import choose, factors, row

from tokensieve.config import SelectSettings
from tokensieve.errors import InputError
from tokensieve.selection import POLICIES, fit, parse_policy, policy_lines
from tokensieve.selection.combine import Combined, OfScorer, UserFunction
from tokensieve.types import Scored, Scores, Tokens, bools, ints

LN = math.log
NAN = float("nan")

EXAMPLES = {
    "plain": "plain",
    "stm": "stm:2.5",
    "share": "share:0.3",
    "nll_budget": "nll_budget:0.5",
    "soft": "soft:2.5",
    "random": "random:stm:2.5",
    "lowest": "lowest:soft:2.5",
    "dpf": "dpf",
    "stm_dpf": "stm_dpf:100",
    "rho1": "rho1:0.6",
    "flow": "flow",
    "frozen:dft": "frozen:dft",
    "frozen:eaft": "frozen:eaft",
    "frozen:profit": "frozen:profit",
    "frozen:infosft": "frozen:infosft",
    "frozen:talr": "frozen:talr",
    "class": "class:number+punctuation",
    "keep": "stm:2.5 & keep:first:2",
    "keep:class": "stm:2.5 & keep:class:number",
}
"""One way to write each policy of the registry."""
MORE = (
    "share:0.3:row",
    "nll_budget:0.5:row",
    "rho1:0.6:row:tuned",
    "random:(stm:10 & keep:last:1)",
    "random:frozen:dft",
    "stm:2.5@tuned",
    "stm:10 & frozen:dft & keep:first:1",
)


def test_every_policy_says_its_formula_and_its_source() -> None:
    for policy in (*POLICIES.values(), Combined, OfScorer, UserFunction):
        said = " ".join((policy.__doc__ or "").split())
        assert "ormula" in said, policy
        assert re.search(r"[Ss]ources?: .*(arXiv \d{4}\.\d{5}|our own)", said), policy


P = 0.3  # logit(0.3) = -0.8473, logit(0.93) = 2.5867
GOLDEN: list[tuple[str, list[dict[str, list[float]]], list[list[float]]]] = [
    ("stm:4", [{"base": [LN(3), LN(5), 9.0]}], [[1, 0, 1]]),
    # Of six candidates two are 34 %: the highest two of all rows, whichever row they are in.
    ("share:0.34", [{"base": [5.0, 4.0, 0.1, 9.0]}, {"base": [0.2, 0.3, 3.0, 9.0]}], [[0, 0, 1, 1], [1, 1, 1, 1]]),
    ("share:0.34:row", [{"base": [5.0, 4.0, 0.1, 9.0]}, {"base": [0.2, 0.3, 3.0, 9.0]}], [[0, 1, 1, 1], [1, 1, 0, 1]]),
    # The candidates' nll sums to 10; half of it is 5: the 4 fits, the 3 beside it does not.
    ("nll_budget:0.5", [{"base": [4.0, 1.0, 9.0]}, {"base": [3.0, 2.0, 9.0]}], [[0, 1, 1], [1, 1, 1]]),
    ("nll_budget:0.75", [{"base": [4.0, 1.0, 9.0]}, {"base": [3.0, 2.0, 9.0]}], [[0, 1, 1], [0, 1, 1]]),
    ("nll_budget:0.6:row", [{"base": [4.0, 1.0, 9.0]}, {"base": [3.0, 2.0, 9.0]}], [[1, 1, 1], [0, 1, 1]]),
    ("soft:2.5", [{"base": [0.0, LN(5), 9.0]}], [[1, 0.5, 1]]),
    ("lowest:stm:2.5", [{"base": [0.5, 0.1, 3.0, 2.0, 0.0]}], [[0, 0, 1, 1, 1]]),
    ("lowest:soft:2.5", [{"base": [LN(10), 0.1, LN(5), 0.0]}], [[1, 0.25, 0.5, 1]]),
    # The tuned model finds the second token harder.
    ("dpf", [{"base": [1.0, 1.0, 1.0, 0.0], "tuned": [0.5, 1.5, 1.0, 9.0]}], [[1, 0, 1, 1]]),
    ("dpf:other", [{"base": [1.0, 1.0, 0.0], "other": [1.5, 0.5, 0.0]}], [[0, 1, 1]]),
    ("stm_dpf:100", [{"base": [5.0, 1.0, 1.0, 0.0], "tuned": [0.5, 1.5, 1.0, 9.0]}], [[0, 0, 1, 1]]),
    # Excess loss 2, 0, -1 and 1, 3: the top 60 % of five are three.
    (
        "rho1:0.6",
        [
            {"base": [3.0, 1.0, 1.0, 0.0], "reference": [1.0, 1.0, 2.0, 0.0]},
            {"base": [2.0, 4.0, 0.0], "reference": [1.0, 1.0, 0.0]},
        ],
        [[1, 0, 0, 1], [1, 1, 1]],
    ),
    (
        "rho1:0.5:row",
        [
            {"base": [3.0, 1.0, 0.0], "reference": [1.0, 1.0, 0.0]},
            {"base": [2.0, 4.0, 0.0], "reference": [1.0, 1.0, 0.0]},
        ],
        [[1, 0, 1], [0, 1, 1]],
    ),
    # Row losses 1, 2, 4 with the end of turn, median 2.
    (
        "flow",
        [{"base": [2.0, 0.0]}, {"base": [3.0, 1.0]}, {"base": [4.0, 4.0]}],
        [[math.exp(-0.5)] * 2, [math.exp(-1)] * 2, [math.exp(-2)] * 2],
    ),
    ("frozen:dft", [{"base": [0.0, LN(4), 9.0]}], [[1, 0.25, 1]]),
    # The top-20 entropy is half of the nll here: 1.5 of 3.0, and one above 3.0.
    ("frozen:eaft", [{"base": [3.0, 8.0, 0.0]}], [[0.5, 1, 1]]),
    ("frozen:eaft:2", [{"base": [3.0, 8.0, 0.0]}], [[0.25, 1, 1]]),
    ("frozen:profit", [{"base": [LN(9.9), LN(10.1), 9.0]}], [[1, 0, 1]]),
    ("frozen:profit:0.5", [{"base": [LN(1.9), LN(2.1), 9.0]}], [[1, 0, 1]]),
    (
        "frozen:infosft",
        [{"base": [-LN(P), LN(2), -LN(0.95), 0.0, 9.0]}],
        [[P * (1 + 0.8472979 / 2.5866893), 0.5, 0, 0, 1]],
    ),
    # Row losses 1, 2, 4: tau 2; exp(-20 / 2) is below the floor.
    (
        "frozen:talr",
        [{"base": [2.0, 0.0]}, {"base": [4.0, 0.0]}, {"base": [20.0, 0.0, 0.0, 0.0, 0.0]}],
        [[math.exp(-1), 1], [math.exp(-2), 1], [0.01, 1, 1, 1, 1]],
    ),
    ("stm:10 & keep:first:2", [{"base": [9.0, 9.0, 9.0, 1.0, 0.0]}], [[1, 1, 0, 1, 1]]),
    # A number, a bracket, a word, an identifier, a line end, and end of turn, which is protected.
    ("class:number+punctuation", [{"base": [9.0, 9.0, 0.0, 0.0, 9.0, 0.0]}], [[1, 1, 0, 0, 0, 1]]),
    ("class:not:word + line_end", [{"base": [9.0, 9.0, 0.0, 0.0, 9.0, 0.0]}], [[1, 1, 0, 1, 0, 1]]),
    ("stm:2.5 & class:not:word", [{"base": [9.0, 0.0, 0.0, 0.0, 9.0, 0.0]}], [[0, 1, 0, 1, 0, 1]]),
    ("stm:2.5 & keep:class:not:number", [{"base": [9.0, 9.0, 0.0, 0.0, 9.0, 0.0]}], [[0, 1, 1, 1, 1, 1]]),
    ("stm:2.5 & keep:class:word+number", [{"base": [9.0, 9.0, 9.0, 0.0, 9.0, 0.0]}], [[1, 0, 1, 1, 0, 1]]),
    ("lowest:class:number", [{"base": [0.1, 3.0, 2.0, 0.0]}], [[0, 1, 0, 1]]),
    ("stm:10 & keep:last:2", [{"base": [9.0, 9.0, 9.0, 0.0]}], [[0, 0, 1, 1]]),
    ("stm:4 & frozen:dft", [{"base": [LN(2), LN(8), 9.0]}], [[0.5, 0, 1]]),
    ("stm:2.5@larger", [{"base": [9.0, 0.0, 0.0], "larger": [0.0, 9.0, 0.0]}], [[1, 0, 1]]),
    ("(stm:2.5 & keep:first:1)@larger", [{"base": [0.0] * 4, "larger": [9.0, 9.0, 0.0, 0.0]}], [[1, 0, 1, 1]]),
]


@pytest.mark.parametrize(("policy", "given_rows", "expected"), GOLDEN, ids=[policy for policy, _, _ in GOLDEN])
def test_a_policy_decides_as_its_formula_says(
    policy: str, given_rows: list[dict[str, list[float]]], expected: list[list[float]]
) -> None:
    rows = [row(one["base"], str(i), one) for i, one in enumerate(given_rows)]
    found = [factors(selected) for selected in choose(rows, policy)]
    assert [len(one) for one in found] == [len(one) for one in expected]
    for one, wanted in zip(found, expected, strict=True):
        assert one == pytest.approx(wanted, abs=1e-5)


def test_every_policy_has_golden_values_and_a_documentation_line() -> None:
    assert set(EXAMPLES) == set(POLICIES)
    held = {part for policy, _, _ in GOLDEN for part in policy.replace("@", " ").replace("(", " ").split()}
    names = {name for name in POLICIES if name not in ("plain", "random")}  # those have tests of their own
    assert {name for name in names if any(part == name or part.startswith(f"{name}:") for part in held)} == names
    for usage, line in policy_lines():
        assert usage
        assert line[0].isupper()
        assert line.endswith(".")


def test_the_docs_hold_every_policy() -> None:
    text = (Path(__file__).parents[3] / "docs" / "policies.md").read_text(encoding="utf-8")
    for usage, line in policy_lines():
        assert f"| `{usage}` | {line} |" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stm", "perplexity of at least 1"),
        ("stm:0.5", "perplexity of at least 1"),
        ("stm:nan", "perplexity of at least 1"),
        ("stm:inf", "perplexity of at least 1"),
        ("stm:2.5:row", "perplexity of at least 1"),
        ("share:10", "between 0 and 1"),
        ("share:0.1:batch", "expected row or nothing"),
        ("nll_budget", "fraction of the nll between 0 and 1"),
        ("rho1:1.5", "between 0 and 1"),
        ("plain:3", "takes no value"),
        ("flow:3", "takes no value"),
        ("random", "whose number"),
        ("random:2.5", "unknown policy"),
        ("lowest:plain", "leaves no token out"),
        ("random:random:stm:2", "is a control itself"),
        ("random:flow", "same weight"),
        ("random:keep:first:2", "nothing beside it leaves any out"),
        ("keep:first:2", "nothing beside it leaves any out"),
        ("keep:first:2 & keep:last:2", "nothing beside it leaves any out"),
        ("stm:2 & keep:middle:2", "expected first or last"),
        ("keep:class:number", "nothing beside it leaves any out"),
        ("stm:2 & keep:first:1.5", "whole number"),
        ("stm:2 &", "both sides of &"),
        ("(stm:2", "parentheses do not match"),
        ("smt:2", "did you mean 'stm'"),
        ("frozen:dtf", "did you mean 'frozen:dft'"),
        ("frozen", "unknown policy"),
        ("frozen:profit:2", "probability"),
        ("frozen:infosft:0.2", "between 0.5 and 1"),
        ("frozen:talr:2", "between 0 and 1"),
        ("class", "classes of tokens joined by"),
        ("class:nouns", "got 'nouns'; there are number, punctuation"),
        ("class:not:", "got ''"),
        ("", "unknown policy ''"),
    ],
)
def test_a_wrong_policy_is_refused_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_policy(text)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("dpf", "no scores by 'tuned'.*base"),
        ("stm:2@larger", "no scores by 'larger'"),
        ("rho1:0.5", "no scores by 'reference'"),
        ("frozen:eaft", r"no entropy of the 20 likeliest entries\n.*--entropy-top-k 20"),
    ],
)
def test_scores_that_are_missing_are_named_with_the_option_that_makes_them(policy: str, message: str) -> None:
    bare = row([1.0, 2.0])
    bare = Scored(bare.tokens, {"base": Scores(bare.nll_T())})
    with pytest.raises(InputError, match=message):
        choose([bare], policy)


def test_eaft_refuses_the_entropy_of_another_number_of_entries() -> None:
    rows = [row([1.0, 2.0])]
    with pytest.raises(InputError, match=r"20 likeliest entries.*hold.*that of 5"):
        fit(SelectSettings(policy="frozen:eaft"), lambda: rows, top_k={"base": 5})


def test_a_reference_without_a_score_is_an_error_that_names_the_scorer() -> None:
    with pytest.raises(InputError, match="token 3 has no score by 'tuned'"):
        choose([row([1.0, 1.0, 0.0], "r", {"tuned": [1.0, NAN, 0.0]})], "dpf")


@pytest.mark.parametrize("policy", [*EXAMPLES.values(), *MORE])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_policy_trains_outside_the_response_and_none_depends_on_order(policy: str, data: st.DataObject) -> None:
    nlls = st.lists(st.floats(0, 30, width=32), min_size=1, max_size=12)
    rows = []
    for index, values in enumerate(data.draw(st.lists(nlls, min_size=1, max_size=5))):
        other = [float(np.float32(value / 2 if index % 2 else value + 1)) for value in values]
        rows.append(row(values, str(index), {"tuned": other, "reference": other}))
    paper_exact = data.draw(st.booleans())
    chosen = choose(rows, policy, paper_exact=paper_exact)
    again = choose(rows[::-1], policy, paper_exact=paper_exact)[::-1]
    for one, other_order in zip(chosen, again, strict=True):
        assert not (one.train_T & ~one.tokens.in_response_T).any()
        assert factors(one) == factors(other_order)
        if not paper_exact and policy != "flow":
            assert one.train_T[one.tokens.ends_turn_T].all()
        if one.weight_T is not None:
            assert np.array_equal(one.weight_T > 0, one.train_T)


MATCHED = ("stm:2.5", "share:0.3", "share:0.3:row", "nll_budget:0.9", "dpf", "soft:2.5", "frozen:infosft",
           "stm:10 & keep:first:3", "stm:2.5@tuned", "rho1:0.5")  # fmt: skip


@pytest.mark.parametrize("matched", MATCHED)
@pytest.mark.parametrize("control", ["random", "lowest"])
def test_controls_give_each_row_the_factors_of_the_policy_that_they_match(control: str, matched: str) -> None:
    rng = np.random.default_rng(5)
    drawn = [list(rng.exponential(size=30)) for _ in range(12)]
    rows = [row(d, str(i), {"tuned": d[::-1], "reference": d[::-1]}) for i, d in enumerate(drawn)]
    wanted = [sorted(factors(selected)[:-1]) for selected in choose(rows, matched)]
    found = choose(rows, f"{control}:({matched})")
    assert [sorted(factors(selected)[:-1]) for selected in found] == wanted
    assert [factors(selected) for selected in found] != [factors(selected) for selected in choose(rows, matched)]
    assert any(factor < 1 for one in wanted for factor in one)


def test_traits_follow_the_policies_inside() -> None:
    assert parse_policy("random:soft:2").traits.weighted
    assert parse_policy("random:soft:2").traits.control
    assert parse_policy("stm:2 & random:stm:5").traits.seeded
    assert not parse_policy("lowest:stm:5").traits.seeded
    assert parse_policy("dpf:a & stm:2@b").traits.other_scorers == ("a", "b")
    assert parse_policy("plain").traits.trains_all
    assert parse_policy("frozen:eaft & stm:5").traits.needs == ("top_entropy",)
    assert parse_policy("stm:5 & stm:2 & keep:first:1").threshold_nats == pytest.approx(LN(2))
    assert parse_policy("stm:5@larger").threshold_nats == math.inf


def test_keep_counts_within_each_turn() -> None:
    in_response_T = bools([False, True, True, True, False, True, True, True])
    nll_T = np.full(8, 9.0, dtype=np.float32)
    scored = Scored(Tokens("r", ints(range(8)), in_response_T, bools([False] * 8)), {"base": Scores(nll_T)})
    (chosen,) = choose([scored], "stm:2 & keep:first:1 & keep:last:1")
    assert np.flatnonzero(chosen.train_T).tolist() == [1, 3, 5, 7]


def test_a_policy_of_classes_needs_texts_and_end_of_turn_is_special() -> None:
    rows = [row([0.0, 0.0])]
    with pytest.raises(InputError, match="no tokenizer is at hand"):
        fit(SelectSettings(policy="stm:2 & class:number"), lambda: rows)
    assert factors(choose(rows, "class:special", paper_exact=True)[0]) == [0, 1]
    assert factors(choose(rows, "class:not:special", paper_exact=True)[0]) == [1, 0]
    assert parse_policy("random:(stm:2 & class:number)@larger").traits.token_texts
    assert parse_policy("stm:2 & keep:class:number").traits.token_texts
    found = repr(parse_policy("class:word+number"))
    assert found == "OfClass(classes=Classes(names=('number', 'word'), others=False))"
