"""Schema of a report: the data behind the page and, as it is, its JSON twin.

Units: accuracies and shares are fractions in [0, 1]; TI and BWT are percent of the base's accuracy; points are
percentage points of accuracy; losses and nll are nats; times are seconds. None means undefined or not known.
"""

from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from tokensieve.analysis.results import Profile
from tokensieve.data.manifest import ModelIdentity
from tokensieve.metrics import Estimate
from tokensieve.report.browser_schema import ArmFlips, FlipProblem, NearRow, SampleRow
from tokensieve.report.results_schema import ArmFrontier, FrontierPoint, SeedRun, TaskResult
from tokensieve.types import JSON, Origin

SCHEMA_VERSION: Final = 2
REFERENCE_ARM: Final = "plain"
"""The arm that all others are compared with."""
GainUnit: TypeAlias = Literal["%", "points", "nats"]
"""Unit of the gain on a target: percent of the base's accuracy (TI), percentage points, or nats per token."""

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class EvaluatedSubset(BaseModel):
    """Number of a task's problems that were answered."""

    model_config = _STRICT

    task: str
    """The registered task's name."""
    split: str = "test"
    """Split of the task."""
    evaluated: int
    """Problems answered."""
    available: int | None = None
    """Problems that the split has; None where that is not known."""


class ReferenceComparison(BaseModel):
    """This arm minus the reference arm, on the same problems (paired)."""

    model_config = _STRICT

    target_points: Estimate
    """Difference in the target's accuracy, percentage points."""
    backward_transfer: Estimate = Estimate()
    """Difference in BWT, percent; undefined where it was not taken."""


class ArmReport(BaseModel):
    """One arm: its training set, its runs and what they did."""

    model_config = _STRICT

    name: str
    """Its name in tables."""
    policy: str
    """The policy, as in `select`."""
    learning_rate: float | None = None
    """Peak of its runs; where several were tried, the one that validation chose."""
    own_settings: dict[str, JSON] = Field(default_factory=dict)
    """Settings that it has in place of the study's, by dotted key."""
    origin: Origin = Origin.GROUND_TRUTH
    """Author of the responses."""
    not_trained: str = ""
    """Why the arm has no run (e.g. no prompt had a correct sample); empty where it has one."""
    rows_in: int
    """Rows before any was dropped."""
    rows_out: int
    """Rows trained on."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Rows dropped, by reason."""
    noted: dict[str, int] = Field(default_factory=dict)
    """Rows that were kept but changed or handled in a way worth telling, by what was done."""
    self_bleu: float | None = None
    """Self-BLEU of its responses, in [0, 1]: the higher, the less diverse; None where there are too few."""
    white_space: dict[str, float] = Field(default_factory=dict)
    """Fraction of the tokens of high perplexity that are white space which a normalisation changes, by its name."""
    protected_tokens: int = 0
    """Response tokens that are trained whatever the policy says: end of turn, tool-call delimiters, reasoning tags."""
    protected_share_of_kept_nll: float | None = None
    """Fraction of the trained tokens' summed nll that protected tokens hold; None where it is not known."""
    profile: Profile | None = None
    """The training set under the base model: shares, perplexities, histogram; None where it was not analysed."""
    start: tuple[TaskResult, ...] = ()
    """Accuracies of the models that its runs went on from; empty where that is the base model."""
    results: tuple[TaskResult, ...] = ()
    """Accuracies after training, the target's among them."""
    target_improvement: Estimate = Estimate()
    """TI, percent, paired bootstrap; undefined where the base is 0 on the target."""
    target_points: Estimate = Estimate()
    """Gain on the target in percentage points, paired bootstrap; defined for any base."""
    backward_transfer: Estimate = Estimate()
    """BWT, percent, paired bootstrap, over the other tasks whose base is above 0."""
    against_reference: ReferenceComparison | None = None
    """Paired difference to the plain arm; None for that arm itself, or where it was not taken."""
    runs: tuple[SeedRun, ...] = ()
    """One a seed."""
    wall_s: float | None = None
    """Seconds from data to verdicts, all seeds together, data generation included."""
    flips: tuple[ArmFlips, ...] = ()
    """Answers whose verdict changed sides, one entry a task that has any."""
    samples: tuple[SampleRow, ...] = ()
    """Some training rows for the token browser."""

    def started_at(self, task: str) -> TaskResult | None:
        """The result on a task of the models that its runs went on from; None where that is the base model."""
        return next((result for result in self.start if result.task == task), None)

    def result(self, task: str) -> TaskResult | None:
        """The result on a task; None where it was not evaluated."""
        return next((result for result in self.results if result.task == task), None)


