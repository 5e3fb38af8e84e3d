"""The settings of every stage: frozen, strict, one class a stage. The text under a field is its help text."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tokensieve.errors import InputError, explain, in_words
from tokensieve.types import BASE_SCORER, JSON, Origin

Listed = TypeVar("Listed", bound=tuple[object, ...])
Settings = TypeVar("Settings", bound=BaseModel)
ARM_PREFIX = "arm:"
"""Begins the name of an arm where a study's scorer is the model that the arm trains."""
CutOff: TypeAlias = Literal["judge", "wrong"]
"""Rule for answers that the length limit ended: judge the text that there is, or count them as not right."""
TemplateArgument: TypeAlias = int | float | bool | str | list[JSON] | dict[str, JSON] | None
"""A JSON value, spelt out because the command line reads no recursive type."""

STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
"""How every settings class behaves: no change after creation, no unknown key, docstrings as descriptions."""


class ModelSettings(BaseModel):
    """A model, its dtype and its device."""

    model_config = STRICT

    model: str = "pocket"
    """A Hub name, a local folder, or `pocket`, the embedded model."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""
    adapter: str | None = None
    """A PEFT adapter that is put on the model: a folder or a Hub name."""
    tokenizer: str | None = None
    """A tokenizer other than the model's own: a Hub name or a folder."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """dtype of the backbone; auto is bfloat16 on a GPU and float32 on a CPU."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] = "auto"
    """Attention kernel, by its name in transformers."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    quantisation: Literal["none", "int8", "nf4"] = "none"
    """Weights as a QLoRA run will train them."""
    tp_plan: Literal["none", "auto"] = "none"
    """auto spreads one model over the GPUs of a torchrun launch."""
    trust_remote_code: bool = False
    """Run the modelling code that a Hub repository ships. Only for repositories that you have read."""
    template_kwargs: dict[str, TemplateArgument] = Field(default_factory=dict)
    """The chat template's arguments, such as {"enable_thinking": false}; JSON in text counts as its value."""

    @field_validator("template_kwargs")
    @classmethod
    def _json_in_text(cls, given: dict[str, TemplateArgument]) -> dict[str, TemplateArgument]:
        """Arguments as the template must see them: ``--template-kwargs.enable_thinking false`` comes as text."""
        return {name: _value_of(argument) for name, argument in given.items()}


class DataSettings(BaseModel):
    """How a data set is read and turned into tokens."""

    model_config = STRICT

    format: Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "examples"] = "auto"
    """Form of the rows; auto recognises it from the first one and says so."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The data set's own names for our fields, e.g. {"prompt": "question", "completion": "answer"}."""
    split: str = "train"
    """Split of a Hub data set or of a task."""
    data: Path | None = None
    """Folder with local copies of the benchmarks, one folder a task, for task:NAME sources."""
    max_length: int | None = Field(None, gt=0)
    """Longest row in tokens; None is the model's own limit."""
    over_long: Literal["drop", "cut", "error"] = "drop"
    """What happens to longer rows; cut shortens at the end."""
    duplicates: Literal["keep", "drop"] = "keep"
    """What happens to a row whose tokens another row already has."""
    last_turn_only: bool = False
    """Train the last assistant turn only; otherwise all of them."""
    continue_last_turn: bool = False
    """The last assistant turn is unfinished: no end-of-turn is added to it."""
    normalise: tuple[Literal["line_ends", "trailing_blanks", "tabs"], ...] = ()
    """Changes to the responses' text before they are made into tokens."""
    limit: int | None = Field(None, gt=0)
    """Take the first N rows only."""


def as_settings(kind: type[Settings], given: object, where: str) -> Settings:
    """Settings as they are, or from a dict of their fields; None gives the defaults.

    Args:
        kind: the settings class.
        given: what a caller passed.
        where: name of the argument, for the message.

    Raises:
        InputError: it is something else, or a field's name or value is not right.
    """
    if isinstance(given, kind):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise InputError(
            f"expected {kind.__name__} or a dict, got {type(given).__name__}", where=where, fix=f"{kind.__name__}(…)"
        )
    try:
        return kind.model_validate(dict(given or {}))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (where, *first["loc"])))
        raise InputError(in_words(first), where=place) from None


