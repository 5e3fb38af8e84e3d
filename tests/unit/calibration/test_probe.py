"""The probe on the embedded model: what a pilot learns of unlikely tokens."""

import numpy as np
import pytest

from tokensieve.calibration.probe import Probe, probe_lesson
from tokensieve.config import CalibrateSettings, DataSettings, ModelSettings, ProbeSettings, ScoreSettings
from tokensieve.models import load_model
from tokensieve.pipeline import load
from tokensieve.scoring import score


def test_without_a_pilot_nothing_is_learnt() -> None:
    base = load_model(ModelSettings(model="pocket"))
    rows = load("task:pocket_sql_house/validation", base, DataSettings(limit=3))
    found = probe_lesson(rows, base, base, CalibrateSettings(probe=ProbeSettings(unlikely=2.5, lesson_share=0.1)))
    scored = score(rows, base, ScoreSettings(use_store=False))
    nll_N = np.concatenate([row.nll_T()[row.tokens.in_response_T] for row in scored])
    assert found.unlikely_share == pytest.approx(float((nll_N > np.log(2.5)).mean()))
    assert found.unlikely_before == found.unlikely_after == pytest.approx(float(nll_N[nll_N > np.log(2.5)].mean()))
    assert found.likely_before == found.likely_after
    assert found.share_learnt == 0
    assert not found.in_unlikely_tokens


@pytest.mark.parametrize(("after", "share"), [(1.0, 0.5), (3.0, -0.5), (2.0, 0.0)])
def test_share_learnt_is_the_fall_of_the_nll(after: float, share: float) -> None:
    probe = Probe(
        unlikely_share=0.2,
        unlikely_before=2.0,
        unlikely_after=after,
        likely_before=0.1,
        likely_after=0.1,
        in_unlikely_tokens=False,
    )
    assert probe.share_learnt == share
