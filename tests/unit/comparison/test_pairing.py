"""Comparison of evaluations: unlike settings, seeds, groups, the gate, a base of zero, the forms out."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.toy_tasks import says, toy_task

from tokensieve import metrics
from tokensieve.cli import main
from tokensieve.comparison import Answer, EvaluationAnswers, compare, parse_max_drop, to_json, to_latex, to_markdown
from tokensieve.comparison.render import flip_lines
from tokensieve.config import EvaluateSettings, SampleSettings
from tokensieve.data.dataset import Rows
from tokensieve.errors import InputError
from tokensieve.evaluation import EvalResult, evaluate
from tokensieve.tasks import TASKS
from tokensieve.types import Outcome


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("toy", "other"):
        monkeypatch.setitem(TASKS, name, toy_task(name, 12))


def made(
    answers: Callable[[int], str] = str,
    out: Path | None = None,
    sampling: SampleSettings | None = None,
    **changes: object,
) -> EvalResult:
    settings = EvaluateSettings(tasks=("toy", "other"), sampling=sampling or SampleSettings())
    return evaluate(says(answers), settings.model_copy(update=changes), out)


def with_model(result: EvalResult, **changes: object) -> EvalResult:
    """The same answers, as if by a model of another identity."""
    manifest = result.rows.manifest
    assert manifest.model is not None
    model = manifest.model.model_copy(update=changes)
    return EvalResult(Rows(manifest.model_copy(update={"model": model}), result.rows.iterate))


def older(result: EvalResult) -> EvalResult:
    """The same evaluation as it was written before the rule for cut-off answers could be chosen."""
    manifest = result.rows.manifest
    settings = {name: value for name, value in manifest.settings.items() if name != "cut_off"}
    return EvalResult(Rows(manifest.model_copy(update={"settings": settings}), result.rows.iterate))


SETTINGS: list[tuple[dict[str, object], str]] = [
    ({"sampling": SampleSettings(max_new_tokens=4)}, "sampling.max_new_tokens: not said and 4"),
    ({"sampling": SampleSettings(temperature=0.7)}, "sampling.temperature: 0.0 and 0.7"),
    ({"sampling": SampleSettings(top_p=0.9)}, "sampling.top_p: 1.0 and 0.9"),
    ({"cut_off": "wrong"}, "cut-off answers: judge and wrong"),
]


@pytest.mark.parametrize(("changes", "words"), SETTINGS)
def test_unlike_settings_are_refused_or_named(changes: dict[str, object], words: str) -> None:
    before, after = made(), made(lambda n: "9", **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=words):
        compare(before, after, "toy")
    found = compare(before, after, "toy", allow_unlike=True)
    name, _, values = words.partition(": ")
    ours, _, theirs = values.partition(" and ")
    expected = (name, ours.replace("not said", ""), theirs)
    assert expected in [(d.setting, d.before, d.after) for d in found.differences]
    assert f"differs: {name}" in to_markdown(found).replace("\\", "")


def test_settings_that_change_no_answer_may_differ() -> None:
    sampling = SampleSettings(batch_size=3, seed=5)
    assert compare(made(), made(sampling=sampling, limit=500), "toy").differences == ()


def test_a_seed_counts_where_answers_are_sampled() -> None:
    first, second = (made(sampling=SampleSettings(temperature=1.0, seed=seed)) for seed in (0, 1))
    with pytest.raises(InputError, match=r"sampling\.seed: 0 and 1"):
        compare(first, second)


@pytest.mark.parametrize("field", ["tokenizer_digest", "template_digest", "dtype", "quantisation", "backend"])
def test_how_the_model_was_run_is_named(field: str) -> None:
    found = compare(made(), with_model(made(), **{field: "another"}), "toy")
    (difference,) = found.differences
    assert (difference.setting, difference.after) == (field.replace("_", " "), "another")


def test_unlike_problems_are_refused_or_left_out() -> None:
    before, after = made(), made(limit=8)
    with pytest.raises(InputError, match="4 answers have no partner, such as toy/test/10"):
        compare(before, after, "toy")
    found = compare(before, after, "toy", allow_unlike=True)
    assert [change.problems for change in found.changes] == [8, 8]
    assert "toy: 4 answers without a partner are left out" in found.notes


def test_two_answers_under_one_number_are_refused() -> None:
    once, twice = answers([True, False]), answers([True, False])
    twice = replace(twice, rows=(*twice.rows, twice.rows[0]))
    for pair in ((once, twice), (twice, once)):
        with pytest.raises(InputError, match=r"problem '0' has 2 answers with the number 0"):
            compare(*pair, allow_unlike=True)
    several = replace(twice, rows=(*once.rows, *(replace(row, sample=1) for row in once.rows)))
    assert compare(several, several).changes[0].before.answers == 4


def test_a_comparison_of_no_task_is_refused() -> None:
    with pytest.raises(InputError, match="no task to compare"):
        compare(answers([True]), answers([False]), others=(), max_drop=2)


def test_problems_of_another_text_under_the_same_ids_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = made()
    task = toy_task("toy", 12)
    load = task.load
    monkeypatch.setitem(
        TASKS, "toy", replace(task, load=lambda s, f: (replace(p, gold=f"{p.gold}0") for p in load(s, f)))
    )
    with pytest.raises(InputError, match="problems of toy"):
        compare(before, made(), "toy")
    assert compare(before, made(), "other", others=()).differences == ()


def test_the_same_model_and_tasks_of_one_side_are_named() -> None:
    before = made()
    settings = EvaluateSettings(tasks=("toy", "other"))
    wider = EvaluateSettings(tasks=("toy",))
    with pytest.raises(InputError, match="'other' was not evaluated after"):
        compare(evaluate(says(str), settings), evaluate(says(str), wider))
    found = compare(evaluate(says(str), wider), before)
    assert any("not compared, since the base was not evaluated on them: other" in note for note in found.notes)
    same = with_model(before, weights_digest="w")
    assert any("the same model" in note for note in compare(same, same).notes)


def test_older_folders_hold_the_strict_rule() -> None:
    cut_off = made(lambda n: f"{n}…")
    strict = older(made(lambda n: f"{n}…", cut_off="wrong"))
    with pytest.raises(InputError, match="cut-off answers: wrong and judge") as raised:
        compare(strict, cut_off, "toy")
    assert raised.value.fix is not None
    assert "--cut-off wrong" in raised.value.fix
    found = compare(strict, cut_off, "toy", cut_off="wrong")
    assert [change.difference.points.value for change in found.changes] == [0, 0]


def answers(correct: list[bool], task: str = "t", groups: list[str] | None = None) -> EvaluationAnswers:
    rows = tuple(
        Answer(task, f"{n}", Outcome.CORRECT if right else Outcome.WRONG, group=groups[n] if groups else "")
        for n, right in enumerate(correct)
    )
    return EvaluationAnswers("memory", rows)


def test_several_runs_are_seeds_of_one_training() -> None:
    before = answers([True] * 30 + [False] * 10)
    runs = [answers([True] * (20 + 4 * k) + [False] * (20 - 4 * k)) for k in range(3)]
    found = compare(before, runs, "t")
    (change,) = found.changes
    assert change.difference.points.value == pytest.approx(-15)
    assert change.difference.test == "bootstrap"
    assert {flip.run for flip in change.flips} == {0, 1, 2} - {f for f in range(3) if 20 + 4 * f == 30}
    flags = {"t": np.arange(40) < 30}
    after = [{"t": np.arange(40) < 20 + 4 * k} for k in range(3)]
    assert found.forgetting == metrics.forgetting(flags, after, "t")


def test_groups_widen_the_interval() -> None:
    groups = [f"{n // 20}" for n in range(400)]
    lost = [n // 20 in (0, 1, 2) for n in range(400)]
    plain = compare(answers([True] * 400), answers([not x for x in lost]))
    grouped = compare(answers([True] * 400, groups=groups), answers([not x for x in lost], groups=groups))
    narrow, wide = (np.ptp(c.changes[0].difference.interval) for c in (plain, grouped))
    assert wide > 2 * narrow


@pytest.mark.parametrize(
    ("n", "lost", "max_drop", "decision"),
    [
        (2000, 10, "2%", "passed"),
        (2000, 400, "2%", "failed"),
        (50, 0, "2%", "undecided"),
        (50, 2, 2, "undecided"),
        (50, 0, "20", "passed"),
    ],
)
def test_the_gate_is_decided_on_the_interval(n: int, lost: int, max_drop: str | float, decision: str) -> None:
    found = compare(answers([True] * n), answers([False] * lost + [True] * (n - lost)), max_drop=max_drop)
    assert found.gate is not None
    assert found.gate.decisions == {"t": decision}
    assert found.gate.ok == (decision == "passed")


@pytest.mark.parametrize("text", ["two", "-1", "2 points", "101", "", "2%%"])
def test_a_gate_that_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected percentage points"):
        parse_max_drop(text)


def test_a_base_of_zero_is_said_and_passes_the_gate() -> None:
    found = compare(answers([False] * 9), answers([False] * 9), "t", max_drop="2%")
    assert found.notes == ("t: the base solves none of its problems, so no drop can be seen",)
    assert found.gate is not None
    assert found.gate.ok


def test_wrong_format_is_told_apart_from_wrong_answers() -> None:
    before = made()
    after = made(lambda n: "none" if n < 3 else "7…" if n == 4 else "99" if n == 5 else str(n), cut_off="judge")
    change = compare(before, after, "toy").changes[0]
    assert (change.lost, change.lost_format, change.lost_cut_off) == (5, 3, 1)
    assert change.after.outcomes[Outcome.NO_ANSWER] == 3
    text = to_markdown(compare(before, after, "toy"), flips=1)
    assert "of 5 lost, 3 for want of an answer, 1 were cut off" in text
    assert "```\nnone\n```" in text


def test_a_flip_without_its_text_says_so() -> None:
    found = compare(answers([True]), answers([False]), "t")
    assert "(no text)" in to_markdown(found, flips=1)
    assert flip_lines(found.changes[0].flips[0], 60)[1:] == [
        "  before (correct): (no text)",
        "  after  (wrong): (no text)",
    ]


def test_the_paper_s_check_values() -> None:
    sizes = {"mbpp": (378, 0.5106, 0.3995), "math": (1000, 0.281, 0.229), "arc": (1172, 0.7474, 0.7159)}
    sizes |= {"gsm8k": (1319, 0.5845, 0.1926), "bird": (1534, 0.1389, 0.0514)}

    def side(place: int) -> EvaluationAnswers:
        rows = tuple(
            Answer(task, f"{n}", Outcome.CORRECT if n < round(values[0] * values[place]) else Outcome.WRONG)
            for task, values in sizes.items()
            for n in range(int(values[0]))
        )
        return EvaluationAnswers("memory", rows)

    found = compare(side(1), side(2), "mbpp").forgetting
    assert found is not None
    assert found.bwt.value == pytest.approx(-38.19, abs=0.1)
    assert found.ti.value == pytest.approx(-21.76, abs=0.1)


def test_forms_out() -> None:
    found = compare(answers([True] * 9 + [False], "a_b"), answers([False] * 9 + [True], "a_b"), "a_b", max_drop="2%")
    content = json.loads(to_json(found))
    (task,) = content["tasks"]
    assert (task["task"], task["lost"], task["gained"], task["test"]) == ("a_b", 9, 1, "McNemar, exact")
    assert len(task["flips"]) == 10
    assert content["forgetting"]["bwt"]["value"] is None
    assert content["gate"] == {"max_drop": 2.0, "decisions": {"a_b": "failed"}, "ok": False}
    assert "| a\\_b | 10 | 90.0 % | 10.0 % | -80.0 (" in to_markdown(found)
    latex = to_latex(found)
    assert "a\\_b & 10 & 90.0 \\% & 10.0 \\% & -80.0 (" in latex
    assert latex.count("\\\\") == 2


@pytest.mark.parametrize(
    ("other", "words"),
    [(7, "expected an evaluation, got int"), ("absent", "no such file"), ({}, "got dict"), ([], "no evaluation")],
)
def test_what_is_no_evaluation_is_refused(other: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        compare(answers([True]), other)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("a", "1\n2,1\n"), ("b", "1\n2,0\n"), ("c", "0\n2,0\n")):
        (tmp_path / f"{name}.csv").write_text(f"id,correct,task\n1,{text.strip().replace(chr(10), ',t' + chr(10))},t\n")
    base, *tuned = (str(tmp_path / f"{name}.csv") for name in "abc")
    assert main(["compare", base, *tuned, "--target", "t"]) == 0
    printed = capsys.readouterr().out
    assert "b.csv" in printed
    assert "c.csv" in printed
    assert main(["compare", base, *tuned, "--seeds", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["difference_points"]["value"] == -75
    assert main(["compare", base, tuned[0], "--max-drop", "2%"]) == 1
    assert "gate 2 points: t undecided, too few problems" in capsys.readouterr().out
    assert main(["compare", base, tuned[0], "--max-drop", "some"]) == 2
    assert main(["compare", base]) == 2