def _value_of(argument: TemplateArgument) -> TemplateArgument:
    """The JSON value that a text holds, the text itself where it holds none."""
    if not isinstance(argument, str):
        return argument
    try:
        return cast("TemplateArgument", json.loads(argument, parse_constant=str))
    except (ValueError, RecursionError):
        return argument


class ScoreSettings(BaseModel):
    """Measures of every token, and batching."""

    model_config = STRICT

    scorer: str = "base"
    """Name under which the scores are kept; `base` is the model that is about to be trained."""
    prompts: bool = False
    """Score the prompt's tokens too."""
    entropy: bool = True
    """Keep the entropy of the next-token distribution."""
    rank: bool = True
    """Keep the number of vocabulary entries that are more likely than the token."""
    entropy_top_k: int | None = Field(None, ge=2)
    """Keep the entropy of the K most likely entries too, renormalised."""
    head_dtype: Literal["float32", "tf32", "model"] = "float32"
    """dtype of the LM-head matmul; bfloat16 moves 3-5 % of the tokens near a threshold."""
    token_budget: int | None = Field(None, gt=0)
    """Tokens in one batch, padding included; None finds it from the free memory."""
    packing: bool | None = None
    """Several rows in one sequence; None does so where the attention kernel keeps them apart."""
    shard_rows: int = Field(512, gt=0)
    """Rows in one file of the output; work lost by a crash is at most one of them."""
    store: Path | None = None
    """Folder of the score store; None is the user's cache."""
    use_store: bool = True
    """Look up and keep scores in the store."""


class LaunchSettings(BaseModel):
    """Where scores are computed, and by what; scores depend on the backend, never on the engine."""

    model_config = STRICT

    backend: Literal["transformers", "vllm"] = "transformers"
    """Library that computes. vllm's scores differ from those of transformers; compare-backends says by how much."""
    url: str | None = None
    """A running vLLM server, up to and with /v1, that serves --model; without it vllm runs in this process."""
    engine: Literal["local", "ray"] = "local"
    """This process, or the workers of a Ray cluster (one is started here where none is running)."""
    workers: int = Field(2, gt=0)
    """Ray: models at the same time, each on a GPU of its own where there are any."""
    shard: str | None = None
    """The part i/N of the work that this process does, i from 0, for job arrays; torchrun sets it by itself."""


class SelectSettings(BaseModel):
    """Which tokens teach."""

    model_config = STRICT

    policy: str = "stm:2.5"
    """Policy as NAME:ARGUMENT, several joined by &; `tokensieve select --help` lists the names."""
    scorer: str = "base"
    """Name of the scorer whose scores decide."""
    protect: tuple[Literal["end_of_turn", "tool_calls", "reasoning"], ...] = ("end_of_turn", "tool_calls", "reasoning")
    """Tokens that are trained whatever the policy says: end of turn, tool-call delimiters, reasoning tags."""
    paper_exact: bool = False
    """The paper's rule to the letter: no token is protected."""
    seed: int = Field(0, ge=0)
    """Seed of what is drawn: random policies, and the rows of a mix."""

    @model_validator(mode="after")
    def _check_protection(self) -> "SelectSettings":
        if self.paper_exact and self.protect and "protect" in self.model_fields_set:
            raise ValueError("paper_exact protects no token, so that protect has no effect; give one of the two")
        return self


class LoraSettings(BaseModel):
    """The low-rank adapter."""

    model_config = STRICT

    r: int = Field(16, gt=0)
    """Rank."""
    alpha: int = Field(32, gt=0)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout on the adapter's input."""
    dora: bool = False
    """Weight-decomposed variant (DoRA)."""


class MachineSettings(BaseModel):
    """How a fine-tuning run is fitted to the machine; the same run to float rounding, whatever is chosen."""

    model_config = STRICT

    micro_batch_size: int | None = Field(None, gt=0)
    """Rows in one forward pass on one device; None is the whole batch."""
    packing: bool = False
    """The rows of a forward pass as one sequence without padding; the same batches, the same loss."""
    gradient_checkpointing: bool | None = None
    """Recompute activations to save memory; None does so on a GPU."""
    checkpoint_minutes: float = Field(10.0, ge=0)
    """Minutes between checkpoints; after a kill a run goes on from the last one."""


