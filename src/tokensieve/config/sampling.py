"""Settings of drawing answers and making training data of them."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field, field_validator

from tokensieve.config.base import STRICT

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
    """Sampling of answers."""

    model_config = STRICT

    n: int = Field(1, gt=0)
    """Answers a prompt."""
    temperature: Temperature = 0.0
    top_p: TopP = 1.0
    max_new_tokens: MaxNewTokens = None
    batch_size: SampleBatch = 128
    seed: SampleSeed = 0


class AnswererSettings(BaseModel):
    """Source of the answers, where it is not the model under study in this process."""

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
    """Not more than these; without it the server's refusals set the pace."""


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
    """Treatment of dialogues that the check does not fit."""


class ManySettings(BaseModel):
    """Sampling of several answers to choose among; the defaults are the paper's for Self-Output."""

    model_config = STRICT

    n: int | None = Field(None, gt=0)
    """Answers a prompt; by default the arm's own number."""
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
    """Sampling."""
    choose: Literal["lowest-perplexity", "random", "shortest", "first"] = "lowest-perplexity"
    """Choice among the correct answers."""
    perplexity: Literal["conditional", "unconditional"] = "conditional"
    """Of the answer given the prompt, or of its text alone (as the paper's authors' code chooses)."""
    none_correct: Literal["drop", "ground-truth"] = "drop"
    """Treatment of a prompt without a correct answer."""
    stop_at: int | None = Field(None, gt=0)
    """Stop drawing for a prompt once it has this many correct answers."""
    correct_share: float = Field(1.0, ge=0, le=1)
    """Share of prompts whose kept answer is a correct one, the others' is a wrong one: for ablations."""
    answerer: AnswererSettings = AnswererSettings()
    """Source of the answers, where it is not the model under study in this process."""
    dialogue: DialogueSettings = DialogueSettings()
    """The arm self-dialogue only."""

    @field_validator("sampling", mode="before")
    @classmethod
    def _set_fields(cls, sampling: object) -> object:
        """Of ``SampleSettings`` the fields that were set; the others are these settings' own defaults."""
        return sampling.model_dump(exclude_unset=True) if isinstance(sampling, SampleSettings) else sampling
