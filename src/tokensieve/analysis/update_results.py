"""Results of an analysis of a weight update: norms, singular values and effective ranks, by kind of module."""

from typing import Final

from pydantic import BaseModel, ConfigDict

SINGULAR_VALUES: Final = 16
"""Singular values of an update that are kept, the largest ones."""

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class ModuleUpdate(BaseModel):
    """The update of all modules of one kind, such as the query projections of all layers."""

    model_config = _STRICT

    kind: str
    """Name of the kind, e.g. q_proj."""
    modules: int
    """Number of them that were trained."""
    norm: float
    """Frobenius norm of the difference of all their weights together."""
    relative_norm: float | None = None
    """That norm over the one of the base's weights; None where these are not plain numbers."""
    effective_rank: float | None = None
    """exp of the entropy of the singular values as shares of their sum (Roy and Vetterli 2007), the mean over modules;
    None for vectors and for an update of 0."""
    spectrum: tuple[float, ...] = ()
    """The largest singular values, the mean over modules; empty for vectors."""


class WeightUpdate(BaseModel):
    """The update of a trained model: its weights less those of its base."""

    model_config = _STRICT

    norm: float
    """Frobenius norm over all trained weights."""
    relative_norm: float | None = None
    """That norm over the one of the same weights of the base."""
    modules: tuple[ModuleUpdate, ...]
    """By kind, the largest norm first."""

    @property
    def effective_rank(self) -> float | None:
        """The mean over all matrices."""
        ranked = [(one.effective_rank, one.modules) for one in self.modules if one.effective_rank is not None]
        total = sum(modules for _, modules in ranked)
        return sum(rank * modules for rank, modules in ranked) / total if total else None

    @property
    def spectrum(self) -> tuple[float, ...]:
        """The largest singular values, the mean over all matrices; as many as the shortest list has."""
        lists = [(one.spectrum, one.modules) for one in self.modules if one.spectrum]
        total = sum(modules for _, modules in lists)
        length = min((len(values) for values, _ in lists), default=0)
        return tuple(sum(values[place] * n for values, n in lists) / total for place in range(length))
