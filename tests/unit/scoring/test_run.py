import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from tests.counting_backend import PLAIN, Counting, score_rows, tokens_of

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import in_memory, open_rows
from tokensieve.data.manifest import Manifest, ModelIdentity
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel
from tokensieve.scoring import score, score_with
from tokensieve.scoring.backend import Measures, ScoreRecord, ScoreRequest
from tokensieve.types import Scored

ModelFactory = Callable[..., LoadedModel]


def test_only_the_response_is_scored_and_never_the_first_token(tiny_model: ModelFactory) -> None:
    rows = in_memory(
        [
            tokens_of("prompt and response", [5, 6, 7, 8], 2),
            tokens_of("all response", [5, 6, 7], 0),
            tokens_of("no response", [5, 6, 7], 3),
            tokens_of("one token", [5], 0),
            tokens_of("nothing", [], 0),
        ],
        Manifest(stage="tokens"),
    )
    scored = list(score(rows, tiny_model()))
    assert [row.scores["base"].scored_T.tolist() for row in scored] == [
        [False, False, True, True],
        [False, True, True],
        [False, False, False],
        [False],
        [],
    ]
    with_prompts = list(score(rows, tiny_model(), ScoreSettings(prompts=True)))
    assert with_prompts[0].scores["base"].scored_T.tolist() == [False, True, True, True]
    assert with_prompts[2].scores["base"].scored_T.tolist() == [False, True, True]
    for one, other in zip(scored, with_prompts, strict=True):
        places = one.scores["base"].scored_T
        np.testing.assert_allclose(one.nll_T()[places], other.nll_T()[places], atol=1e-5)


def test_entropy_and_rank_are_kept_where_they_are_wanted(tiny_model: ModelFactory) -> None:
    scores = next(iter(score(score_rows(1), tiny_model(), ScoreSettings(entropy=False, rank=False)))).scores["base"]
    assert scores.entropy_T is None
    assert scores.rank_T is None
    assert scores.top_entropy_T is None


def test_top_k_entropy_is_a_column_of_its_own_and_its_k_is_in_the_manifest(
    tiny_model: ModelFactory, tmp_path: Path
) -> None:
    settings = ScoreSettings(entropy_top_k=320)  # the whole vocabulary: the entropy itself
    scored = score(score_rows(4), tiny_model(), settings, out=tmp_path / "out")
    assert scored.manifest.facts["entropy_top_k"] == {"base": 320}
    for row in scored:
        scores = row.scores["base"]
        assert scores.entropy_T is not None
        assert scores.top_entropy_T is not None
        np.testing.assert_allclose(scores.top_entropy_T, scores.entropy_T, atol=1e-5)
    few = score(score_rows(4), tiny_model(), settings.model_copy(update={"entropy_top_k": 5}))
    for row in few:
        top_T = row.scores["base"].top_entropy_T
        assert top_T is not None
        assert (top_T[row.scores["base"].scored_T] <= np.log(5) + 1e-6).all()
    assert len(few) == 4


def test_a_row_is_scored_once_however_often_it_comes() -> None:
    rows = list(score_rows(6))
    twice = [*rows, *(replace(row, id=f"again {row.id}") for row in rows)]
    backend = Counting()
    scored = list(score_with(in_memory(twice, Manifest(stage="tokens")), backend, PLAIN))
    assert len(backend.asked) == 6
    assert [row.tokens.id for row in scored] == [row.id for row in twice]
    again = Counting()
    list(score_with(in_memory(twice, Manifest(stage="tokens")), again, PLAIN))
    assert again.asked == []


def test_rows_that_are_added_cost_only_themselves() -> None:
    score_with(score_rows(6), Counting(), PLAIN)
    backend = Counting()
    more = in_memory([*score_rows(3, seed=1), *score_rows(6)], Manifest(stage="tokens"))
    score_with(more, backend, PLAIN)
    assert len(backend.asked) == 3


def test_other_places_of_the_same_tokens_are_another_request() -> None:
    score_with(in_memory([tokens_of("a", [5, 6, 7, 8], 2)], Manifest(stage="tokens")), Counting(), PLAIN)
    backend = Counting()
    score_with(in_memory([tokens_of("a", [5, 6, 7, 8], 1)], Manifest(stage="tokens")), backend, PLAIN)
    assert len(backend.asked) == 1


