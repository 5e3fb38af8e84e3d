"""Results of an analysis of training data or of a weight update: strict, plain numbers, as a report's JSON has them."""

from typing import Final

from pydantic import BaseModel, ConfigDict

from tokensieve.selection.token_classes import TokenClass

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

SINGULAR_VALUES: Final = 16
"""Singular values of an update that are kept, the largest ones."""


class Histogram(BaseModel):
    """Response tokens by perplexity, in logarithmic bins."""

    model_config = _STRICT

    edges: tuple[float, ...]
    """Perplexities, ascending from 1; bin i runs from edges[i] to below edges[i + 1], the last one has no upper end."""
    counts: tuple[int, ...]
    """Scored response tokens in each bin; one fewer than the edges."""
    trained: tuple[int, ...]
    """Those of them that are trained."""


class ThresholdShare(BaseModel):
    """Shares of the response above a perplexity; all three are fractions, None where nothing was scored."""

    model_config = _STRICT

    threshold: float
    """Perplexity; above means strictly above, as STM leaves tokens out."""
    tokens_pooled: float | None
    """Of all scored response tokens of all rows."""
    tokens_mean: float | None
    """Mean over rows of each row's own fraction."""
    nll_pooled: float | None
    """Of the summed nll of all rows' response tokens."""


class ClassShare(BaseModel):
    """Tokens of one class, and how many of them lie above the threshold."""

    model_config = _STRICT

    token_class: TokenClass
    """Class of the token."""
    tokens: int
    """Scored response tokens of the class."""
    above: int
    """Those with a perplexity above the profile's threshold."""


class Profile(BaseModel):
    """One training set seen by one scorer: what is in its responses and what of them is trained.

    Fractions lie in [0, 1]. "Pooled" is over the tokens of all rows, "mean" is the mean of the rows' own values; they
    differ where rows differ in length. None means there was nothing to take it of.
    """

    model_config = _STRICT

    scorer: str
    """Whose perplexities these are."""
    rows: int
    """Rows seen."""
    response_tokens: int
    """Tokens of the responses, scored or not."""
    scored_tokens: int
    """Response tokens that have a score."""
    trained_tokens: int
    """Response tokens that contribute to the loss."""
    trained_pooled: float | None
    """Trained share of all response tokens."""
    trained_mean: float | None
    """Mean over rows of the trained share of the row's response tokens; rows without a response are not counted."""
    nll_left_out: float | None
    """Share of the summed nll that lies on response tokens which are not trained (pooled)."""
    nll_per_token: float | None
    """Mean nll in nats of the scored response tokens (pooled)."""
    nll_per_trained_token: float | None
    """Mean nll in nats of the trained tokens (pooled): the first training step's expected loss."""
    sentence_perplexity: float | None
    """exp(mean nll of a row's response tokens), averaged over rows."""
    histogram: Histogram
    """Response tokens by perplexity."""
    shares: tuple[ThresholdShare, ...]
    """Shares above each of a list of thresholds."""
    threshold: float | None
    """The perplexity that decided which tokens are trained; None where none did."""
    near_threshold: int | None
    """Response tokens closer to the threshold than the scorer's error, which another engine might decide otherwise."""
    band: float | None
    """That error in nats; None where there is no threshold."""
    classes: tuple[ClassShare, ...]
    """By kind of token; empty where no token strings were given."""


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
