"""The plan of targets in a row, and of arms that make their rows in their own way."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from tokensieve.config import StudySettings
from tokensieve.models import load_tokenizer
from tokensieve.study.jobs import jobs_of
from tokensieve.study.plan import Plan
from tokensieve.study.runner import prepare
from tokensieve.tasks import TASKS

FIRST = {"task": "pocket_words", "others": ["pocket_choice"]}
SECOND = {"task": "pocket_sql_house", "others": ["pocket_words"], "after": "pocket_words"}
OWN = {"name": "own", "data": "self_output", "generate": {"correct_share": 0.5}}


def study(**changes: object) -> StudySettings:
    given = {"name": "n", "targets": [FIRST, SECOND], "arms": [{"name": "plain"}], "seeds": [0, 1], **changes}
    return StudySettings.model_validate(given)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    held = {"name": "held", "anchors": {"count": 4}}
    settings = study(arms=[{"name": "plain"}, held, OWN], evaluate={"drift": {"dialogues": 4}, "update": True})
    return prepare(settings, tmp_path_factory.mktemp("root")).plan


def test_every_arm_goes_on_from_its_own_model_seed_by_seed(plan: Plan) -> None:
    first, second = plan.targets
    for before, after in zip(first.arms, second.arms, strict=True):
        for earlier, run in zip(before.runs, after.runs, strict=True):
            assert earlier.seed == run.seed
            assert earlier.train in run.train.needs
            assert after.rows[run.seed].scores[0].needs[-1] is earlier.train, "the model that is trained scores"
            assert run.start["pocket_words"].key == earlier.evaluations["pocket_words"].key, "it is made once"
            assert set(run.start) == set(run.evaluations)
            assert not earlier.start
    assert len({rows.scores[0].key for rows in second.arms[0].rows.values()}) == 2
    assert len({rows.scores[0].key for rows in first.arms[0].rows.values()}) == 1


def test_steps_come_after_what_they_need(plan: Plan) -> None:
    made: set[str] = set()
    for step in plan.steps():
        assert {need.key for need in step.needs} <= made
        made.add(step.key)
    jobs = jobs_of(plan, plan.steps())
    assert sorted(step.key for job in jobs for step in job.steps) == sorted(made)


def test_a_target_after_another_is_another_step_than_that_target_alone(tmp_path: Path, plan: Plan) -> None:
    alone = study(targets=[FIRST, {**SECOND, "after": ""}], arms=[{"name": "plain"}])
    first, second = prepare(alone, tmp_path).plan.targets
    assert first.arms[0].runs[0].train.key == plan.targets[0].arms[0].runs[0].train.key
    assert second.arms[0].runs[0].train.key != plan.targets[1].arms[0].runs[0].train.key


def test_an_arms_own_generation_is_a_step_of_its_own(tmp_path: Path, plan: Plan) -> None:
    usual = {"name": "usual", "data": "self_output"}
    whole, half = prepare(study(targets=[FIRST], arms=[usual, OWN]), tmp_path).plan.targets[0].arms
    made = [arm.first_rows.generate for arm in (whole, half)]
    assert [one.label for one in made if one] == ["pocket_words · self_output", "pocket_words · self_output · own"]
    assert made[0] != made[1]
    at_half = study(targets=[FIRST], arms=[usual], generate={"correct_share": 0.5})
    (same,) = prepare(at_half, tmp_path).plan.targets[0].arms
    assert same.first_rows.generate is not None
    assert made[1] is not None
    assert same.first_rows.generate.key == made[1].key, "where a setting is given makes no other result"


def test_an_arms_own_generation_stands_in_place_of_the_studys() -> None:
    arm = {"name": "a", "data": "self_output", "generate": {"n": 2, "choose": "first"}}
    settings = study(targets=[FIRST], arms=[arm], generate={"sampling": {"n": 4, "top_p": 0.5}, "correct_share": 0.5})
    own = settings.generate_of(settings.arms[0])
    assert (own.sampling.n, own.sampling.top_p, own.choose, own.correct_share) == (2, 0.5, "first", 0.5)
    again = StudySettings.model_validate(settings.model_dump())
    assert again.generate_of(again.arms[0]) == own


def test_every_kind_of_step_that_takes_time_counts_in_the_estimate(plan: Plan) -> None:
    counted = {step.verb for step in plan.steps() if step.work}
    assert counted == {"generate", "score", "anchors", "train", "evaluate", "draw", "drift"}, "LoRA's updates are small"
    held = plan.targets[0].arms[1].runs[0]
    free = plan.targets[0].arms[0].runs[0].train.work
    assert held.train.work.trained == 2 * free.trained > 0, "as many anchors as rows in every step"


def test_candidates_and_pilots_that_searches_share_count_once(tmp_path: Path) -> None:
    arms = [
        {"name": "few", "anchors": {"count": 4}},
        {"name": "many", "anchors": {"count": 8}},
        {"name": "other rows", "anchors": {"count": 8, "candidates": 100}},
    ]
    planned = prepare(study(targets=[FIRST], arms=arms), tmp_path).plan.targets[0].arms
    few, many, other = (arm.first_rows.anchors[-1].work for arm in planned)
    assert few.drawn > other.drawn > 0
    assert not many


def test_updates_of_all_weights_count_and_likelihoods_cost_less_than_answers(tmp_path: Path) -> None:
    target = {"task": "pocket_words", "others": ["pocket_choice", "pocket_choice:response_nll"]}
    settings = study(targets=[target], train={"method": "full"}, evaluate={"update": True, "limit": 9})
    run = prepare(settings, tmp_path).plan.targets[0].arms[0].runs[0]
    assert run.update is not None
    assert run.update.work.spectra == 1
    assert run.evaluations["pocket_choice:response_nll"].work.drawn == 0 < run.evaluations["pocket_choice"].work.drawn


def test_work_is_counted_in_the_tokens_of_the_problems_themselves(tmp_path: Path) -> None:
    settings = study(targets=[FIRST], data={"limit": 8})
    run, epochs = prepare(settings, tmp_path).plan.targets[0].arms[0].runs[0], settings.train.epochs
    tokenizer = load_tokenizer("pocket")
    problems = list(TASKS["pocket_words"].problems("train", None, 8))
    texts = [text for one in problems for text in (one.prompt[-1]["content"], one.gold)]
    tokens = sum(len(ids) for ids in tokenizer(texts)["input_ids"])
    assert run.train.work.trained == pytest.approx(tokens * epochs, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": [SECOND]}, "after names an earlier target (none), not 'pocket_words'"),
        ({"targets": [SECOND, FIRST]}, "after names an earlier target"),
        ({"sweep": {"learning_rates": [1e-4, 2e-4]}}, "arm 'plain' has several learning rates"),
        ({"arms": [{"name": "a", "alpha": 0.5}]}, "arm 'a' is interpolated with the base (alpha)"),
        (
            {"arms": [{"name": "plain"}, {"name": "a", "targets": ["pocket_sql_house"]}]},
            "arm 'a' is not trained on 'pocket_words'",
        ),
        ({"arms": [{"name": "a", "generate": {"correct_share": 0}}]}, "generate has no effect on ground_truth data"),
        ({"arms": [{**OWN, "generate": {"corect_share": 0}}]}, "arms.0.generate.corect_share"),
        ({"arms": [{**OWN, "generate": {"correct_share": 2}}]}, "generate.correct_share"),
        ({"arms": [{**OWN, "generate": {"arm": "rephrase"}}]}, "arms.0.generate.arm"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        study(**changes)


def _keys(settings: StudySettings, root: Path) -> dict[str, set[str]]:
    keys: dict[str, set[str]] = {}
    for step in prepare(settings, root).plan.steps():
        keys.setdefault(step.verb, set()).add(step.key)
    return keys


@pytest.mark.parametrize(
    ("file", "before", "after", "changed"),
    [
        ("task.yaml", "ignore_case: true", "ignore_case: false", {"evaluate"}),
        ("task.yaml", "max_new_tokens: 8", "max_new_tokens: 9", {"evaluate"}),
        ("checks.py", "return True", "return False", {"evaluate"}),
        ("near_a_check.py", "limit = 1", "limit = 2", {"evaluate"}),
        ("held.txt", "one", "two", {"draw", "drift"}),
        ("anchors/rows.txt", "one", "two", {"train", "evaluate", "drift"}),
    ],
)
def test_a_changed_file_changes_the_steps_that_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, before: str, after: str, changed: set[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    by_function = file in ("checks.py", "near_a_check.py")
    check = (
        "{kind: function, function: 'checks.py:check'}"
        if by_function
        else "{kind: exact, answer: a, ignore_case: true}"
    )
    files = {
        "rows.jsonl": '{"q": "a", "a": "a"}\n',
        "task.yaml": f"name: own\nrows: {{test: rows.jsonl}}\nprompt: '{{{{ q }}}}'\ngold: '{{{{ a }}}}'\n"
        f"check: {check}\nmax_new_tokens: 8\n",
        "checks.py": "import near_a_check\n\ndef check(row, answer):\n    return True\n",
        "near_a_check.py": "limit = 1\n",
        "held.txt": "one\n",
        "anchors/rows.txt": "one\n",
    }
    (tmp_path / "anchors").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    settings = study(
        targets=[{"task": "pocket_words", "others": [str(tmp_path / "task.yaml")]}],
        seeds=[0],
        train={"objective": {"kl": {"anchors": str(tmp_path / "anchors")}}},
        evaluate={"drift": {"text": str(tmp_path / "held.txt")}},
    )
    first = _keys(settings, tmp_path / "run")
    (tmp_path / file).write_text(files[file].replace(before, after))
    second = _keys(settings, tmp_path / "run")
    assert {verb for verb in first if first[verb] != second[verb]} == changed