class PilotSettings(BaseModel):
    """A short fine-tuning run that shows where the model drifts."""

    model_config = STRICT

    adapter: Path | None = None
    """A finished training run to take in place of the pilot: folder of an adapter or of a whole model."""
    rows: int = Field(160, gt=0)
    """Training rows, the first ones, in one epoch."""
    method: Literal["lora", "full"] = "lora"
    """As in `train`."""
    learning_rate: float = Field(2e-4, gt=0)
    """Peak learning rate."""
    batch_size: int = Field(16, gt=0)
    """Rows in one optimiser step."""


class AnchorSettings(BaseModel):
    """Which rows hold a model in training to its base, and how they are found."""

    model_config = STRICT

    source: Literal["dialogues", "answers", "rows"] = "dialogues"
    """Candidates: dialogues drawn from the base itself; the base's own answers to prompts; responses as they are."""
    data: str | None = None
    """Data set with the prompts of source answers, or the rows of source rows."""
    candidates: int = Field(1600, gt=0)
    """Rows to choose from."""
    count: int = Field(150, gt=0)
    """Anchors that are kept."""
    random_share: float = Field(0.25, ge=0, le=1)
    """Share of the anchors drawn at random, so that skills the pilot left alone stay covered; 1 is the control."""
    top_k: int = Field(64, gt=0)
    """Entries kept of the base's distribution at each token; the rest of the mass counts as one entry."""
    max_new_tokens: int = Field(256, gt=0)
    """Longest drawn answer in tokens."""
    temperature: float = Field(1.0, ge=0)
    """Sampling temperature of drawn rows."""
    seed: int = Field(0, ge=0)
    """Seed of drawing, of the pilot and of the random share."""
    pilot: PilotSettings = PilotSettings()
    """The run whose drift decides."""


class KlSettings(BaseModel):
    """KL divergence to the base on anchors, added to the loss of the training rows."""

    model_config = STRICT

    anchors: Path | None = None
    """Folder that `tokensieve anchors` has made; None trains without anchors."""
    weight: float = Field(5.0, ge=0)
    """Factor of the mean KL (nats per anchor token) in the loss; the first value where a budget is set."""
    rows: int | None = Field(None, gt=0)
    """Anchor rows in one optimiser step, over all devices; None is the batch size."""
    budget: float | None = Field(None, gt=0)
    """Drift in nats per token that the weight is steered to while training; None keeps the weight."""
    range: float = Field(16.0, ge=1)
    """With a budget: the weight stays within a factor of this of its first value."""


class ObjectiveSettings(BaseModel):
    """What training minimises: the loss of a trained token, and what holds the weights or the model to their start."""

    model_config = STRICT

    loss: str = "nll"
    """nll; or a published loss on the model in training: dft, eaft, infosft, profit, talr, asft, kl, reverse_kl,
    online_stm, base_stm, each with its argument as NAME:NUMBER."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay, towards 0."""
    l2_to_start: float = Field(0.0, ge=0)
    """Factor of the trained weights' distance from their start, added to their gradient after clipping."""
    kl: KlSettings = KlSettings()
    """Anchors that hold the model to its base."""


