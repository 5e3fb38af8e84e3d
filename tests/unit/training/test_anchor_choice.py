"""The choice of anchors by drift and at random; a second one while training: when, which, and what a log keeps."""

import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from tests.killed_training import train_and_die
from tests.selected_rows import make_rows
from tests.unit.training.test_train import settings, weights_of
from transformers import TrainerState

from tokensieve.config import AnchorSettings, KlSettings, MachineSettings, ModelSettings, ObjectiveSettings
from tokensieve.data.dataset import Rows, in_memory
from tokensieve.data.manifest import Manifest, digest_of_file
from tokensieve.drift import row_divergences
from tokensieve.errors import InputError
from tokensieve.models import load_model
from tokensieve.scoring.response_states import top_log_probs
from tokensieve.training import train
from tokensieve.training.anchor_choice import Refresh, choose, refresh_facts
from tokensieve.types import Anchor

DRIFTS = [0.1, 0.9, math.nan, 0.5, 0.9, 0.0, 0.3, 0.2]


def test_without_a_random_share_the_highest_drifts_are_taken() -> None:
    chosen = choose(DRIFTS, 3, 0.0, seed=0)
    assert [one.index for one in chosen] == [1, 3, 4]
    assert not any(one.at_random for one in chosen)


def test_a_random_share_comes_from_the_rest() -> None:
    seen = set()
    for seed in range(50):
        chosen = choose(DRIFTS, 4, 0.5, seed=seed)
        assert [one.index for one in chosen if not one.at_random] == [1, 4]
        drawn = [one.index for one in chosen if one.at_random]
        assert len(set(drawn)) == 2
        seen |= set(drawn)
    assert seen == {0, 3, 5, 6, 7}
    assert choose(DRIFTS, 4, 0.5, seed=3) == choose(DRIFTS, 4, 0.5, seed=3)


def test_no_more_than_there_are_and_never_one_without_a_drift() -> None:
    assert [one.index for one in choose(DRIFTS, 99, 0.3, seed=0)] == [0, 1, 3, 4, 5, 6, 7]
    assert all(one.at_random for one in choose(DRIFTS, 99, 1.0, seed=0))
    with pytest.raises(InputError, match="no candidate"):
        choose([math.nan], 1, 0.0, seed=0)


@pytest.fixture
def base(tiny_folder: Path) -> ModelSettings:
    return ModelSettings(model=str(tiny_folder))


@pytest.fixture
def folder(base: ModelSettings, tmp_path: Path) -> Path:
    """Two anchors out of six candidates."""
    loaded = load_model(base)
    rows = [row.tokens for row in make_rows(seed=5, n=6)]
    made = [Anchor(row, *top) for row, top in zip(rows, top_log_probs(rows, loaded, 320), strict=True)]
    rules = AnchorSettings(count=2, random_share=0.0).model_dump(mode="json")
    manifest = Manifest(stage="anchors", model=loaded.identity, settings=rules)
    in_memory(made[:2], manifest).save(tmp_path / "anchors")
    in_memory(made, manifest).save(tmp_path / "anchors" / "candidates")
    return tmp_path / "anchors"


def candidates_of(folder: Path) -> Rows[Anchor]:
    from tokensieve.data.dataset import open_rows_of

    return open_rows_of(Anchor, folder / "candidates")


def objective(folder: Path, refresh: float | None) -> ObjectiveSettings:
    return ObjectiveSettings(kl=KlSettings(anchors=folder, weight=5.0, rows=2, refresh=refresh))


def test_the_second_choice_is_where_the_model_has_drifted_most(base: ModelSettings, folder: Path) -> None:
    tuned = train(make_rows(), base, settings(), folder.parent / "tuned").on(base)
    model = load_model(tuned).model
    candidates = candidates_of(folder)
    refresh = Refresh(candidates, AnchorSettings(count=2, random_share=0.0), 0.5, 4, 3)
    state = TrainerState(global_step=3, max_steps=6)
    assert refresh.is_due(state)
    assert not refresh.is_due(TrainerState(global_step=2, max_steps=6))
    found = refresh.anchors(model.train(), state, lambda values: values)
    assert model.training
    drifts = [one.mean_kl for one in row_divergences([one.tokens for one in candidates], base, tuned)]
    expected = sorted(np.argsort(drifts)[-2:].tolist())
    assert [one.tokens.id for one in found] == [list(candidates)[place].tokens.id for place in expected]
    facts = cast("dict[str, dict[str, float]]", refresh_facts(state))
    mean = np.mean([drifts[place] for place in expected])
    assert facts["anchors_chosen_again"]["drift"] == pytest.approx(mean, rel=1e-3)
    again = refresh.anchors(cast(torch.nn.Module, None), state, lambda values: values)
    assert [one.tokens.id for one in again] == [one.tokens.id for one in found], "from the log, without a model"


def test_a_run_chooses_once_and_goes_on(base: ModelSettings, folder: Path, tmp_path: Path) -> None:
    kept, changed = (
        train(make_rows(), base, settings(epochs=3, objective=objective(folder, share)), tmp_path / f"run-{share}")
        for share in (None, 0.5)
    )
    assert [step.loss for step in changed.log[:3]] == [step.loss for step in kept.log[:3]]
    assert [step.loss for step in changed.log[4:]] != [step.loss for step in kept.log[4:]]
    assert changed.manifest.facts["anchors_chosen_again"]
    assert "anchors_chosen_again" not in kept.manifest.facts
    whole = weights_of(changed, base)
    rules = settings(
        epochs=3, objective=objective(folder, 0.5), machine=MachineSettings(micro_batch_size=2, packing=True)
    )
    parts = weights_of(train(make_rows(), base, rules, tmp_path / "parts"), base)
    assert all(torch.allclose(whole[name], parts[name], atol=2e-3, rtol=0) for name in whole)


_DIE_IN_THE_CHOICE = """
measure = anchor_choice.kl_of_batch

def measured_once(model, batch):
    measure(model, batch)
    die()

anchor_choice.kl_of_batch = measured_once
"""


def test_a_run_killed_while_it_chooses_again_ends_with_the_same_weights(
    base: ModelSettings, folder: Path, tmp_path: Path
) -> None:
    machine = MachineSettings(checkpoint_minutes=0.0, micro_batch_size=2)
    rules = settings(epochs=3, objective=objective(folder, 0.5), machine=machine)
    whole = train(make_rows(), base, rules, tmp_path / "whole")
    train_and_die(base, rules, tmp_path / "out", _DIE_IN_THE_CHOICE)
    saved = sorted((tmp_path / ".out.training" / "checkpoints").glob("checkpoint-*"))
    assert [path.name for path in saved] == ["checkpoint-2", "checkpoint-3"], "the choice is due before step 4"
    steps: list[int] = []
    resumed = train(make_rows(), base, rules, tmp_path / "out", lambda done, _: steps.append(done))
    assert steps[0] == 4
    assert resumed.manifest.facts["anchors_chosen_again"] == whole.manifest.facts["anchors_chosen_again"]
    weights = [digest_of_file(run.folder / "model.safetensors") for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_without_candidates_there_is_nothing_to_choose(base: ModelSettings, folder: Path, tmp_path: Path) -> None:
    (folder / "candidates" / "manifest.json").unlink()
    with pytest.raises(InputError, match="the folder holds no candidates"):
        train(make_rows(), base, settings(objective=objective(folder, 0.5)), tmp_path / "out")
    nothing = ObjectiveSettings(kl=KlSettings(refresh=0.5))
    with pytest.raises(InputError, match="no anchors to choose again"):
        train(make_rows(), base, settings(objective=nothing), tmp_path / "out")