def test_without_the_store_nothing_is_kept() -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    for _ in range(2):
        backend = Counting()
        score_with(score_rows(6), backend, settings)
        assert len(backend.asked) == 6


def test_other_scorers_stand_beside_the_base(tiny_model: ModelFactory) -> None:
    base = score(score_rows(5), tiny_model(seed=0))
    both = score(base, tiny_model(seed=1), ScoreSettings(scorer="tuned"))
    for before, after in zip(base, both, strict=True):
        assert set(after.scores) == {"base", "tuned"}
        np.testing.assert_array_equal(before.nll_T(), after.nll_T())
        assert not np.allclose(after.nll_T("base"), after.nll_T("tuned"), equal_nan=True)
    assert set(dict(both.manifest.facts["scorers"])) == {"base", "tuned"}  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--scorer"):
        score(both, tiny_model(seed=2), ScoreSettings(scorer="tuned"))


def test_a_folder_holds_what_memory_holds(tiny_model: ModelFactory, tmp_path: Path) -> None:
    settings = ScoreSettings(shard_rows=4)
    held = list(score(score_rows(10), tiny_model(), settings))
    folder = score(score_rows(10), tiny_model(), settings, out=tmp_path / "out")
    for one, other in zip(held, folder, strict=True):
        np.testing.assert_array_equal(one.nll_T(), other.nll_T())
    assert [shard.rows for shard in folder.manifest.shards] == [4, 4, 2]
    assert folder.manifest.model is not None
    assert folder.manifest.model.head_dtype == "float32"
    assert folder.manifest.counts.rows_in == folder.manifest.counts.rows_out == 10


def test_a_run_that_stopped_goes_on(tmp_path: Path) -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    first = Counting(fails_after=8)
    with pytest.raises(KeyboardInterrupt):
        score_with(score_rows(16), first, settings, out=tmp_path / "out")
    second = Counting()
    rows = score_with(score_rows(16), second, settings, out=tmp_path / "out")
    assert len(second.asked) == 8
    assert len(list(rows)) == 16


def test_a_damaged_shard_is_redone_alone(tmp_path: Path) -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    out = tmp_path / "out"
    whole = [row.nll_T().tolist() for row in score_with(score_rows(16), Counting(), settings, out=out)]
    shard = out / "rows-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-7] + b"damaged")
    with pytest.raises(InputError, match=r"rows-00002\.parquet.*damaged"):
        list(open_rows(out))
    backend = Counting()
    redone = score_with(score_rows(16), backend, settings, out=out)
    assert len(backend.asked) == 4
    np.testing.assert_equal([row.nll_T().tolist() for row in redone], whole)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    score_with(score_rows(5), Counting(), PLAIN, out=tmp_path / "out")
    with pytest.raises(InputError, match="other inputs"):
        score_with(score_rows(6), Counting(), PLAIN, out=tmp_path / "out")
    with pytest.raises(InputError, match="other settings"):
        score_with(score_rows(5), Counting(), PLAIN.model_copy(update={"prompts": True}), out=tmp_path / "out")


def test_the_token_budget_of_the_first_start_is_kept(tiny_model: ModelFactory, tmp_path: Path) -> None:
    first = ScoreSettings(token_budget=48, shard_rows=4)
    rows = score(score_rows(6), tiny_model(), first, out=tmp_path / "out")
    (tmp_path / "out" / "rows-00001.parquet").unlink()
    again = score(score_rows(6), tiny_model(), first.model_copy(update={"token_budget": 999}), out=tmp_path / "out")
    assert rows.manifest.facts["token_budget"] == again.manifest.facts["token_budget"] == 48


