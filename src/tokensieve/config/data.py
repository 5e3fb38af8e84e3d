"""Settings of reading and scoring a data set, and of selecting its tokens."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field, model_validator

from tokensieve.config.base import ONCE, STRICT
from tokensieve.types import JSON


class DataSettings(BaseModel):
    """Reading and tokenisation of a data set."""

    model_config = STRICT

    format: Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "examples"] = "auto"
    """Form of the rows; auto recognises it from the first one and says so."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The data set's own names for our fields, e.g. {"prompt": "question"}; as an option --columns.prompt question."""
    split: str = "train"
    """Split of a Hub data set or of a task."""
    data: Path | None = None
    """Folder with local copies of the benchmarks, one folder a task, for task:NAME sources."""
    max_length: int | None = Field(None, gt=0)
    """Longest row in tokens; by default the model's own limit."""
    over_long: Literal["drop", "cut", "error"] = "drop"
    """Treatment of longer rows; cut shortens at the end."""
    duplicates: Literal["keep", "drop"] = "keep"
    """Treatment of a row whose tokens another row already has."""
    last_turn_only: bool = False
    """Train the last assistant turn only; otherwise all of them."""
    continue_last_turn: bool = False
    """The last assistant turn is unfinished: no end-of-turn is added to it."""
    normalise: tuple[Literal["line_ends", "trailing_blanks", "tabs"], ...] = ()
    """Changes to the responses' text before they are made into tokens."""
    limit: int | None = Field(None, gt=0)
    """Take the first N rows only."""


class ScoreSettings(BaseModel):
    """Measures of every token, and batching."""

    model_config = STRICT

    scorer: str = Field("base", min_length=1)
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
    """Tokens in one batch, padding included; by default as memory allows, on a GPU about 1 GiB beside the weights."""
    packing: bool | None = None
    """Several rows in one sequence; by default where the attention kernel keeps them apart."""
    shard_rows: int = Field(512, gt=0)
    """Rows in one file of the output; work lost by a crash is at most one of them."""
    store: Path | None = None
    """Folder of the score store; by default in the user's cache."""
    use_store: bool = True
    """Look up and keep scores in the store."""


class LaunchSettings(BaseModel):
    """Backend and engine of scoring; scores depend on the backend, never on the engine."""

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
    """Selection of the tokens that contribute to the loss."""

    model_config = STRICT

    policy: str = "stm:2.5"
    """Policy as NAME:ARGUMENT, several joined by &; `tokensieve select --help` lists the names."""
    scorer: str = "base"
    """Name of the scorer whose scores decide."""
    protect: tuple[Literal["end_of_turn", "tool_calls", "reasoning"], ...] = ("end_of_turn", "tool_calls", "reasoning")
    """Tokens that are trained whatever the policy says: end of turn, tool-call delimiters, reasoning tags."""
    paper_exact: bool = False
    """The paper's rule to the letter: no token is protected."""
    protect_cap: float | None = Field(None, gt=0)
    """Cap in nats on the loss of a protected token: its weight is min(1, cap / nll); without it the loss is whole."""
    seed: int = Field(0, ge=0)
    """Seed of what is drawn: random policies, and the rows of a mix."""

    @model_validator(mode="after")
    def _check_protection(self) -> "SelectSettings":
        if self.paper_exact and self.protect and "protect" in self.model_fields_set:
            raise ValueError("paper_exact protects no token, so that protect has no effect; give one of the two")
        if self.protect_cap is not None and (self.paper_exact or not self.protect):
            raise ValueError("no token is protected, so that protect_cap has no effect; leave it out")
        return self

    def for_key(self) -> dict[str, JSON]:
        """The settings as part of a key: without a cap, which earlier versions did not know, as they wrote them."""
        unset = {"protect_cap"} if self.protect_cap is None else set()
        return self.model_dump(mode="json", exclude=unset)


Perplexities: TypeAlias = Annotated[tuple[Annotated[float, Field(ge=1)], ...], ONCE]
"""Perplexities, each once."""


class InspectSettings(BaseModel):
    """Settings of inspect: the profile of a training set, and the reading of labels that another tool made."""

    model_config = STRICT

    policy: str = "stm:2.5"
    """Policy whose choice is shown of scored rows; a folder that select made has its own."""
    thresholds: Perplexities = (1.5, 2.0, 2.5, 3.0, 5.0, 10.0, 25.0, 100.0, 1000.0)
    """Perplexities over which the shares of tokens and of nll are shown."""
    top: int = Field(10, gt=0)
    """Number of tokens and of rows that are listed."""
    own_answers: Path | None = None
    """Folder that generate made: the model's own answers, whose sentence perplexities are set beside the data's."""
    labels: Literal["auto", "unshifted", "shifted"] = "auto"
    """Convention of labels: unshifted, label t is token t; shifted, label t is token t + 1; auto finds it out."""
