"""Training runs that are held to the base by KL on anchors."""

from pathlib import Path

import numpy as np
import pytest
from tests.selected_rows import make_rows
from tests.unit.training.test_train import QUICK, same, settings, weights_of

from tokensieve.config import KlSettings, MachineSettings, ModelSettings, ObjectiveSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.drift import row_divergences
from tokensieve.errors import InputError
from tokensieve.models import load_model
from tokensieve.scoring.response_states import top_log_probs
from tokensieve.training import train
from tokensieve.types import Anchor, Tokens


@pytest.fixture
def base(tiny_folder: Path) -> ModelSettings:
    return ModelSettings(model=str(tiny_folder))


def probe_rows(n: int = 6) -> list[Tokens]:
    return [row.tokens for row in make_rows(seed=5, n=n)]


@pytest.fixture
def anchors(base: ModelSettings, tmp_path: Path) -> Path:
    loaded = load_model(base)
    rows = probe_rows()
    made = [Anchor(row, *top) for row, top in zip(rows, top_log_probs(rows, loaded, 32), strict=True)]
    in_memory(made, Manifest(stage="anchors", model=loaded.identity)).save(tmp_path / "anchors")
    return tmp_path / "anchors"


def drift_of(base: ModelSettings, tuned: ModelSettings) -> float:
    return float(np.concatenate([one.kl_N for one in row_divergences(probe_rows(), base, tuned)]).mean())


def test_anchors_keep_the_model_near_its_base(base: ModelSettings, anchors: Path, tmp_path: Path) -> None:
    rules = settings(epochs=6)
    free = train(make_rows(), base, rules, tmp_path / "free")
    held = train(
        make_rows(),
        base,
        rules.model_copy(update={"objective": ObjectiveSettings(kl=KlSettings(anchors=anchors, weight=5.0))}),
        tmp_path / "held",
    )
    assert drift_of(base, held.on(base)) < 0.5 * drift_of(base, free.on(base))
    assert held.log[0].anchor_kl == pytest.approx(0.0, abs=1e-5), "before the first step there is no drift"
    assert held.log[-1].anchor_kl > 0
    assert held.log[0].loss == pytest.approx(free.log[0].loss, rel=1e-4), "the logged loss is of the rows alone"
    assert {step.kl_weight for step in held.log} == {5.0}
    assert all(np.isnan(step.anchor_kl) for step in free.log)


def test_a_weight_of_0_changes_nothing(base: ModelSettings, anchors: Path, tmp_path: Path) -> None:
    free = train(make_rows(), base, QUICK, tmp_path / "free")
    weighted = settings(objective=ObjectiveSettings(kl=KlSettings(anchors=anchors, weight=0.0)))
    assert same(weights_of(free, base), weights_of(train(make_rows(), base, weighted, tmp_path / "kl"), base), 1e-5)


@pytest.mark.parametrize("change", [{"packing": True}, {"micro_batch_size": 1}, {"micro_batch_size": 2}], ids=str)
def test_portions_and_packing_do_not_change_the_result(
    base: ModelSettings, anchors: Path, tmp_path: Path, change: dict[str, int]
) -> None:
    rules = settings(objective=ObjectiveSettings(kl=KlSettings(anchors=anchors, weight=5.0, rows=3, budget=1e-4)))
    whole = train(make_rows(), base, rules, tmp_path / "whole")
    parts = train(
        make_rows(), base, rules.model_copy(update={"machine": MachineSettings(**change)}), tmp_path / "parts"
    )
    # A step's KL is the square of a small change, so float rounding shows more there than in the loss.
    for name, relative in (("loss", 2e-3), ("anchor_kl", 3e-2), ("kl_weight", 3e-2)):
        ours, theirs = ([getattr(step, name) for step in run.log] for run in (whole, parts))
        assert ours == pytest.approx(theirs, rel=relative, abs=1e-6), name
    assert whole.log[-1].kl_weight > whole.log[1].kl_weight, "the weight follows the drift above its budget"
    assert same(weights_of(whole, base), weights_of(parts, base), 2e-3)


def test_lora_is_held_too(base: ModelSettings, anchors: Path, tmp_path: Path) -> None:
    rules = settings(method="lora", epochs=6)
    free = train(make_rows(), base, rules, tmp_path / "free")
    held = train(
        make_rows(),
        base,
        rules.model_copy(update={"objective": ObjectiveSettings(kl=KlSettings(anchors=anchors, weight=20.0))}),
        tmp_path / "held",
    )
    assert drift_of(base, held.on(base)) < 0.7 * drift_of(base, free.on(base))


def test_anchors_of_another_model_and_other_folders_are_refused(
    base: ModelSettings, anchors: Path, tmp_path: Path
) -> None:
    tuned = train(make_rows(), base, QUICK, tmp_path / "tuned").on(base)
    rules = settings(objective=ObjectiveSettings(kl=KlSettings(anchors=anchors)))
    with pytest.raises(InputError, match="weights digest is not that of"):
        train(make_rows(), tuned, rules, tmp_path / "again")
    make_rows().save(tmp_path / "rows")
    with pytest.raises(InputError, match="expected a folder of anchors, got one of selected rows"):
        train(
            make_rows(),
            base,
            settings(objective=ObjectiveSettings(kl=KlSettings(anchors=tmp_path / "rows"))),
            tmp_path / "x",
        )