class TrainSettings(BaseModel):
    """One fine-tuning run; the defaults are the paper's STM runs."""

    model_config = STRICT

    method: Literal["lora", "full"] = "lora"
    """Train an adapter, or all weights."""
    learning_rate: float = Field(2e-5, gt=0)
    """Peak learning rate."""
    epochs: float = Field(3.0, gt=0)
    """Passes over the data."""
    batch_size: int = Field(4, gt=0)
    """Rows in one optimiser step, over all devices."""
    warmup_steps: int = Field(20, ge=0)
    """Steps until the peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rate after the warm-up."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """adamw_8bit needs bitsandbytes and a GPU."""
    group_by_length: bool = False
    """Batches of rows of like length: less padding (a fifth of the time on short rows), another order."""
    seed: int = Field(0, ge=0)
    """Order of the rows and initial adapter weights."""
    lora: LoraSettings = LoraSettings()
    """The adapter, where the method is lora."""
    objective: ObjectiveSettings = ObjectiveSettings()
    """What is minimised."""
    machine: MachineSettings = MachineSettings()
    """How the run is fitted to the machine."""


Temperature: TypeAlias = Annotated[float, Field(ge=0, description="0 is greedy.")]
TopP: TypeAlias = Annotated[
    float, Field(gt=0, le=1, description="Nucleus: the most likely tokens that hold this share of the probability.")
]
MaxNewTokens: TypeAlias = Annotated[
    int | None, Field(gt=0, description="Longest answer in tokens; None is the task's own limit.")
]
SampleBatch: TypeAlias = Annotated[int, Field(gt=0, description="Answers drawn at the same time.")]
SampleSeed: TypeAlias = Annotated[
    int,
    Field(ge=0, description="Seed; a prompt's draws depend on it and on the prompt's id, never on the batch."),
]


class SampleSettings(BaseModel):
    """How answers are drawn from a model."""

    model_config = STRICT

    n: int = Field(1, gt=0)
    """Answers a prompt."""
    temperature: Temperature = 0.0
    top_p: TopP = 1.0
    max_new_tokens: MaxNewTokens = None
    batch_size: SampleBatch = 128
    seed: SampleSeed = 0


class AnswererSettings(BaseModel):
    """Who answers, where it is not the model under study in this process."""

    model_config = STRICT

    backend: Literal["transformers", "ray", "vllm", "server"] = "transformers"
    """In this process by transformers or vLLM, by Ray's workers, or a server that speaks OpenAI's chat completions."""
    model: str | None = None
    """Another model than the one under study: a Hub name or a folder; with a server, the name it has there."""
    url: str | None = None
    """Base address of the server, e.g. http://localhost:8000/v1."""
    workers: int = Field(2, gt=0)
    """Ray: models at the same time, each on a GPU of its own where there are any."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the server's key; where it is not set, none is sent."""
    concurrency: int = Field(16, gt=0)
    """Requests under way at the same time."""
    retries: int = Field(6, ge=0)
    """Further tries of a request that a server refused for the moment, with growing pauses."""
    timeout_s: float = Field(300.0, gt=0)
    """Longest wait for one answer."""
    requests_per_minute: int | None = Field(None, gt=0)
    """Not more than these; None leaves it to the server's refusals."""


class DialogueSettings(BaseModel):
    """Self-dialogue: prompts and answers are both drawn from the model itself."""

    model_config = STRICT

    count: int = Field(400, gt=0)
    """Dialogues to draw; repeated, degenerate and cut-off ones among them are counted out."""
    turns: int = Field(1, gt=0)
    """Exchanges of a dialogue."""
    prompt_temperature: float = Field(1.0, ge=0)
    """Temperature of the user's turns; the answers' is sampling.temperature."""
    prompt_tokens: int = Field(256, gt=0)
    """Longest user's turn."""
    answer_tokens: int = Field(512, gt=0)
    """Longest answer, unless sampling.max_new_tokens says."""
    max_perplexity: float | None = Field(None, ge=1)
    """Dialogues whose last answer has a higher sentence perplexity are counted out."""
    max_prompt_perplexity: float | None = Field(None, ge=1)
    """Dialogues with a user's turn of a higher sentence perplexity are counted out."""
    verify: str | None = None
    """Check of the last answer: shown-tests (the prompt's own assert lines, in the sandbox), or file.py:name."""
    unverified: Literal["keep", "drop"] = "keep"
    """What happens to dialogues that the check does not fit."""


class ManySettings(BaseModel):
    """How answers are drawn to choose among them: as the paper draws Self-Output."""

    model_config = STRICT

    n: int | None = Field(None, gt=0)
    """Answers a prompt; None is the arm's own number."""
    temperature: Temperature = 0.7
    top_p: TopP = 0.95
    max_new_tokens: MaxNewTokens = None
    batch_size: SampleBatch = 128
    seed: SampleSeed = 0


