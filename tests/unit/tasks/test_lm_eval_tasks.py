"""Tasks of lm-evaluation-harness: spelled, asked, judged and kept as tasks of ours; all on rows of the test's own."""

import sys
from pathlib import Path

import pytest
from tests.harness_tasks import ROWS, WEIGHED, WRITTEN, write_task

from tokensieve.comparison import compare
from tokensieve.config import EvaluateSettings
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.evaluation import evaluate, open_evaluation
from tokensieve.sampling import ScriptedSampler
from tokensieve.tasks import get_task
from tokensieve.tasks.lm_eval_adapter import read_leaves
from tokensieve.types import Outcome, Problem

# The harness and what it imports warn of much that is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (extra lm-eval)")
    read_leaves.cache_clear()
    write_task(tmp_path, WRITTEN)
    write_task(tmp_path, WEIGHED)
    return tmp_path


def only(folder: Path, name: str) -> Problem:
    return next(get_task(f"lm-eval:{folder}/{name}").load("test", None))


@pytest.mark.parametrize("name", ["lm-eval:ifeval"])
def test_without_the_harness_its_install_line_is_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read_leaves.cache_clear()
    for module in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(EnvironmentProblem, match=r"lm-eval:ifeval: .*not installed\n.*tokensieve\[lm-eval\]"):
        get_task(name)


def test_a_task_is_its_name_rows_and_limits(folder: Path) -> None:
    task = get_task(f"lm-eval:{folder}/sums")
    assert (task.name, task.splits, task.max_new_tokens) == ("lm-eval:sums", ("test",), 24)
    problems = list(task.load("test", None))
    assert [problem.id for problem in problems] == [f"lm-eval:sums/test/{number}" for number in range(len(ROWS))]
    assert problems[0].prompt == ({"role": "user", "content": "What is 1 + 1?"},)
    assert problems[0].gold == "2"
    assert get_task(f"lm-eval:{folder}/sums.yaml").name == "lm-eval:sums"
    with pytest.raises(InputError, match="no split 'train'"):
        list(task.load("train", None))


def test_few_shot_examples_are_turns_of_their_own_and_the_same_every_time(folder: Path) -> None:
    write_task(folder, {**WRITTEN, "task": "shots", "num_fewshot": 2, "fewshot_split": "test"})
    task = get_task(f"lm-eval:{folder}/shots")
    first, second = (list(task.load("test", None)) for _ in range(2))
    assert [turn["role"] for turn in first[0].prompt] == ["user", "assistant", "user", "assistant", "user"]
    assert first == second


def test_an_answer_is_judged_by_metric_and_filter(folder: Path) -> None:
    problem = only(folder, "sums")
    by_number = get_task(f"lm-eval:{folder}/sums")
    found = by_number.check(problem, "It is 2, I think")
    assert (found.outcome, found.extracted, found.reason) == (Outcome.CORRECT, "2", "exact_match 1.0")
    assert by_number.check(problem, "It is 3").outcome is Outcome.WRONG
    whole = get_task(f"lm-eval:{folder}/sums:exact_match,whole")
    assert whole.name == "lm-eval:sums:exact_match,whole"
    assert whole.check(problem, "It is 2, I think").outcome is Outcome.WRONG
    assert whole.check(problem, "2").outcome is Outcome.CORRECT


def test_an_answer_ends_at_the_task_s_stop_text(folder: Path) -> None:
    sampler = ScriptedSampler(lambda request, index: "2\n\nWhat is 3 + 3? 6…")
    result = evaluate(sampler, EvaluateSettings(tasks=(f"lm-eval:{folder}/sums:exact_match,whole",), limit=1))
    (sample,) = result.rows
    assert (sample.text, sample.finished) == ("2", True)
    assert sample.verdict is not None
    assert sample.verdict.correct


def test_evaluations_lie_in_folders_and_compare(folder: Path, tmp_path: Path) -> None:
    settings = EvaluateSettings(tasks=(f"lm-eval:{folder}/sums",))
    gold = {f"lm-eval:sums/test/{number}": [str(row["answer"])] for number, row in enumerate(ROWS)}
    evaluate(ScriptedSampler(gold), settings, tmp_path / "before")
    evaluate(ScriptedSampler(lambda request, _: "2"), settings, tmp_path / "after")
    before, after = open_evaluation(tmp_path / "before"), open_evaluation(tmp_path / "after")
    assert [sample.verdict.reason for sample in before.rows if sample.verdict] == ["exact_match 1.0"] * 4
    (change,) = compare(before, after, "lm-eval:sums").changes
    assert (change.gained, change.lost) == (0, 3)


