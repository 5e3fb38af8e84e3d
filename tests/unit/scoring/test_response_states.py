"""The preferred token is the argmax of full logits and the nll is theirs, at response tokens alone."""

import numpy as np
import torch
from tests.conftest import ModelFactory

from tokensieve.scoring.response_states import nll_of_rows, preferred_ids
from tokensieve.types import Tokens


def test_it_is_the_argmax_of_full_logits(tiny_model: ModelFactory) -> None:
    model = tiny_model("LlamaConfig", spread=4.0)
    rng = np.random.default_rng(0)
    rows = []
    for number, (length, start) in enumerate([(12, 4), (30, 29), (7, 0), (5, 5)]):
        in_response_T = np.arange(length) >= start
        ids_T = rng.integers(0, 300, length).astype(np.int32)
        rows.append(Tokens(str(number), ids_T, in_response_T, np.zeros(length, dtype=np.bool_)))
    for row, found_T in zip(rows, preferred_ids(rows, model), strict=True):
        with torch.inference_mode():
            logits_TV = model.model(input_ids=torch.from_numpy(row.ids_T.astype(np.int64))[None]).logits[0]
        expected_T = np.full(len(row), -1)
        expected_T[1:] = logits_TV[:-1].argmax(1).numpy()
        expected_T[~row.in_response_T] = -1
        assert found_T.tolist() == expected_T.tolist()
        (nll_T,) = nll_of_rows([row], model)
        dense_T = (
            -logits_TV[:-1].log_softmax(1).gather(1, torch.from_numpy(row.ids_T[1:].astype(np.int64))[:, None])[:, 0]
        )
        inside_T = row.in_response_T[1:]
        np.testing.assert_allclose(nll_T[1:][inside_T], dense_T.numpy()[inside_T], rtol=1e-4, atol=1e-4)
        assert np.isnan(nll_T[1:][~inside_T]).all()


def test_no_rows_have_no_preferred_tokens(tiny_model: ModelFactory) -> None:
    model = tiny_model("LlamaConfig")
    assert preferred_ids([], model) == nll_of_rows([], model) == []
