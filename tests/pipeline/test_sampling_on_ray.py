"""Ray on a local cluster of two workers, one of which is lost in the middle: the answers are those of one process."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tokensieve.config import AnswererSettings, GenerateSettings, ModelSettings, SampleSettings
from tokensieve.errors import EnvironmentProblem
from tokensieve.generation.run import sampler_of_settings
from tokensieve.models import load_model
from tokensieve.sampling import LocalSampler, RaySampler, Request
from tokensieve.types import Sample

SETTINGS = SampleSettings(temperature=0.8, top_p=0.9, batch_size=4)


def requests() -> list[Request]:
    rng = np.random.default_rng(0)
    prompts = [rng.integers(6, 262, int(rng.integers(3, 12))).astype(np.int32) for _ in range(10)]
    return [Request(f"p{place}", (), 12, n=2, task="toy", prompt_T=prompt) for place, prompt in enumerate(prompts)]


def test_without_ray_its_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentProblem, match=r"tokensieve\[ray\]"):
        RaySampler(ModelSettings())


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_where_an_answer_is_drawn_changes_nothing_in_it(cluster: None, tiny_folder: Path) -> None:
    import ray

    model = ModelSettings(model=str(tiny_folder))
    alone = LocalSampler(load_model(model))
    settings = GenerateSettings(answerer=AnswererSettings(backend="ray", workers=2))
    drawn: list[Sample] = []
    with sampler_of_settings(settings, load_model(model)) as sampler:
        assert isinstance(sampler, RaySampler)
        assert sampler.identity == alone.identity
        for sample in sampler.draw(requests(), SETTINGS):
            if not drawn:
                ray.kill(sampler._workers[0], no_restart=False)
            drawn.append(sample)

    def found(samples: list[Sample]) -> dict[tuple[str, int], tuple[tuple[int, ...], bool]]:
        return {(sample.problem_id, sample.index): (sample.ids, sample.finished) for sample in samples}

    assert found(drawn) == found(list(alone.draw(requests(), SETTINGS)))