class GenerateSettings(BaseModel):
    """Training data made by a model."""

    model_config = STRICT

    arm: str = "self-output"
    """Origin of the data by the name of its arm, such as self-output or rephrase."""
    sampling: ManySettings = ManySettings()
    """How it is drawn."""
    choose: Literal["lowest-perplexity", "random", "shortest", "first"] = "lowest-perplexity"
    """Which of the correct answers is kept."""
    perplexity: Literal["conditional", "unconditional"] = "conditional"
    """Of the answer given the prompt, or of its text alone (as the paper's authors' code chooses)."""
    none_correct: Literal["drop", "ground-truth"] = "drop"
    """What happens to a prompt without a correct answer."""
    stop_at: int | None = Field(None, gt=0)
    """Stop drawing for a prompt once it has this many correct answers."""
    correct_share: float = Field(1.0, ge=0, le=1)
    """Share of prompts whose kept answer is a correct one, the others' is a wrong one: for ablations."""
    answerer: AnswererSettings = AnswererSettings()
    """Who answers, where it is not the model under study in this process."""
    dialogue: DialogueSettings = DialogueSettings()
    """The arm self-dialogue only."""


class EvaluateSettings(BaseModel):
    """Which problems are answered, and how."""

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
    """A data set to whose prompts the base's own answers are drawn and measured."""
    text: Path | None = None
    """A UTF-8 file of plain text, in rows of 1,024 tokens."""
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
    candidates: tuple[str, ...] = ("plain", "stm:2.5", "plain + anchors", "stm:100 + anchors")
    """Policies, as in `select`; ` + anchors` adds the KL divergence to the base on drift-guided anchors."""
    rates: tuple[float, ...] = (1e-4, 2e-4, 4e-4)
    """Peak learning rates, each tried with every candidate."""
    rungs: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Shares of the training rows, ascending; half of the candidates goes on from one to the next, three at least."""
    kl_weight: float = Field(5.0, gt=0)
    """Weight of the KL on anchors."""
    anchors: AnchorSettings = AnchorSettings()
    """How anchors are found, where a candidate has them."""
    drift: DriftSettings = DriftSettings()
    """Rows on which drift is measured."""


class ArmSettings(BaseModel):
    """One arm of a study: a training set, the tokens of it that are trained, and how."""

    model_config = STRICT

    name: str
    """Its name in tables."""
    data: Origin = Origin.GROUND_TRUTH
    """Who wrote the responses."""
    policy: str = "plain"
    """Policy, as in `select`."""
    scorer: str = "base"
    """Scorer whose scores decide, as in `select`: `base`, or a name in the study's score.models."""
    protect: tuple[Literal["end_of_turn", "tool_calls", "reasoning"], ...] | None = None
    """As in `select`; None protects all of them."""
    paper_exact: bool = False
    """As in `select`: no token is protected."""
    mix: str | None = None
    """FOLDER:SHARE of rows to be mixed in whole, as in `select`."""
    train: dict[str, JSON] = Field(default_factory=dict)
    """Settings of `train` that differ from the study's, nested as there, e.g. {learning_rate: 1.0e-4, lora: {r: 8}}."""

    def select_settings(self, seed: int) -> SelectSettings:
        """The settings of its selection."""
        given = {} if self.protect is None else {"protect": self.protect}
        return SelectSettings(policy=self.policy, scorer=self.scorer, paper_exact=self.paper_exact, seed=seed, **given)


class TargetSettings(BaseModel):
    """One target of a study: what is learnt, and the skills that may be forgotten."""

    model_config = STRICT

    task: str
    """The task whose train split is learnt and on which the gain is measured."""
    others: tuple[str, ...]
    """The tasks over which backward transfer is taken."""
    title: str = ""
    """One line for people."""

    @model_validator(mode="after")
    def _check_others(self) -> "TargetSettings":
        if self.task in self.others:
            raise ValueError(f"{self.task} is the target, so it cannot be among the others")
        return self


class StudyScoreSettings(ScoreSettings):
    """What is measured of every training token of a study, and by which models."""

    models: dict[str, ModelSettings | str] = Field(default_factory=dict)
    """Models beside the one under study, by scorer name: a model's settings, or arm:NAME for the model that an earlier
    arm trains on the same target (its first seed)."""

    def by(self, scorer: str) -> ScoreSettings:
        """The settings of scoring by one model."""
        return ScoreSettings.model_validate({**self.model_dump(exclude={"models"}), "scorer": scorer})


