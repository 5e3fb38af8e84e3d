"""The time of work with a model: sums of what is read, trained and drawn; two short forward passes."""

from collections.abc import Callable

import pytest
import torch

from tokensieve.models import LoadedModel
from tokensieve.models.speed import Speed, Work, measure_speed

SPEED = Speed(read_s=0.001, drawn_s=0.01, spectrum_s=5.0)


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        (Work(), 0.0),
        (Work(read=1000), 1.0),
        (Work(trained=1000), 3.0),
        (Work(drawn=100), 1.0),
        (Work(spectra=2), 10.0),
        (Work(read=1000, drawn=100) + Work(read=1000, spectra=1), 8.0),
    ],
)
def test_seconds_are_those_of_the_parts(work: Work, seconds: float) -> None:
    assert SPEED.seconds(work) == pytest.approx(seconds)
    assert bool(work) == (seconds > 0)


def test_a_model_is_measured_and_the_threads_are_as_they_were(tiny_model: Callable[..., LoadedModel]) -> None:
    before = torch.get_num_threads()
    speed = measure_speed(tiny_model(), threads=before + 1)
    assert torch.get_num_threads() == before
    assert 0 < speed.read_s < speed.drawn_s, "a step's overhead is shared by few tokens"
    assert speed.spectrum_s > 0