class TargetReport(BaseModel):
    """One target: what was learnt, and what it did to the other skills."""

    model_config = _STRICT

    task: str
    """The task whose train split is learnt."""
    title: str = ""
    """One line for people."""
    after: str = ""
    """The target from whose models the arms went on, to which gain and BWT are relative; empty is the base model."""
    others: tuple[str, ...]
    """The tasks over which BWT is taken, those in dropped_from_transfer included."""
    dropped_from_transfer: tuple[str, ...] = ()
    """Other tasks left out of BWT because the base solves none of their problems."""
    base: tuple[TaskResult, ...]
    """The base model's results, the target's among them."""
    arms: tuple[ArmReport, ...]
    """The arms that are compared, each at its own best learning rate on validation."""
    frontier: tuple[ArmFrontier, ...] = ()
    """Every arm at every learning rate; empty where each has one."""
    flip_problems: tuple[FlipProblem, ...] = ()
    """Problems whose answers flipped in some run, as far as they are shown."""
    near_rows: tuple[NearRow, ...] = ()
    """Training rows that are near to these problems."""

    def base_result(self, task: str) -> TaskResult | None:
        """The base model's result on a task; None where it was not evaluated."""
        return next((result for result in self.base if result.task == task), None)

    def frontier_of(self, arm: str) -> ArmFrontier | None:
        """An arm's frontier; None where there is none."""
        return next((one for one in self.frontier if one.arm == arm), None)

    @property
    def by_likelihood(self) -> bool:
        """True if the target has no right or wrong: what is learnt is the fall of its nll, in nats per token."""
        return any(result.task == self.task and result.nats for result in self.base)

    def measured_by_likelihood(self) -> tuple[str, ...]:
        """The tasks that have no right or wrong, the target first."""
        return tuple(task for task in (self.task, *self.others) if (base := self.base_result(task)) and base.nats)

    @property
    def gain_in_points(self) -> bool:
        """True if the gain is told in percentage points, because TI says nothing here.

        So it is where the base solves none of the target's problems, or too few for an interval of a ratio to them.
        """
        return any(arm.target_improvement.low is None and arm.target_points.low is not None for arm in self.arms)

    @property
    def gain_unit(self) -> GainUnit:
        """Unit of what is learnt: the fall of the nll, else percentage points where TI says nothing, else TI."""
        return "nats" if self.by_likelihood else "points" if self.gain_in_points else "%"

    def gain(self, of: ArmReport | FrontierPoint) -> Estimate:
        """Gain of an arm, or of a point of its frontier, on the target in that unit; more is better."""
        if self.by_likelihood:
            if isinstance(of, FrontierPoint):
                return of.target_fall
            after = of.result(self.task)
            return Estimate() if after is None else after.fall
        return of.target_points if self.gain_in_points else of.target_improvement

    @property
    def reference(self) -> ArmReport | None:
        """The plain arm, None where the study has none."""
        return next((arm for arm in self.arms if arm.name == REFERENCE_ARM), None)


class StageTime(BaseModel):
    """Wall time of one stage."""

    model_config = _STRICT

    stage: str
    """Its name, with target and arm where it has them."""
    wall_s: float
    """Seconds."""
    cached: bool = False
    """True where an earlier run's result was taken; wall_s is then that run's."""


class Checkout(BaseModel):
    """The git checkout that a recipe lies in."""

    model_config = _STRICT

    commit: str
    """The commit that is checked out, 40 hex digits."""
    changed: bool
    """True where files of the checkout differ from the commit."""


class RunRecord(BaseModel):
    """Recipe, commit, digests and versions of a run; written by every start that makes a step."""

    model_config = _STRICT

    recipe: str
    """Name of the shipped recipe, or of the file without its folder."""
    command: str = ""
    """Shell command that makes the run again, with every setting that differs from the recipe."""
    settings_digest: str
    """Digest of the study's settings."""
    inputs: dict[str, str]
    """Digest of the base model, and of each set of problems that is trained on or evaluated."""
    checkout: Checkout | None = None
    """Commit of the git checkout whose file the recipe is; None where it is no such file."""
    versions: dict[str, str]
    """Packages and Python."""
    workers: int
    """Processes among which the steps were shared out."""
    threads: int
    """Threads of each; with another number a float's last digits differ."""
    started_at: str
    """ISO 8601, UTC."""
    taken: dict[str, int] = Field(default_factory=dict)
    """Steps whose results were taken from other runs, by the name of the run's folder."""


class Report(BaseModel):
    """A whole study: everything the page shows, and nothing that has to be looked up elsewhere."""

    model_config = _STRICT

    schema_version: int = SCHEMA_VERSION
    """Version of this form."""
    name: str
    """Name of the recipe."""
    title: str = ""
    """One line for people."""
    created_at: str = ""
    """ISO 8601, UTC."""
    model: ModelIdentity
    """The base model."""
    parameters: int | None = None
    """Its number of parameters."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds; the fewer, the less the differences between arms say."""
    settings: dict[str, JSON] = Field(default_factory=dict)
    """The study's settings, nested as in the recipe."""
    notes: tuple[str, ...] = ()
    """Sentences the reader must know, e.g. how the learning rate was chosen."""
    subsets: tuple[EvaluatedSubset, ...] = ()
    """Evaluated part of each task."""
    targets: tuple[TargetReport, ...]
    """The results."""
    timing: tuple[StageTime, ...] = ()
    """Wall time by stage."""
    commands: tuple[str, ...] = ()
    """Shell commands that reproduce the study."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Packages and Python."""
    run: RunRecord | None = None
    """Recipe, its commit, digests of what the study starts from, workers; None where the run's folder has none."""

    def time_by_verb(self) -> tuple[tuple[str, int, float, float], ...]:
        """Verb, steps, seconds and share of all seconds of each kind of stage, the longest first."""
        totals: dict[str, list[float]] = {}
        for stage in self.timing:
            totals.setdefault(stage.stage.partition(" ")[0], []).append(stage.wall_s)
        whole = sum(stage.wall_s for stage in self.timing) or 1.0
        rows = [(verb, len(listed), sum(listed), sum(listed) / whole) for verb, listed in totals.items()]
        return tuple(sorted(rows, key=lambda row: -row[2]))
