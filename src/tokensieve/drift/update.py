"""The weight update of a trained model: Frobenius norm, singular values and effective rank by kind of module.

LoRA's are computed from its two factors, whose product is never formed; those of DoRA and of whole models from the
difference of the weights, through the Gram matrix of its shorter side.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from tokensieve.analysis.results import SINGULAR_VALUES, ModuleUpdate, WeightUpdate
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel

if TYPE_CHECKING:
    from collections.abc import Iterable

UPDATE_NAME: Final = "update.json"
"""File of the result in the folder of a study's step."""

_ADAPTER_CONFIG: Final = "adapter_config.json"
_FACTOR: Final = re.compile(
    r"^(?:base_model\.model\.)?(?P<name>.+)\.(?P<part>lora_(?:embedding_)?[AB]|lora_magnitude_vector)(?:\.weight)?$"
)


@dataclass(frozen=True, slots=True)
class _Change:
    """The change of one weight.

    Attributes:
        name: of the weight's module.
        norm: Frobenius norm.
        singular_S: all its singular values, descending, float64; None for a vector.
        base_norm: Frobenius norm of the base's weight; NaN where it is not plain numbers.
    """

    name: str
    norm: float
    singular_S: torch.Tensor | None
    base_norm: float


def weight_update(tuned: str | Path, base: LoadedModel) -> WeightUpdate:
    """Norms, singular values and effective ranks of a trained model's weights less the base's.

    Args:
        tuned: folder of an adapter, or of a whole model, in safetensors.
        base: the model before training.

    Raises:
        InputError: there are no weights, or they have no counterpart in the base.
    """
    folder = Path(tuned)
    if not any(folder.glob("*.safetensors")):
        raise InputError("there are no weights in safetensors files", where=str(folder))
    weights = dict(base.model.named_parameters())
    adapter = (folder / _ADAPTER_CONFIG).is_file()
    with torch.no_grad():
        changes = list(_of_adapter(folder, weights) if adapter else _of_model(folder, weights))
    return _by_kind(changes)


def effective_rank(singular_S: torch.Tensor) -> float:
    """Effective rank: exp of the entropy of the singular values as shares of their sum; NaN where all are 0."""
    total = singular_S.sum()
    if not bool(total > 0):
        return math.nan
    share_S = singular_S / total
    return float(torch.exp(-(share_S * share_S.clamp_min(1e-300).log()).sum()))


def singular_of_factors(b_OR: torch.Tensor, a_RI: torch.Tensor, scale: float) -> torch.Tensor:
    """Singular values of ``scale B A``, descending, as many as the rank: those of an R x R matrix."""
    left_RR = torch.linalg.qr(b_OR.double(), mode="r").R
    right_RR = torch.linalg.qr(a_RI.double().T, mode="r").R
    singular_R: torch.Tensor = torch.linalg.svdvals(left_RR @ right_RR.T) * abs(scale)
    return singular_R


def _singular(change: torch.Tensor) -> torch.Tensor | None:
    """Singular values of a change, descending; None for a vector. A stack of matrices is one tall matrix."""
    if change.ndim < 2:
        return None
    matrix = change.double().reshape(-1, change.shape[-1])
    wide = matrix.shape[0] < matrix.shape[1]
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    squares_S: torch.Tensor = torch.linalg.eigvalsh(gram)
    return squares_S.clamp_min(0.0).sqrt().flip(0)


def _of_adapter(folder: Path, weights: Mapping[str, torch.nn.Parameter]) -> Iterator[_Change]:
    config = json.loads((folder / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in _tensors(folder):
        found = _FACTOR.match(key)
        if found is None:
            raise InputError(f"{key} is no factor of LoRA or DoRA", where=str(folder))
        part = found["part"].removeprefix("lora_").removeprefix("embedding_")
        parts.setdefault(found["name"], {})[part] = tensor
    for name, own in parts.items():
        weight = weights.get(f"{name}.weight")
        if weight is None:
            raise InputError(f"the base has no weight {name}", where=str(folder), fix="give the adapter's own base")
        rank = own["A"].shape[0]
        alpha = next(
            (v for k, v in config.get("alpha_pattern", {}).items() if re.search(k, name)), config["lora_alpha"]
        )
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        device = weight.device
        b_OR, a_RI = own["B"].to(device), own["A"].to(device)
        if "magnitude_vector" in own:
            start = weight.T if config.get("fan_in_fan_out") else weight
            moved = start.double() + scale * (b_OR.double() @ a_RI.double())
            length = own["magnitude_vector"].to(device).double()[:, None]
            singular = _singular(length * moved / moved.norm(dim=1, keepdim=True) - start.double())
        else:
            singular = singular_of_factors(b_OR, a_RI, scale)
        yield _Change(name, 0.0 if singular is None else float(singular.norm()), singular, _norm(weight))


def _of_model(folder: Path, weights: Mapping[str, torch.nn.Parameter]) -> Iterator[_Change]:
    for key, tensor in _tensors(folder):
        start = weights.get(key)
        if start is None or start.shape != tensor.shape:
            raise InputError(f"the base has no weight {key} of this shape", where=str(folder), fix="give its own base")
        change = tensor.to(start.device).double() - start.double()
        if norm := float(change.norm()):  # a weight that is as it was has not been trained
            yield _Change(key.rpartition(".")[0], norm, _singular(change), _norm(start))


def _tensors(folder: Path) -> "Iterable[tuple[str, torch.Tensor]]":
    """Tensors of all safetensors files, one in memory at a time."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 -- not a mapping
                yield key, file.get_tensor(key)


def _norm(weight: torch.Tensor) -> float:
    return float(weight.double().norm()) if weight.is_floating_point() else math.nan


def _by_kind(changes: list[_Change]) -> WeightUpdate:
    kinds: dict[str, list[_Change]] = {}
    for change in changes:
        kinds.setdefault(change.name.rpartition(".")[2] or change.name, []).append(change)
    modules = sorted((_of_kind(kind, own) for kind, own in kinds.items()), key=lambda one: -one.norm)
    norm = math.hypot(*(change.norm for change in changes))
    return WeightUpdate(norm=norm, relative_norm=_relative(norm, changes), modules=tuple(modules))


def _of_kind(kind: str, changes: list[_Change]) -> ModuleUpdate:
    norm = math.hypot(*(change.norm for change in changes))
    spectra = [change.singular_S for change in changes if change.singular_S is not None]
    ranks = [rank for one in spectra if not math.isnan(rank := effective_rank(one))]
    kept = min([SINGULAR_VALUES, *(len(one) for one in spectra)])
    mean = torch.stack([one[:kept] for one in spectra]).mean(0).tolist() if spectra else []
    return ModuleUpdate(
        kind=kind,
        modules=len(changes),
        norm=norm,
        relative_norm=_relative(norm, changes),
        effective_rank=sum(ranks) / len(ranks) if ranks else None,
        spectrum=tuple(mean),
    )


def _relative(norm: float, changes: list[_Change]) -> float | None:
    base = math.hypot(*(change.base_norm for change in changes))
    return norm / base if base > 0 and math.isfinite(base) else None
