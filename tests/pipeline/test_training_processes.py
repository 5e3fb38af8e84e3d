"""A training run on two processes has the loss curve of one process: DDP and FSDP2, over gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
import yaml
from tests.selected_rows import make_rows
from tests.unit.training.test_train import same, weights_of

from tokensieve.config import AnchorSettings, ModelSettings, TrainSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.models import load_model
from tokensieve.scoring.response_states import top_log_probs
from tokensieve.training import open_adapter, train
from tokensieve.training.adapter import StepLog
from tokensieve.types import JSON, Anchor

WORKER = """
import json, sys
sys.path.insert(0, {root!r})
from tests.selected_rows import make_rows
from tokensieve.config import ModelSettings, TrainSettings
from tokensieve.training import train

for name, (weights, settings) in json.loads({cases!r}).items():
    rows = make_rows(weights=weights)
    train(rows, ModelSettings(model={model!r}), TrainSettings.model_validate(settings), {out!r} + "/" + name)
"""

SHARDED = """
import accelerate
from accelerate.utils import DistributedType

# accelerate shards on accelerators alone: its kind of launch is renamed, all else is as on GPUs.
init = accelerate.PartialState.__init__
def renamed(self, *given, **named):
    init(self, *given, **named)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU
accelerate.PartialState.__init__ = renamed
"""
IS_SHARDED = """
assert accelerate.state.AcceleratorState().is_fsdp2
"""
FSDP2 = Path(__file__).parents[2] / "examples" / "fsdp2.yaml"

LORA: dict[str, object] = {"method": "lora", "lora": {"r": 4, "dropout": 0.0}}
FULL: dict[str, object] = {"method": "full"}
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "selected tokens": ("none", LORA),
    "all weights": ("none", FULL),
    "soft weights": ("soft", FULL),
    "packed": ("none", {**FULL, "machine": {"packing": True, "micro_batch_size": 1}}),
    "dft": ("none", {**LORA, "objective": {"loss": "dft"}}),
    "kl, a frozen copy": ("none", {**FULL, "objective": {"loss": "kl:0.5"}}),
    "kl, adapter off": ("none", {**LORA, "objective": {"loss": "reverse_kl:0.5"}}),
    "anchors": ("none", {**FULL, "objective": {"kl": {"anchors": "ANCHORS", "weight": 5.0, "rows": 3}}}),
    "anchors, chosen again": (
        "none", {**FULL, "objective": {"kl": {"anchors": "ANCHORS", "weight": 5.0, "rows": 2, "refresh": 0.5}}}
    ),
    "anchors, fewer than processes": (
        "none", {**LORA, "objective": {"kl": {"anchors": "ANCHORS", "rows": 1, "budget": 1e-4}}}
    ),
}  # fmt: skip


def _settings(given: dict[str, object], anchors: Path) -> dict[str, object]:
    quick = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 4, "warmup_steps": 0, **given}
    made: dict[str, object] = json.loads(json.dumps(quick).replace("ANCHORS", str(anchors)))
    return made


@pytest.mark.parametrize(
    ("sharded", "names"),
    [(False, list(CASES)), (True, ["selected tokens", "all weights", "dft", "anchors, chosen again"])],
)
def test_two_processes_have_the_loss_curve_of_one(
    tiny_folder: Path, tmp_path: Path, sharded: bool, names: list[str]
) -> None:
    base = ModelSettings(model=str(tiny_folder))
    loaded = load_model(base)
    rows = [row.tokens for row in make_rows(seed=5, n=6)]
    made = [Anchor(row, *top) for row, top in zip(rows, top_log_probs(rows, loaded, 32), strict=True)]
    rules = AnchorSettings(count=3, random_share=0.0).model_dump(mode="json")
    manifest = Manifest(stage="anchors", model=loaded.identity, settings=rules)
    for place in ("anchors", "anchors/candidates"):
        in_memory(made, manifest).save(tmp_path / place)
    cases = {name: (CASES[name][0], _settings(CASES[name][1], tmp_path / "anchors")) for name in names}
    _launch(tmp_path, cases, str(tiny_folder), sharded=sharded)
    for name, (kind, given) in cases.items():
        # In the micro-batches that each of the two processes has: another size changes the order of sums, and Adam
        # makes whole steps of gradients at the level of rounding (0.8 % of the KL after four steps on a CPU with AVX2).
        machine = {**cast("dict[str, object]", given.get("machine", {})), "micro_batch_size": 2}
        alone = train(
            make_rows(weights=kind),  # type: ignore[arg-type]
            base,
            TrainSettings.model_validate({**given, "machine": machine}),
            tmp_path / "one" / name,
        )
        two = open_adapter(tmp_path / "two" / name)
        assert len(two.log) == 4
        for found, expected in zip(two.log, alone.log, strict=True):
            assert _measures(found) == pytest.approx(_measures(expected), rel=2e-3, abs=1e-6, nan_ok=True), name
        # Before the first update there is nothing but the order of a sum between them.
        assert two.log[0].loss == pytest.approx(alone.log[0].loss, rel=1e-5), name
        assert two.log[0].grad_norm == pytest.approx(alone.log[0].grad_norm, rel=1e-4), name
        assert same(weights_of(alone, base), weights_of(two, base), 2e-3), name
        chosen = [cast("dict[str, JSON]", run.manifest.facts.get("anchors_chosen_again", {})) for run in (alone, two)]
        assert chosen[0].get("places") == chosen[1].get("places"), name
        assert bool(chosen[0]) == ("again" in name)


def _launch(folder: Path, cases: dict[str, tuple[str, dict[str, object]]], model: str, *, sharded: bool) -> None:
    """Run the cases in two processes of torchrun, with the variables that accelerate makes of the example for FSDP2."""
    script = WORKER.format(
        root=str(Path(__file__).parents[2]), cases=json.dumps(cases), model=model, out=str(folder / "two")
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    if sharded:
        script = SHARDED + script + IS_SHARDED
        chosen = yaml.safe_load(FSDP2.read_text(encoding="utf-8"))["fsdp_config"]
        environment |= {key.upper(): str(value) for key, value in chosen.items()}
        environment |= {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_CPU": "true"}
    (folder / "worker.py").write_text(script)
    launcher = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, str(folder / "worker.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def _measures(step: StepLog) -> dict[str, float]:
    return {
        "loss": step.loss,
        "grad_norm": step.grad_norm,
        "anchor_kl": step.anchor_kl,
        "kl_weight": step.kl_weight,
        "learning_rate": step.learning_rate,
    }
