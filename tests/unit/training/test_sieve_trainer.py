"""A TRL trainer that selects tokens before its first step."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig

from tokensieve.config import SelectSettings
from tokensieve.errors import InputError
from tokensieve.models.device import checkpointing_arguments
from tokensieve.pipeline import load, select
from tokensieve.scoring import score
from tokensieve.training.sieve_trainer import SieveSFTTrainer, sieve_dataset

ROWS = [{"prompt": f"say {word}", "completion": f"{word} {word}!"} for word in ("fig", "pear", "yak", "sun")]


def config(out: Path, **changes: object) -> SFTConfig:
    return SFTConfig(
        output_dir=str(out), use_cpu=True, report_to="none", max_steps=1, save_strategy="no", logging_steps=1,
        per_device_train_batch_size=4, **checkpointing_arguments(False),
        **{"max_length": None, **changes},
    )  # fmt: skip


def test_labels_are_those_of_the_selection(tiny_folder: Path) -> None:
    made = sieve_dataset(Dataset.from_list(ROWS), str(tiny_folder), "stm:200")
    chosen = list(select(score(load(ROWS, str(tiny_folder)), str(tiny_folder)), "stm:200"))
    assert 0 < sum(int(row.train_T.sum()) for row in chosen) < sum(int(r.tokens.in_response_T.sum()) for r in chosen)
    for row, one in zip(chosen, made, strict=True):
        assert one["input_ids"] == row.tokens.ids_T.tolist()
        assert one["labels"] == np.where(row.train_T, row.tokens.ids_T, -100).tolist()


@pytest.mark.parametrize("given", ["name", "model"])
def test_the_first_loss_is_the_mean_nll_of_the_selected_tokens(tiny_folder: Path, tmp_path: Path, given: str) -> None:
    name = str(tiny_folder)
    model = name if given == "name" else AutoModelForCausalLM.from_pretrained(name)
    tokenizer = None if given == "name" else AutoTokenizer.from_pretrained(name)
    extra = {} if tokenizer is None else {"processing_class": tokenizer}
    trainer = SieveSFTTrainer(model, config(tmp_path), train_dataset=ROWS, policy="stm:200", **extra)
    trainer.train()
    loss = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    chosen = select(score(load(ROWS, name), name), "stm:200")
    nll = np.concatenate([row.scored.nll_T()[row.train_T] for row in chosen])
    assert loss == pytest.approx(float(nll.mean()), rel=1e-3)


def test_a_limit_that_would_cut_rows_and_soft_weights_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_length=64 would cut rows"):
        SieveSFTTrainer(str(tiny_folder), config(tmp_path, max_length=64), train_dataset=ROWS)
    with pytest.raises(InputError, match="a soft policy"):
        sieve_dataset(ROWS, str(tiny_folder), SelectSettings(policy="soft:2.5"))