class StudyEvaluateSettings(EvaluateSettings):
    """How the skills of a study's models are measured."""

    other_limit: int | None = Field(None, gt=0)
    """The first N problems of each task that is not a target; None is `limit`."""

    def of(self, task: str, *, is_target: bool) -> EvaluateSettings:
        """The settings of evaluating one task."""
        limit = self.limit if is_target else self.other_limit or self.limit
        return EvaluateSettings.model_validate(
            {**self.model_dump(exclude={"other_limit"}), "tasks": (task,), "limit": limit}
        )


class StudySettings(BaseModel):
    """Arms x targets x seeds with one setting of everything else."""

    model_config = STRICT

    name: str
    """Name of the recipe; the run's folder carries it."""
    title: str = ""
    """One line for people."""
    model: ModelSettings = ModelSettings()
    """The model under study."""
    targets: tuple[TargetSettings, ...] = Field(min_length=1)
    """What is learnt."""
    arms: tuple[ArmSettings, ...] = Field(min_length=1)
    """What is compared; an arm named `plain` is the reference."""
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    """One run of every arm for each."""
    data: DataSettings = DataSettings()
    """How the training rows are read and turned into tokens; `limit` takes the first N of each target."""
    score: StudyScoreSettings = StudyScoreSettings()
    """What is measured of every training token, and by which models beside the one under study."""
    train: TrainSettings = TrainSettings()
    """Settings of all arms, but for those that an arm has of its own."""
    generate: GenerateSettings = GenerateSettings()
    """How Self-Output and its like are made."""
    evaluate: StudyEvaluateSettings = StudyEvaluateSettings()
    """How skills are measured; `tasks` is filled from the targets."""
    notes: tuple[str, ...] = ()
    """Sentences that the report's readers must know, such as how the learning rate was chosen."""

    @field_validator("targets", "arms", "seeds")
    @classmethod
    def _check_unique(cls, listed: Listed) -> Listed:
        """Results are kept and shown by these names, so that a second one would hide the first."""
        names = [getattr(entry, "name", getattr(entry, "task", entry)) for entry in listed]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is listed twice")
        return listed

    @model_validator(mode="after")
    def _check_used(self) -> "StudySettings":
        """Refuse settings that a study does not use."""
        unused = {
            "data.format": self.data.format != "auto",
            "data.columns": bool(self.data.columns),
            "score.scorer": self.score.scorer != BASE_SCORER,
            f"score.models.{BASE_SCORER}": BASE_SCORER in self.score.models,
            "evaluate.tasks": bool(self.evaluate.tasks),
            "train.seed": self.train.seed != 0 or any("seed" in arm.train for arm in self.arms),
        }
        instead = {
            "score.scorer": "name other models in score.models",
            "evaluate.tasks": "name them in the targets",
            "train.seed": "give seeds",
        }
        for name in (name for name, given in unused.items() if given):
            raise ValueError(f"{name} has no effect in a study; {instead.get(name, 'leave it out')}")
        names = [arm.name for arm in self.arms]
        for scorer, model in self.score.models.items():
            arm = model.removeprefix(ARM_PREFIX) if isinstance(model, str) else ""
            if isinstance(model, str) and (not model.startswith(ARM_PREFIX) or arm not in names):
                expected = f"a model's settings, or arm:NAME with an arm of the study ({', '.join(names)})"
                raise ValueError(f"score.models.{scorer}: expected {expected}, got {model!r}")
        for one in self.arms:
            self.train_of(one)
            one.select_settings(0)
        return self

    def train_of(self, arm: ArmSettings) -> TrainSettings:
        """An arm's training settings: the study's, with its own in their place.

        Raises:
            ValueError: an unknown key (the nearest valid one is named), or a value of the wrong form.
        """
        merged = _merged(self.train.model_dump(), arm.train)
        try:
            return TrainSettings.model_validate(merged)
        except ValidationError as error:
            raise ValueError(f"arm {arm.name!r}: {explain(error, TrainSettings, 'train')}") from None


def _merged(old: dict[str, JSON], new: dict[str, JSON]) -> dict[str, JSON]:
    """Nested settings with some of them replaced."""
    result = dict(old)
    for key, value in new.items():
        held = result.get(key)
        result[key] = _merged(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return result
