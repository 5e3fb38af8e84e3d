"""Settings of measuring models: evaluation, drift, repair, calibration."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field

from tokensieve.config.base import ASCENDING, ONCE, STRICT, Rates
from tokensieve.config.sampling import SampleSettings
from tokensieve.config.training import AnchorSettings

CutOff: TypeAlias = Literal["judge", "wrong"]
"""Rule for answers that the length limit ended: judge the text that there is, or count them as not right."""


class EvaluateSettings(BaseModel):
    """Problems to answer, and the sampling of answers."""

    model_config = STRICT

    tasks: tuple[str, ...] = ()
    """Names of tasks."""
    split: str = "test"
    """Split of each task."""
    limit: int | None = Field(None, gt=0)
    """The first N problems of each."""
    data: Path | None = None
    """Folder with local copies of the benchmarks, one folder a task."""
    sampling: SampleSettings = SampleSettings()
    """Greedy unless told otherwise."""
    cut_off: CutOff = "judge"
    """Answers that the length limit ended: judge the text that there is, or count them as wrong unread."""


class DriftSettings(BaseModel):
    """Rows on which the divergence of a tuned model from its base is measured."""

    model_config = STRICT

    dialogues: int = Field(128, ge=0)
    """Dialogues drawn from the base itself, prompt and answer; 0 draws none. Not drawn where `rows` are given."""
    rows: str | None = None
    """A data set whose responses are measured as they are: a file, a Hub name or a folder of an earlier stage."""
    prompts: str | None = None
    """Prompts to which the base's own answers are drawn and measured: a data set, or task:NAME/SPLIT; in a study also
    target or target/SPLIT for those of each target."""
    text: Path | None = None
    """A UTF-8 file of plain text, in rows of 1,024 tokens."""
    data: Path | None = None
    """Folder with local copies of the benchmarks, for the prompts of a task."""
    limit: int = Field(128, gt=0)
    """Most rows of `rows`, `prompts` and `text` each."""
    temperature: float = Field(1.0, ge=0)
    """Sampling temperature; 1 is the base's own distribution, over which forward KL is defined."""
    max_new_tokens: int = Field(256, gt=0)
    """Longest answer in tokens."""
    seed: int = Field(0, ge=0)
    """Seed of the draws."""


class RepairSettings(BaseModel):
    """Candidates between a tuned model and its base, and how one of them is chosen."""

    model_config = STRICT

    alphas: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Interpolation: base + alpha (tuned - base). For LoRA the factor of the adapter's update; not for DoRA."""
    intruders: tuple[float, ...] = ()
    """LoRA only: intruder dimensions are kept to this share, from 0 (removed) to 1 (unchanged)."""
    checkpoints: tuple[Path, ...] = ()
    """Further candidates as they are, such as earlier checkpoints: folders of adapters or models."""
    task: str | None = None
    """Target task: a candidate's score is its accuracy on the validation split."""
    rows: str | None = None
    """Target rows in place of a task: a candidate's score is minus the mean nll (nats) of their responses."""
    limit: int = Field(100, gt=0)
    """Problems of the task, or rows."""
    data: Path | None = None
    """Folder with local copies of the benchmarks, one folder a task."""
    tolerance: float = Field(0.02, ge=0)
    """Least drift wins among the candidates within this of the best score (a fraction; nats with rows)."""
    drift: DriftSettings = DriftSettings()
    """Rows on which drift is measured."""


class ProbeSettings(BaseModel):
    """The pilot's probe for the place of the lesson: unlikely or likely tokens."""

    model_config = STRICT

    unlikely: float = Field(2.5, gt=1)
    """Perplexity under the base above which a response token counts as unlikely in the probe."""
    lesson_share: float = Field(0.5, gt=0, lt=1)
    """The lesson counts as sitting in the unlikely tokens where the pilot takes at least this share of their nll, on
    validation rows."""


class SearchSettings(BaseModel):
    """Short runs of a calibration, and the value of what they gain."""

    model_config = STRICT

    rungs: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1), ASCENDING] = (0.25, 0.5, 1.0)
    """Shares of the training rows, ascending; half of the candidates goes on from one to the next, three at least."""
    alphas: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], ONCE] = (0.5,)
    """Interpolations base + alpha (tuned - base) of the finalists' models, tried without training; not for DoRA."""
    epoch_factors: Annotated[tuple[Annotated[float, Field(gt=1)], ...], ASCENDING] = (2.0, 4.0)
    """Multiples of the training settings' epochs, ascending: the last rung's best of every kind (policy, loss, anchors)
    whose gain is above one standard error is trained anew for each in turn, as long as its value rises. KL on anchors
    slows the learning."""
    drift_price: float = Field(1.0, ge=0)
    """Price of drift: 1 gives up a tenth of the best candidate's gain for a tenth of its drift; 0 looks at the gain
    alone."""
    kl_weight: float = Field(5.0, gt=0)
    """Weight of the KL on anchors."""


class CalibrateSettings(BaseModel):
    """Candidates for a model and its data, and how they are compared."""

    model_config = STRICT

    task: str | None = None
    """Target task: candidates are compared by accuracy on its validation split, then by nll of its gold answers."""
    rows: str | None = None
    """Validation rows in place of a task: candidates are compared by the nll of their responses."""
    others: tuple[str, ...] = ()
    """Other tasks for the recipe's backward transfer; they decide nothing here."""
    data: Path | None = None
    """Folder with local copies of the benchmarks, one folder a task."""
    limit: int = Field(100, gt=0)
    """Validation problems, or rows."""
    by: Literal["runs", "rule"] = "runs"
    """runs: short runs of all candidates; rule: the pilot's probe alone, which costs no more than the pilot."""
    candidates: tuple[str, ...] = ("plain", "stm:2.5", "plain + anchors", "stm:10 + anchors")
    """POLICY [+ LOSS] [+ anchors]: policies as in `select`; losses as in `train.objective.loss`; anchors adds the KL
    divergence to the base on drift-guided anchors."""
    rates: Annotated[Rates, Field(min_length=1)] = (1e-4, 2e-4, 4e-4)
    """Peak learning rates, each tried with every candidate."""
    probe: ProbeSettings = ProbeSettings()
    """The pilot's probe."""
    search: SearchSettings = SearchSettings()
    """Short runs, and the value of what they gain."""
    anchors: AnchorSettings = AnchorSettings()
    """Search for anchors, where a candidate has them."""
    drift: DriftSettings = DriftSettings()
    """Rows on which drift is measured."""
