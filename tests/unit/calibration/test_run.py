"""A whole calibration on the embedded model, with sizes that only show that it works."""

from pathlib import Path

import pytest

from tokensieve.calibration import calibrate
from tokensieve.config import (
    AnchorSettings,
    CalibrateSettings,
    DataSettings,
    DriftSettings,
    ModelSettings,
    PilotSettings,
    ProbeSettings,
    SearchSettings,
    TrainSettings,
)
from tokensieve.errors import InputError
from tokensieve.pipeline import first, load
from tokensieve.scoring import score
from tokensieve.study.recipes import read_recipe

BASE = ModelSettings(model="pocket")
RULES = CalibrateSettings(
    task="pocket_sql_house",
    limit=3,
    candidates=("stm:2.5", "plain + anchors"),
    rates=(1e-4,),
    search=SearchSettings(rungs=(0.5, 1.0), epoch_factors=(2.0,)),
    others=("pocket_words",),
    anchors=AnchorSettings(candidates=6, count=3, max_new_tokens=48, pilot=PilotSettings(rows=4, batch_size=4)),
    drift=DriftSettings(dialogues=4, max_new_tokens=48),
)
TRAINING = TrainSettings(method="full", epochs=1, batch_size=4, warmup_steps=0)


def test_trials_are_kept_and_the_choice_is_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = score(load("task:pocket_sql_house/train", BASE, DataSettings(limit=8)), BASE)
    told: list[tuple[str, str, int, int]] = []
    found = calibrate(scored, BASE, RULES, tmp_path / "out", TRAINING, lambda *what: told.append(what))
    assert [[trial.share for trial in rung] for rung in found.rungs] == [[0.5, 0.5], [1.0, 1.0]]
    trained = [title for title in dict.fromkeys(title for title, *_ in told) if title.startswith("trial")]
    assert [title.partition(" of about")[0] for title in trained] == [f"trial {number}" for number in range(1, 7)]
    assert trained[-1].endswith("2 times the epochs")
    assert {title for title, *_ in told} - {*trained} == {"train the pilot", "draw anchor candidates", "measure drift"}
    assert all(0 <= done <= total for _, _, done, total in told)
    assert len(found.interpolated) == 3
    assert [trial.candidate.epoch_factor for trial in found.longer] == [2.0, 2.0]
    assert {(trial.candidate.alpha, trial.share) for trial in found.interpolated} == {(0.5, 1.0)}
    whole = {trial.candidate.policy: trial.drift for trial in found.rungs[1]}
    assert all(
        0 < trial.drift < whole[trial.candidate.policy]
        for trial in found.interpolated
        if trial.candidate.epoch_factor == 1.0
    )
    assert {trial.candidate.policy for trial in found.rungs[1]} == {"stm:2.5", "plain"}
    assert all(trial.drift > 0 and trial.nll > 0 and trial.accuracy is not None for trial in found.rungs[1])
    recipe = read_recipe(tmp_path / "out" / "recipe.yaml")
    assert [arm.name for arm in recipe.arms] == ["plain", "STM 2.5", "calibrated"]
    assert (recipe.arms[2].policy, recipe.arms[2].alpha) == (found.chosen.policy, found.chosen.alpha)
    own = recipe.arms[2].train or {}
    assert own.get("epochs", TRAINING.epochs) == TRAINING.epochs * found.chosen.epoch_factor
    assert recipe.targets[0].others == ("pocket_words",)
    assert recipe.notes == found.reasons
    (tmp_path / "out" / "recipe.yaml").write_text("edited: by hand\n")
    monkeypatch.setattr("tokensieve.calibration.trials.train", lambda *_: pytest.fail("trained again"))
    assert calibrate(scored, BASE, RULES, tmp_path / "out", TRAINING) == found
    assert (tmp_path / "out" / "recipe.yaml").read_text() == "edited: by hand\n"
    others = (
        (first(scored, 4), RULES, TRAINING),
        (scored, RULES.model_copy(update={"limit": 2}), TRAINING),
        (scored, RULES, TRAINING.model_copy(update={"batch_size": 3})),
    )
    for rows, rules, training in others:
        with pytest.raises(InputError, match="something else than this call"):
            calibrate(rows, BASE, rules, tmp_path / "out", training)


@pytest.mark.parametrize("rules", [CalibrateSettings(), CalibrateSettings(task="a", rows="b")])
def test_a_target_is_needed(tmp_path: Path, rules: CalibrateSettings) -> None:
    scored = score(load([{"prompt": "a", "completion": "b"}], BASE), BASE)
    with pytest.raises(InputError, match="expected a target"):
        calibrate(scored, BASE, rules, tmp_path / "out")


@pytest.mark.parametrize(("share", "policy", "anchors"), [(0.001, "plain", True), (0.99, "stm:2.5", False)])
def test_the_probe_alone_decides_by_rule(tmp_path: Path, share: float, policy: str, anchors: bool) -> None:
    scored = score(load("task:pocket_sql_house/train", BASE, DataSettings(limit=8)), BASE)
    rules = RULES.model_copy(update={"by": "rule", "probe": ProbeSettings(lesson_share=share)})
    found = calibrate(scored, BASE, rules, tmp_path / "out", TRAINING)
    assert (found.chosen.policy, found.chosen.anchors) == (policy, anchors)
    assert found.chosen.learning_rate == TRAINING.learning_rate
    assert not found.rungs
    assert not found.interpolated
    assert found.probe.unlikely_before > found.probe.unlikely_after > 0
    assert read_recipe(tmp_path / "out" / "recipe.yaml").arms[2].policy == policy
