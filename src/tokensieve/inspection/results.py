"""Results of an inspection: frozen, strict, plain numbers, written as JSON as they are.

Shares are fractions in [0, 1], nll is in nats, None means that there was nothing to take it of.
"""

from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from tokensieve.analysis import Profile, TokenClass
from tokensieve.data.manifest import ModelIdentity

SCHEMA_VERSION: Final = 1

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

Verdict: TypeAlias = Literal["pass", "fault", "note", "not checked"]
"""Outcome of a check: a fault is wrong for every trainer, a note has to be known and may be meant."""


class SourceProfile(BaseModel):
    """The rows of one source."""

    model_config = _STRICT

    source: str
    """Author of the responses, and their task: ORIGIN or ORIGIN/TASK."""
    profile: Profile
    """Perplexities, shares and histogram of these rows."""


class LeftOutClass(BaseModel):
    """Response tokens of one class, and what of them is left out."""

    model_config = _STRICT

    token_class: TokenClass
    """Class of the token."""
    tokens: int
    """Response tokens of the class that have a score."""
    left_out: int
    """Those of them that are not trained."""
    nll_left_out: float
    """Summed nll (nats) that is left out of the loss; of a soft selection, nll times (1 - weight)."""


class MaskedToken(BaseModel):
    """A token that is often left out; all ids with the same text count as one."""

    model_config = _STRICT

    text: str
    """The token's text; several ids may share it."""
    tokens: int
    """Times that it is in the responses, with a score."""
    left_out: int
    """Times that it is not trained."""
    mean_nll: float
    """Mean nll (nats) of those that are not trained."""


class AffectedRow(BaseModel):
    """A row of which much nll is left out."""

    model_config = _STRICT

    id: str
    """The row's id."""
    response_tokens: int
    """Its response tokens that have a score."""
    left_out: int
    """Those of them that are not trained."""
    nll_left_out: float
    """Summed nll (nats) that is left out."""
    nll_share: float
    """That as a share of the row's nll."""


class NearThreshold(BaseModel):
    """Response tokens near the threshold."""

    model_config = _STRICT

    within_nats: float
    """Largest distance from the threshold in nats."""
    tokens: int
    """Number of tokens within it, on both sides."""


class Protected(BaseModel):
    """Structural tokens that are trained whatever the policy says: end of turn, tool calls, reasoning tags."""

    model_config = _STRICT

    tokens: int
    """Number of them."""
    share_of_kept_nll: float | None
    """Their share of the nll that is trained."""


class AnswerPair(BaseModel):
    """One row's response beside the model's own answer to the same prompt."""

    model_config = _STRICT

    id: str
    """Id of both rows."""
    data: float
    """Sentence perplexity of the data's response: exp of the mean nll of its tokens."""
    own: float
    """That of the model's own answer."""


class OwnAnswers(BaseModel):
    """Sentence perplexities of the data beside those of the model's own answers, over the rows that both have."""

    model_config = _STRICT

    rows: int
    """Rows that both have, by id."""
    data_only: int
    """Rows of the data without an answer."""
    own_only: int
    """Answers without a row of the data."""
    data_median: float | None
    """Median sentence perplexity of the data's responses in these rows."""
    own_median: float | None
    """Median sentence perplexity of the own answers in these rows."""
    furthest: tuple[AnswerPair, ...]
    """Rows whose response is furthest above the own answer, by the ratio of the two."""


class Advice(BaseModel):
    """A recommendation and the experiment that backs it."""

    model_config = _STRICT

    text: str
    """The advice, and the measurement behind it."""
    reason: str
    """The finding in this data that brought it up."""
    entry: str
    """Section and entry of docs/log.md that records the experiment."""


class Inspection(BaseModel):
    """A scored training set before training: its profile, what is left out of the loss, and advice."""

    model_config = _STRICT

    schema_version: int = SCHEMA_VERSION
    """Version of this form."""
    kind: Literal["profile"] = "profile"
    """Kind of the result, of inspect's two."""
    source: str
    """Folder or data set."""
    policy: str
    """Policy whose choice is shown."""
    model: ModelIdentity | None
    """The model whose scores these are."""
    profile: Profile
    """All rows."""
    sources: tuple[SourceProfile, ...]
    """The same by source, most rows first."""
    classes: tuple[LeftOutClass, ...]
    """By class of token, most left out first."""
    most_masked: tuple[MaskedToken, ...]
    """Tokens that are most often left out."""
    most_affected: tuple[AffectedRow, ...]
    """Rows of which most nll is left out."""
    near: tuple[NearThreshold, ...]
    """Response tokens near the threshold; empty where no threshold decides."""
    protected: Protected
    """Protected tokens."""
    own_answers: OwnAnswers | None
    """Beside the model's own answers; None where none were given."""
    advice: tuple[Advice, ...]
    """Recommendations, each with its experiment."""
    dropped: dict[str, int]
    """Rows that earlier stages dropped, or the policy leaves without a trained token, by reason."""


class MaskCheck(BaseModel):
    """One check of a loss mask."""

    model_config = _STRICT

    name: str
    """Name of the check, the same in every release."""
    verdict: Verdict
    """Its outcome."""
    found: int
    """Number of places or rows that are as the check's words say."""
    of: int
    """Out of how many."""
    words: str
    """The finding in words."""
    rows: tuple[str, ...] = ()
    """Ids of the first rows that are meant."""


class MaskAudit(BaseModel):
    """The loss mask of a data set that is tokenised already, checked against the model's chat template."""

    model_config = _STRICT

    schema_version: int = SCHEMA_VERSION
    """Version of this form."""
    kind: Literal["audit"] = "audit"
    """Kind of the result, of inspect's two."""
    source: str
    """Folder, file or data set."""
    model: str
    """Whose tokenizer and chat template the rows are read with."""
    rows: int
    """Rows read."""
    tokens: int
    """Their tokens, padding included."""
    responses: int
    """Assistant turns found."""
    trained_tokens: int
    """Tokens that count in the loss."""
    labels: Literal["unshifted", "shifted", "shifted back", "shifted twice"]
    """Convention of the labels: label t is token t, t + 1, t - 1 or t + 2."""
    checks: tuple[MaskCheck, ...]
    """All checks, in a fixed order."""
    unread: tuple[str, ...] = ()
    """Columns that were not read, since they say nothing on the loss mask."""

    @property
    def ok(self) -> bool:
        """True where no check found a fault."""
        return all(check.verdict != "fault" for check in self.checks)
