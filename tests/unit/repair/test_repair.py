"""Interpolated and repaired weights, and the choice among them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.selected_rows import make_rows
from tests.unit.training.test_train import settings as train_settings

from tokensieve.config import DriftSettings, LoraSettings, ModelSettings, RepairSettings
from tokensieve.drift import tuned_settings
from tokensieve.errors import InputError
from tokensieve.models import load_model
from tokensieve.repair import Candidate, choose, repair_model
from tokensieve.repair.candidates import interpolate, reduce_intruders
from tokensieve.training import train

IDS_BT = torch.arange(6, 30)[None]


@pytest.fixture
def base(tiny_folder: Path) -> ModelSettings:
    return ModelSettings(model=str(tiny_folder))


def tuned(base: ModelSettings, out: Path, method: str) -> Path:
    lora = LoraSettings(r=4, dora=method == "dora", dropout=0.0)
    rules = train_settings(method="full" if method == "full" else "lora", lora=lora, epochs=4, learning_rate=1e-2)
    return train(make_rows(), base, rules, out).folder


def weights(settings: ModelSettings) -> dict[str, torch.Tensor]:
    model = load_model(settings).model
    whole = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    return {name: value.detach().clone() for name, value in whole.named_parameters()}


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_every_weight_lies_on_the_line(base: ModelSettings, tmp_path: Path, method: str, alpha: float) -> None:
    after = tuned(base, tmp_path / "tuned", method)
    interpolate(after, base, alpha, tmp_path / "between")
    start, end = weights(base), weights(tuned_settings(str(after), base))
    found = weights(tuned_settings(str(tmp_path / "between"), base))
    assert any(not torch.equal(start[name], end[name]) for name in start)
    for name, value in found.items():
        torch.testing.assert_close(value, start[name] + alpha * (end[name] - start[name]), rtol=1e-5, atol=1e-6)


def test_dora_is_refused(base: ModelSettings, tmp_path: Path) -> None:
    after = tuned(base, tmp_path / "tuned", "dora")
    with pytest.raises(InputError, match="the update of DoRA"):
        interpolate(after, base, 0.5, tmp_path / "between")


def test_peft_keeps_the_share_of_intruders_that_its_lambda_names(base: ModelSettings, tmp_path: Path) -> None:
    after = tuned(base, tmp_path / "tuned", "lora")
    end = weights(tuned_settings(str(after), base))
    start = weights(base)
    moved = []
    for keep in (1.0, 0.5, 0.0):
        reduce_intruders(after, base, keep, tmp_path / f"kept-{keep}")
        found = weights(tuned_settings(str(tmp_path / f"kept-{keep}"), base))
        moved.append(sum(float((found[name] - end[name]).norm()) for name in end))
    change = sum(float((end[name] - start[name]).norm()) for name in end)
    assert moved[0] < 1e-3 * change, "a lambda of 1 leaves the adapter as it was"
    assert moved[0] < moved[1] < moved[2], "a lambda of 0 takes the intruders out: PEFT's docstring says the opposite"


def _point(name: str, score: float, kl: float) -> Candidate:
    interval = {"value": kl, "low": None, "high": None}
    probe = {
        "name": "rows", "rows": 1, "tokens": 1, "kl": interval, "nll_change": interval,
        "base_perplexity": None, "tuned_perplexity": None,
    }  # fmt: skip
    return Candidate.model_validate({"name": name, "folder": name, "score": score, "probes": (probe,)})


@pytest.mark.parametrize(
    ("tolerance", "expected"), [(0.0, "tuned"), (0.02, "alpha 0.75"), (0.11, "alpha 0.5"), (1.0, "alpha 0.25")]
)
def test_the_least_drift_within_the_tolerance_is_chosen(tolerance: float, expected: str) -> None:
    points = [
        _point("tuned", 0.60, 0.5),
        _point("alpha 0.75", 0.59, 0.3),
        _point("alpha 0.5", 0.50, 0.1),
        _point("alpha 0.25", 0.10, 0.02),
    ]
    assert choose(points, tolerance).name == expected


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_writes_the_frontier_and_the_chosen_model(
    base: ModelSettings, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = tuned(base, tmp_path / "tuned", method)
    (after / "manifest.json").unlink()  # as of a model that another trainer has made
    rows = [{"prompt": "ab cd", "completion": text} for text in ("ef gh", "xyz", "12 3")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rules = RepairSettings(
        alphas=(0.0, 0.5),
        rows=str(tmp_path / "rows.jsonl"),
        tolerance=100.0,
        drift=DriftSettings(rows=str(tmp_path / "rows.jsonl")),
    )

    def dies(source: str, target: Path, **_: object) -> None:
        Path(target).mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copytree", dies)
        with pytest.raises(KeyboardInterrupt):
            repair_model(after, base, rules, tmp_path / "out")
    found = repair_model(after, base, rules, tmp_path / "out")
    assert [one.name for one in found.candidates] == ["base", "tuned", "alpha 0", "alpha 0.5"]
    assert found.chosen.name == "alpha 0", "with any score allowed, the least drift is none"
    by_name = {one.name: one for one in found.candidates}
    assert by_name["alpha 0"].kl == pytest.approx(0.0, abs=1e-5)
    assert by_name["alpha 0"].score == pytest.approx(by_name["base"].score, abs=1e-5)
    assert 0 < by_name["alpha 0.5"].kl < by_name["tuned"].kl
    loaded = load_model(tuned_settings(str(tmp_path / "out" / "model"), base)).model
    with torch.inference_mode():
        torch.testing.assert_close(loaded(IDS_BT).logits, load_model(base).model(IDS_BT).logits)
    assert json.loads((tmp_path / "out" / "repair.json").read_text())["rule"]
    assert repair_model(after, base, rules, tmp_path / "out") == found
    with pytest.raises(InputError, match="something else than this call"):
        repair_model(after, base, rules.model_copy(update={"tolerance": 0.0}), tmp_path / "out")
    shutil.rmtree(after)
    shutil.copytree(tmp_path / "out" / "model", after)  # as trained anew under its name
    with pytest.raises(InputError, match="something else than this call"):
        repair_model(after, base, rules, tmp_path / "out")


def test_checkpoints_and_reduced_intruders_are_candidates(base: ModelSettings, tmp_path: Path) -> None:
    after = tuned(base, tmp_path / "tuned", "lora")
    for run in ("one", "two"):
        interpolate(after, base, 0.1, tmp_path / run / "checkpoint-2")
        (tmp_path / run / "checkpoint-2" / "optimizer.pt").write_text("")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "ab cd", "completion": "ef gh"}) + "\n")
    rows = str(tmp_path / "rows.jsonl")
    checkpoints = tuple(tmp_path / run / "checkpoint-2" for run in ("one", "two"))
    drift = DriftSettings(rows=rows)
    rules = RepairSettings(alphas=(), intruders=(0.5,), checkpoints=checkpoints, rows=rows, tolerance=9.0, drift=drift)
    found = repair_model(after, base, rules, tmp_path / "out")
    names = [one.name for one in found.candidates]
    assert names == ["base", "tuned", "intruders 0.5", "checkpoint-2", str(checkpoints[1])]
    assert found.chosen.name == "checkpoint-2", "the least drift, and of equal ones the first"
    assert not (tmp_path / "out" / "model" / "optimizer.pt").exists()
    load_model(tuned_settings(str(tmp_path / "out" / "model"), base))
    twice = rules.model_copy(update={"checkpoints": (checkpoints[0],) * 3})
    with pytest.raises(InputError, match="named twice"):
        repair_model(after, base, twice, tmp_path / "twice")


def test_a_target_that_is_not_there_does_not_take_the_folder(base: ModelSettings, tmp_path: Path) -> None:
    for name in ("nope", "nope either"):
        with pytest.raises(InputError, match=name):
            repair_model(Path(base.model), base, RepairSettings(task=name), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rules", [RepairSettings(), RepairSettings(task="a", rows="b")])
def test_a_target_is_needed(base: ModelSettings, tmp_path: Path, rules: RepairSettings) -> None:
    with pytest.raises(InputError, match="expected a target"):
        repair_model(tmp_path, base, rules, tmp_path / "out")
