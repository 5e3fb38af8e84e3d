"""Candidates between a tuned model and its base: interpolated weights, scaled adapters, adapters without intruders."""

import json
import math
import shutil
from pathlib import Path
from typing import Final

from tokensieve.config import ModelSettings
from tokensieve.data.manifest import MANIFEST_NAME, read_manifest
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.models import load_model
from tokensieve.models.adapter import ALPHA_METADATA

ADAPTER_CONFIG: Final = "adapter_config.json"
_ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
_SCALED: Final = ("lora_B", "lora_embedding_B")
_KEPT: Final = ("lora_A", "lora_embedding_A")


def is_adapter(folder: Path) -> bool:
    """True for a PEFT adapter, False for a whole model.

    Raises:
        InputError: neither of the two.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        return True
    if (folder / "config.json").is_file():
        return False
    raise InputError(
        f"expected {ADAPTER_CONFIG} or config.json, found neither",
        where=str(folder),
        fix="give the folder that tokensieve train has made",
    )


def interpolate(tuned: Path, base: ModelSettings, alpha: float, out: Path) -> None:
    """Write ``base + alpha (tuned - base)`` as an ordinary adapter or model.

    A LoRA adapter's update is B A times a constant, so B is multiplied by alpha; an adapter of alpha 0 says in its
    file that it is the base on purpose, and loads as that. The weights of a whole model are interpolated in float32
    and written in the tuned model's dtype.

    Args:
        tuned: folder of the adapter or model after training.
        base: the model before training.
        alpha: 0 is the base, 1 the tuned model.
        out: folder of the result; must not exist.

    Raises:
        InputError: an adapter whose update is not linear in B (DoRA) or that holds whole layers, or models whose
            weights do not pair up.
    """
    if is_adapter(tuned):
        _scale_adapter(tuned, alpha, out)
    else:
        _interpolate_model(tuned, base, alpha, out)
    _write_manifest(tuned, out, {"interpolated": alpha})


def reduce_intruders(tuned: Path, base: ModelSettings, keep: float, out: Path) -> None:
    """Write a LoRA adapter whose intruder dimensions are kept to a share.

    Intruder dimensions are singular vectors of the tuned weights that resemble none of the base's (arXiv 2410.21228).
    Done by PEFT's ``reduce_intruder_dimension``. Its ``mitigation_lambda`` is the share that is kept: its code adds
    ``(lambda - 1)`` times the intruder part, while its docstring speaks of the share that is subtracted. A layer counts
    singular vectors among its 10 largest whose cosine to every one of the base's is below 0.5. What is left is cut to
    the adapter's rank again, so that keeping 0.5 is not half-way between 0 and 1.

    Args:
        tuned: folder of the adapter.
        base: the model before training.
        keep: 0 removes the intruder dimensions, 1 changes nothing but rounding.
        out: folder of the result; must not exist.

    Raises:
        InputError: a whole model, or an adapter that is not plain LoRA.
        EnvironmentProblem: the installed PEFT does not have the function.
    """
    if not is_adapter(tuned):
        raise InputError("intruder dimensions are reduced in LoRA adapters only", where=str(tuned), fix="--alphas")
    _check_plain_lora(tuned)
    try:
        from peft.tuners.lora.intruders import reduce_intruder_dimension
    except ImportError as error:
        raise EnvironmentProblem(
            "the installed PEFT cannot reduce intruder dimensions", fix="pip install -U peft"
        ) from error
    loaded = load_model(base.model_copy(update={"adapter": str(tuned)}))
    name = "reduced"
    reduce_intruder_dimension(loaded.model, new_adapter_name=name, mitigation_lambda=keep, logging_sink=None)
    written = out.parent / f".{out.name}.peft"
    loaded.model.save_pretrained(str(written), selected_adapters=[name], save_embedding_layers=False)
    shutil.move(str(written / name), str(out))
    shutil.rmtree(written, ignore_errors=True)
    shutil.copy(tuned / ADAPTER_CONFIG, out / ADAPTER_CONFIG)
    _write_manifest(tuned, out, {"intruders_kept": keep})


def _check_plain_lora(folder: Path) -> None:
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    kind = "DoRA" if config.get("use_dora") else config.get("peft_type", "unknown")
    if kind != "LORA":
        raise InputError(
            f"the update of {kind} is not a factor times a product of two matrices, so it cannot be scaled",
            where=str(folder),
            fix="give earlier checkpoints as candidates, or train LoRA without DoRA",
        )


def _scale_adapter(tuned: Path, alpha: float, out: Path) -> None:
    from safetensors.torch import load_file, save_file

    _check_plain_lora(tuned)
    weights = load_file(str(tuned / _ADAPTER_WEIGHTS))
    other = [name for name in weights if not any(part in name for part in (*_SCALED, *_KEPT))]
    if other:
        raise InputError(
            f"the adapter holds whole layers beside LoRA, such as {other[0]}, which a scale does not interpolate",
            where=str(tuned),
            fix="train without modules_to_save and bias",
        )
    out.mkdir(parents=True)
    scaled = {
        name: (value * alpha if any(part in name for part in _SCALED) else value).contiguous()
        for name, value in weights.items()
    }
    save_file(scaled, str(out / _ADAPTER_WEIGHTS), metadata={"format": "pt", ALPHA_METADATA: f"{alpha:g}"})
    shutil.copy(tuned / ADAPTER_CONFIG, out / ADAPTER_CONFIG)


def _interpolate_model(tuned: Path, base: ModelSettings, alpha: float, out: Path) -> None:
    import torch

    after = load_model(base.model_copy(update={"model": str(tuned), "revision": None, "adapter": None}))
    before = dict(load_model(base).model.named_parameters())
    with torch.no_grad():
        for name, parameter in after.model.named_parameters():
            start = before.pop(name, None)
            if start is None or start.shape != parameter.shape:
                raise InputError(
                    f"the weights {name} of the tuned model have no counterpart of the same shape in the base",
                    where=str(tuned),
                    fix=f"give the model that it was trained from; {base.model} was given",
                )
            change = parameter.float() - start.to(parameter.device).float()
            parameter.copy_(start.to(parameter.device).float() + alpha * change)
    if before:
        raise InputError(f"the tuned model lacks the base's weights {next(iter(before))}", where=str(tuned))
    after.model.save_pretrained(str(out))
    after.tokenizer.save_pretrained(str(out))


def _write_manifest(tuned: Path, out: Path, facts: dict[str, float]) -> None:
    """Carry the training run's manifest over, with what was done to its weights."""
    if not (tuned / MANIFEST_NAME).is_file():
        return
    manifest = read_manifest(tuned)
    log = tuned / "log.jsonl"
    if log.is_file():
        shutil.copy(log, out / log.name)
    manifest.model_copy(
        update={"facts": {**manifest.facts, **facts}, "inputs": {**manifest.inputs, "tuned": manifest.digest}}
    ).write(out)


def check_alpha(alpha: float) -> None:
    """Check an interpolation factor.

    Raises:
        InputError: it is not a number between 0 and 1.
    """
    if not (math.isfinite(alpha) and 0 <= alpha <= 1):
        raise InputError(f"expected a factor between 0 (the base) and 1 (the tuned model), got {alpha}")
