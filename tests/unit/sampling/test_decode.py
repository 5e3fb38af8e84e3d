"""Scheduling of the decoding loop."""

from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor

from tokensieve.config import SampleSettings
from tokensieve.models import LoadedModel
from tokensieve.sampling import LocalSampler, Request, draw


@pytest.mark.parametrize(("share", "widths"), [(0.75, {40: 2, 20: 3, 4: 1}), (0.0, {40: 6})])
def test_prompts_of_like_length_run_together(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., LoadedModel], share: float, widths: dict[int, int]
) -> None:
    monkeypatch.setattr(draw, "_LIKE_LENGTH", share)
    loaded = tiny_model("LlamaConfig")
    rng = np.random.default_rng(0)
    asked = [
        Request(str(length), (), 6, prompt_T=rng.integers(6, 260, length).astype(np.int32))
        for length in (16, 40, 4, 33, 20, 18)
    ]
    shapes: list[tuple[int, ...]] = []

    def look(_model: object, _given: object, named: dict[str, Tensor]) -> None:
        shapes.append(tuple(named["input_ids"].shape))

    handle = loaded.model.register_forward_pre_hook(look, with_kwargs=True)
    drawn = {s.problem_id: s.ids for s in LocalSampler(loaded).draw(asked, SampleSettings())}
    handle.remove()
    assert {width: rows for rows, width in shapes[: len(widths)]} == widths
    alone = LocalSampler(loaded).draw(asked, SampleSettings(batch_size=1))
    assert drawn == {s.problem_id: s.ids for s in alone}