def test_progress_counts_rows() -> None:
    seen: list[tuple[int, int]] = []
    score_with(score_rows(10), Counting(), PLAIN, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_rows_that_the_model_cannot_take_are_named(tiny_model: ModelFactory) -> None:
    long = in_memory([tokens_of("long", [5] * 300, 1)], Manifest(stage="tokens"))
    with pytest.raises(InputError, match=r"row long: 300 tokens, the model takes 256"):
        score(long, tiny_model())
    foreign = in_memory([tokens_of("foreign", [5, 400], 1)], Manifest(stage="tokens"))
    with pytest.raises(InputError, match="row foreign: token id 400, the model has 320"):
        score(foreign, tiny_model())


def test_tokens_of_another_tokenizer_are_refused(tiny_model: ModelFactory) -> None:
    other = ModelIdentity(name="other", tokenizer_digest="0" * 64)
    rows = in_memory(list(score_rows(2)), Manifest(stage="tokens", model=other))
    with pytest.raises(InputError, match="another tokenizer, that of other"):
        score(rows, tiny_model())
    assert len(score(rows, tiny_model(), ScoreSettings(scorer="larger"))) == 2


def _broken(name: str, value: float, factory: ModelFactory) -> LoadedModel:
    """A tiny model with a value of one parameter replaced."""
    import torch

    loaded = factory(seed=5)
    with torch.no_grad():
        dict(loaded.model.named_parameters())[name].view(-1)[7 * 32 if name == "lm_head.weight" else 3] = value
    return loaded


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "lm_head.weight", "model.norm.weight"])
@pytest.mark.parametrize("head", ["float32", "model"])
def test_weights_that_are_not_finite_are_an_error_that_names_row_and_model(
    tiny_model: ModelFactory, name: str, value: float, head: str
) -> None:
    loaded = _broken(name, value, tiny_model)
    rows = in_memory([tokens_of("first", [5, 6, 7, 8], 2)], Manifest(stage="tokens"))
    with pytest.raises(
        InputError, match=r"row first, model tiny-LlamaConfig: the nll of token 2 \(id 7\) is (nan|inf)"
    ):
        score(rows, loaded, ScoreSettings.model_validate({"head_dtype": head}))


@dataclass
class _Fixed(Counting):
    """A backend that answers with one record, however it is asked."""

    record: ScoreRecord = field(default_factory=lambda: ScoreRecord(np.zeros(2, np.float32)))

    def score(self, requests: Sequence[ScoreRequest], measures: Measures) -> Sequence[ScoreRecord | None]:
        super().score(requests, measures)
        return [self.record] * len(requests)


@pytest.mark.parametrize(
    ("measure", "values"),
    [
        ("nll_N", [1.0, np.inf]),
        ("nll_N", [1.0, np.nan]),
        ("entropy_N", [1.0, np.nan]),
        ("top_entropy_N", [1.0, -np.inf]),
    ],
)
def test_a_score_that_is_not_finite_is_neither_handed_out_nor_kept(measure: str, values: list[float]) -> None:
    settings = ScoreSettings(entropy_top_k=2)
    whole = {name: np.ones(2, np.float32) for name in ("nll_N", "entropy_N", "rank_N", "top_entropy_N")}
    rows = in_memory([tokens_of("a", [5, 6, 7, 8], 2)], Manifest(stage="tokens"))
    bad = ScoreRecord(**{**whole, measure: np.array(values, np.float32)})
    with pytest.raises(InputError, match=r"row a, model counting: the .* of token 3 \(id 8\)"):
        score_with(rows, _Fixed(record=bad), settings)
    mended = _Fixed(record=ScoreRecord(**whole))
    assert next(iter(score_with(rows, mended, settings))).nll_T()[2:].tolist() == [1.0, 1.0]
    assert len(mended.asked) == 1


def test_a_record_that_an_earlier_version_kept_is_scored_again_where_it_is_not_finite() -> None:
    from tokensieve.scoring.backend import request_for
    from tokensieve.scoring.store import ScoreStore

    row = tokens_of("a", [5, 6, 7, 8], 2)
    with ScoreStore(None, Counting().identity) as store:
        store.put({request_for(row, prompts=False).key: ScoreRecord(np.array([1.0, np.nan], np.float32))})
    backend = Counting()
    score_with(in_memory([row], Manifest(stage="tokens")), backend, PLAIN)
    assert len(backend.asked) == 1


def test_the_manifest_is_the_same_but_for_its_timing(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        score_with(score_rows(10), Counting(), PLAIN.model_copy(update={"use_store": False}), out=tmp_path / name)
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        del manifest["timing"]
        texts.append(manifest)
    assert texts[0] == texts[1]


def test_scored_rows_keep_their_tokens(tiny_model: ModelFactory) -> None:
    rows = score_rows(3)
    for before, after in zip(rows, score(rows, tiny_model()), strict=True):
        assert isinstance(after, Scored)
        assert after.tokens is before
