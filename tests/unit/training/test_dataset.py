"""The check that a trainer reads all rows and trained tokens of its data set."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerState

from tokensieve.errors import CheckFailed
from tokensieve.training.dataset import TrainingSet, check_all_was_trained, rows_of

DATA = TrainingSet(Path("rows"), rows=4, trained_tokens=10, empty_rows=0, longest=7, weighted=False)


def _trainer(rows: int, tokens: int, processes: int = 1) -> SimpleNamespace:
    log = [{"loss": 1.0, "rows": rows, "trained_tokens": tokens}, {"eval_score": 2.0}]
    return SimpleNamespace(state=TrainerState(log_history=log), args=SimpleNamespace(world_size=processes))


def test_rows_are_lines_of_a_padded_batch_and_beginnings_of_a_packed_one() -> None:
    assert rows_of({"labels": torch.zeros(3, 5)}) == 3
    assert rows_of({"labels": torch.zeros(1, 5), "position_ids": torch.tensor([[0, 1, 0, 1, 2]])}) == 2


def test_a_lack_of_rows_or_tokens_is_an_error_but_for_several_processes_and_parts_of_epochs() -> None:
    check_all_was_trained(_trainer(8, 20), DATA, 2.0)
    for rows, tokens, name in ((7, 20, "rows"), (8, 19, "trained tokens")):
        with pytest.raises(CheckFailed, match=f"{name} in 2 epochs"):
            check_all_was_trained(_trainer(rows, tokens), DATA, 2.0)
        check_all_was_trained(_trainer(rows, tokens, processes=2), DATA, 2.0)
        check_all_was_trained(_trainer(rows, tokens), DATA, 1.5)