def test_a_model_weighs_the_choices(folder: Path) -> None:
    name = f"lm-eval:{folder}/choices"
    result = evaluate("pocket", EvaluateSettings(tasks=(name, f"{name}:acc_norm")))
    samples = list(result.rows)
    assert [sample.task for sample in samples] == ["lm-eval:choices"] * 4 + ["lm-eval:choices:acc_norm"] * 4
    for sample, row in zip(samples, ROWS * 2, strict=True):
        assert sample.verdict is not None
        assert sample.verdict.extracted == sample.text
        assert sample.text in row["choices"]  # type: ignore[operator]
        assert sample.ids
        right = sample.text == row["choices"][row["label"]]  # type: ignore[index]
        assert sample.verdict.correct == right
    with pytest.raises(InputError, match="a model in this process"):
        evaluate(ScriptedSampler({}), EvaluateSettings(tasks=(name,)))


def test_a_group_is_all_of_its_tasks(folder: Path) -> None:
    write_task(folder, {**WEIGHED, "task": "more"})
    (folder / "both.yaml").write_text("group: both\ntask: [choices, more]\n", encoding="utf-8")
    problems = list(get_task(f"lm-eval:{folder}/both").load("test", None))
    assert [problem.id for problem in problems[::4]] == ["lm-eval:choices/test/0", "lm-eval:more/test/0"]
    assert {problem.task for problem in problems} == {"lm-eval:both"}
    (folder / "unlike.yaml").write_text("group: unlike\ntask: [choices, sums]\n", encoding="utf-8")
    with pytest.raises(InputError, match="some tasks of this group are answered in writing"):
        get_task(f"lm-eval:{folder}/unlike")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unsafe_code": True}, "outside of a sandbox"),
        ({"output_type": "loglikelihood_rolling", "metric_list": [{"metric": "word_perplexity"}]}, "perplexity"),
        ({"doc_to_text": "{{nothing}}", "doc_to_target": "{{nothing[0]}}"}, "cannot read it"),
    ],
)
def test_what_has_no_right_answers_here_is_refused(folder: Path, changes: dict[str, object], said: str) -> None:
    write_task(folder, {**WRITTEN, "task": "odd", **changes})
    with pytest.raises(InputError, match=said):
        get_task(f"lm-eval:{folder}/odd")


def test_an_answer_begun_by_the_harness_is_refused(folder: Path) -> None:
    write_task(folder, {**WRITTEN, "task": "begun", "gen_prefix": "The sum is"})
    with pytest.raises(InputError, match="begins the answer itself"):
        list(get_task(f"lm-eval:{folder}/begun").load("test", None))


def test_unknown_names_are_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no task 'sum'.*\n.*near: sums"):
        get_task(f"lm-eval:{folder}/sum")
    with pytest.raises(InputError, match=r"no metric 'f1'\n.*exact_match"):
        get_task(f"lm-eval:{folder}/sums:f1")
    with pytest.raises(InputError, match=r"no filter 'last'\n.*number, whole"):
        get_task(f"lm-eval:{folder}/sums:exact_match,last")
    with pytest.raises(InputError, match="no such file"):
        get_task(f"lm-eval:{folder}/absent.yaml")


def test_a_grade_is_no_verdict(folder: Path) -> None:
    with pytest.raises(InputError, match=r"neither 0 nor 1.*\n.*acc, acc_norm"):
        evaluate("pocket", EvaluateSettings(tasks=(f"lm-eval:{folder}/choices:brier_score",), limit=1))


def test_ifeval_judges_by_its_own_instructions(folder: Path) -> None:
    lm_eval = pytest.importorskip("lm_eval")
    for needed in ("langdetect", "immutabledict", "nltk"):
        pytest.importorskip(needed, reason="ifeval's own packages are not installed (extra lm-eval)")
    row: dict[str, object] = {
        "key": 1,
        "prompt": "Name a colour. Use no commas.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{}],
    }
    own = str(Path(lm_eval.__file__).parent / "tasks" / "ifeval" / "ifeval.yaml")
    write_task(folder, {"include": own, "task": "ifeval_here"}, [row])
    task = get_task(f"lm-eval:{folder}/ifeval_here")
    (problem,) = task.load("test", None)
    assert task.check(problem, "Red").outcome is Outcome.CORRECT
    refused = task.check(problem, "Red, or blue")
    assert refused.outcome is Outcome.WRONG
    assert "prompt_level_strict_acc False" in refused.reason
