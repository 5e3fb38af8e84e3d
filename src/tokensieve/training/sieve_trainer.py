"""Token selection in one line for TRL's users: a trainer that scores and selects before its first step."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from tokensieve.config import DataSettings, ScoreSettings, SelectSettings
from tokensieve.errors import InputError
from tokensieve.models import load_model
from tokensieve.pipeline import load, select
from tokensieve.scoring import score
from tokensieve.types import IGNORE_INDEX

if TYPE_CHECKING:
    from tokensieve.data.formats.sources import Data
    from tokensieve.models import ModelLike


def sieve_dataset(
    dataset: "Data",
    model: "ModelLike",
    policy: SelectSettings | str = "stm:2.5",
    *,
    data: DataSettings | Mapping[str, object] = DataSettings(),
    scoring: ScoreSettings | None = None,
) -> Dataset:
    """Score a data set under a model and leave the policy's tokens out of the labels.

    Args:
        dataset: whatever ``tokensieve.load`` takes: a ``datasets.Dataset``, a list of dicts, a file, a Hub name.
        model: the model that is about to be trained, before training: a name, or a model with its tokenizer.
        policy: which tokens are trained.
        data: how the rows are read.
        scoring: how they are scored.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels`` (unshifted, -100 where a token is not trained): what TRL's
        SFTTrainer, the Hugging Face Trainer and Unsloth take as tokenised already. TRL needs ``max_length=None``.

    Raises:
        InputError: a policy with soft weights, which labels cannot carry, or as in ``load`` and ``score``.
    """
    loaded = load_model(model)
    # Among several processes the first one fills the store of scores, and the others read it.
    with PartialState().main_process_first():
        rows = select(score(load(dataset, loaded, data), loaded, scoring), policy, tokenizer=loaded.tokenizer)
        made = []
        for row in rows:
            if row.weight_T is not None:
                raise InputError(
                    "a soft policy gives each token a weight, which labels cannot carry",
                    where=policy if isinstance(policy, str) else policy.policy,
                    fix="tokensieve.train(...), or a policy that leaves tokens out, such as stm:2.5",
                )
            labels_T = np.where(row.train_T, row.tokens.ids_T, IGNORE_INDEX)
            made.append(
                {
                    "input_ids": row.tokens.ids_T.tolist(),
                    "attention_mask": [1] * len(row.tokens),
                    "labels": labels_T.tolist(),
                }
            )
    return Dataset.from_list(made)


class SieveSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's SFTTrainer, trained on the tokens that a policy selects under the model before training.

    ``SieveSFTTrainer("org/model", train_dataset=rows, policy="stm:2.5").train()`` in place of ``SFTTrainer``. Rows are
    tokenised here, so that what was scored is what is trained; TRL's own length limit, which cuts rows, is turned off.

    Args:
        model: a Hub name, a folder, or a model of transformers.
        args: TRL's configuration; its ``max_length`` must be None, which is the default here.
        train_dataset: conversations or prompts with completions, not tokenised.
        policy: which tokens are trained.
        data: how the rows are read: length policy, columns, duplicates.
        **kwargs: as in ``SFTTrainer``; ``processing_class`` is the tokenizer, by default the model's own.

    Raises:
        InputError: a length limit in ``args``, packing without one, or as in ``sieve_dataset``.
    """

    def __init__(
        self,
        model: "ModelLike",
        args: SFTConfig | None = None,
        *,
        train_dataset: "Data",
        policy: SelectSettings | str = "stm:2.5",
        data: DataSettings | Mapping[str, object] = DataSettings(),
        **kwargs: object,
    ) -> None:
        args = args or SFTConfig(output_dir="trainer_output", max_length=None)
        if args.max_length is not None and not args.packing:
            raise InputError(
                f"max_length={args.max_length} would cut rows after they were scored",
                where="SFTConfig.max_length",
                fix="max_length=None; a limit for rows is DataSettings(max_length=…, over_long='drop')",
            )
        tokenizer = kwargs.pop("processing_class", None)
        loaded = load_model(model if tokenizer is None else (model, tokenizer))
        super().__init__(
            model=loaded.model,
            args=args,
            train_dataset=sieve_dataset(train_dataset, loaded, policy, data=data),
            processing_class=loaded.tokenizer,
            **kwargs,
        )
