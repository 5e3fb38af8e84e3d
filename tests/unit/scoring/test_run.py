import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import Rows, in_memory, open_rows
from tokensieve.data.manifest import Manifest, ModelIdentity
from tokensieve.data.shards import read_ahead
from tokensieve.errors import InputError
from tokensieve.launch import Portion
from tokensieve.models import LoadedModel
from tokensieve.scoring import score, score_with
from tokensieve.scoring.backend import Measures, ScoreRecord, ScoreRequest
from tokensieve.types import JSON, Scored, Tokens, bools, ints

ModelFactory = Callable[..., LoadedModel]


def _tokens(name: str, ids: Sequence[int], start: int) -> Tokens:
    length = len(ids)
    return Tokens(name, ints(ids), bools([i >= start for i in range(length)]), bools([False] * length))


def _rows(count: int, seed: int = 0) -> Rows[Tokens]:
    generator = np.random.default_rng(seed)
    made = []
    for index in range(count):
        length = int(generator.integers(2, 24))
        made.append(_tokens(f"row-{seed}-{index}", generator.integers(0, 262, length).tolist(), length // 2))
    return in_memory(made, Manifest(stage="tokens", inputs={"seed": f"{seed}, {count} rows"}))


@dataclass
class _Counting:
    """A backend whose scores are the request's places; counts what it is asked."""

    asked: list[ScoreRequest] = field(default_factory=list)
    fails_after: int = 10**9
    identity: ModelIdentity = field(default_factory=lambda: ModelIdentity(name="counting", weights_digest="w"))
    facts: dict[str, JSON] = field(default_factory=lambda: {"token_budget": 64})
    max_length: int | None = None
    vocab_size: int | None = None
    has_entropy: bool = True
    has_rank: bool = True

    def resumed(self, facts: object) -> "_Counting":
        return self

    def score(self, requests: Sequence[ScoreRequest], measures: Measures) -> Sequence[ScoreRecord | None]:
        self.asked += requests
        if len(self.asked) > self.fails_after:
            raise KeyboardInterrupt
        return [ScoreRecord(r.positions_N.astype(np.float32), None, None) for r in requests]


PLAIN = ScoreSettings(entropy=False, rank=False, shard_rows=4)


def test_only_the_response_is_scored_and_never_the_first_token(tiny_model: ModelFactory) -> None:
    rows = in_memory(
        [
            _tokens("prompt and response", [5, 6, 7, 8], 2),
            _tokens("all response", [5, 6, 7], 0),
            _tokens("no response", [5, 6, 7], 3),
            _tokens("one token", [5], 0),
            _tokens("nothing", [], 0),
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
    scores = next(iter(score(_rows(1), tiny_model(), ScoreSettings(entropy=False, rank=False)))).scores["base"]
    assert scores.entropy_T is None
    assert scores.rank_T is None
    assert scores.top_entropy_T is None


def test_top_k_entropy_is_a_column_of_its_own_and_its_k_is_in_the_manifest(
    tiny_model: ModelFactory, tmp_path: Path
) -> None:
    settings = ScoreSettings(entropy_top_k=320)  # the whole vocabulary: the entropy itself
    scored = score(_rows(4), tiny_model(), settings, out=tmp_path / "out")
    assert scored.manifest.facts["entropy_top_k"] == {"base": 320}
    for row in scored:
        scores = row.scores["base"]
        assert scores.entropy_T is not None
        assert scores.top_entropy_T is not None
        np.testing.assert_allclose(scores.top_entropy_T, scores.entropy_T, atol=1e-5)
    few = score(_rows(4), tiny_model(), settings.model_copy(update={"entropy_top_k": 5}))
    for row in few:
        top_T = row.scores["base"].top_entropy_T
        assert top_T is not None
        assert (top_T[row.scores["base"].scored_T] <= np.log(5) + 1e-6).all()
    assert len(few) == 4


def test_a_row_is_scored_once_however_often_it_comes() -> None:
    rows = list(_rows(6))
    twice = [*rows, *(replace(row, id=f"again {row.id}") for row in rows)]
    backend = _Counting()
    scored = list(score_with(in_memory(twice, Manifest(stage="tokens")), backend, PLAIN))
    assert len(backend.asked) == 6
    assert [row.tokens.id for row in scored] == [row.id for row in twice]
    again = _Counting()
    list(score_with(in_memory(twice, Manifest(stage="tokens")), again, PLAIN))
    assert again.asked == []


def test_rows_that_are_added_cost_only_themselves() -> None:
    score_with(_rows(6), _Counting(), PLAIN)
    backend = _Counting()
    more = in_memory([*_rows(3, seed=1), *_rows(6)], Manifest(stage="tokens"))
    score_with(more, backend, PLAIN)
    assert len(backend.asked) == 3


def test_other_places_of_the_same_tokens_are_another_request() -> None:
    score_with(in_memory([_tokens("a", [5, 6, 7, 8], 2)], Manifest(stage="tokens")), _Counting(), PLAIN)
    backend = _Counting()
    score_with(in_memory([_tokens("a", [5, 6, 7, 8], 1)], Manifest(stage="tokens")), backend, PLAIN)
    assert len(backend.asked) == 1


def test_without_the_store_nothing_is_kept() -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    for _ in range(2):
        backend = _Counting()
        score_with(_rows(6), backend, settings)
        assert len(backend.asked) == 6


def test_other_scorers_stand_beside_the_base(tiny_model: ModelFactory) -> None:
    base = score(_rows(5), tiny_model(seed=0))
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
    held = list(score(_rows(10), tiny_model(), settings))
    folder = score(_rows(10), tiny_model(), settings, out=tmp_path / "out")
    for one, other in zip(held, folder, strict=True):
        np.testing.assert_array_equal(one.nll_T(), other.nll_T())
    assert [shard.rows for shard in folder.manifest.shards] == [4, 4, 2]
    assert folder.manifest.model is not None
    assert folder.manifest.model.head_dtype == "float32"
    assert folder.manifest.counts.rows_in == folder.manifest.counts.rows_out == 10


def test_a_run_that_stopped_goes_on(tmp_path: Path) -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    first = _Counting(fails_after=8)
    with pytest.raises(KeyboardInterrupt):
        score_with(_rows(16), first, settings, out=tmp_path / "out")
    second = _Counting()
    rows = score_with(_rows(16), second, settings, out=tmp_path / "out")
    assert len(second.asked) == 8
    assert len(list(rows)) == 16


def test_a_damaged_shard_is_redone_alone(tmp_path: Path) -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    out = tmp_path / "out"
    whole = [row.nll_T().tolist() for row in score_with(_rows(16), _Counting(), settings, out=out)]
    shard = out / "rows-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-7] + b"damaged")
    with pytest.raises(InputError, match=r"rows-00002\.parquet.*damaged"):
        list(open_rows(out))
    backend = _Counting()
    redone = score_with(_rows(16), backend, settings, out=out)
    assert len(backend.asked) == 4
    np.testing.assert_equal([row.nll_T().tolist() for row in redone], whole)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    score_with(_rows(5), _Counting(), PLAIN, out=tmp_path / "out")
    with pytest.raises(InputError, match="other inputs"):
        score_with(_rows(6), _Counting(), PLAIN, out=tmp_path / "out")
    with pytest.raises(InputError, match="other settings"):
        score_with(_rows(5), _Counting(), PLAIN.model_copy(update={"prompts": True}), out=tmp_path / "out")


def test_the_token_budget_of_the_first_start_is_kept(tiny_model: ModelFactory, tmp_path: Path) -> None:
    first = ScoreSettings(token_budget=48, shard_rows=4)
    rows = score(_rows(6), tiny_model(), first, out=tmp_path / "out")
    (tmp_path / "out" / "rows-00001.parquet").unlink()
    again = score(_rows(6), tiny_model(), first.model_copy(update={"token_budget": 999}), out=tmp_path / "out")
    assert rows.manifest.facts["token_budget"] == again.manifest.facts["token_budget"] == 48


def test_progress_counts_rows() -> None:
    seen: list[tuple[int, int]] = []
    score_with(_rows(10), _Counting(), PLAIN, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_rows_that_the_model_cannot_take_are_named(tiny_model: ModelFactory) -> None:
    long = in_memory([_tokens("long", [5] * 300, 1)], Manifest(stage="tokens"))
    with pytest.raises(InputError, match=r"row long: 300 tokens, the model takes 256"):
        score(long, tiny_model())
    foreign = in_memory([_tokens("foreign", [5, 400], 1)], Manifest(stage="tokens"))
    with pytest.raises(InputError, match="row foreign: token id 400, the model has 320"):
        score(foreign, tiny_model())


def test_tokens_of_another_tokenizer_are_refused(tiny_model: ModelFactory) -> None:
    other = ModelIdentity(name="other", tokenizer_digest="0" * 64)
    rows = in_memory(list(_rows(2)), Manifest(stage="tokens", model=other))
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
    rows = in_memory([_tokens("first", [5, 6, 7, 8], 2)], Manifest(stage="tokens"))
    with pytest.raises(
        InputError, match=r"row first, model tiny-LlamaConfig: the nll of token 2 \(id 7\) is (nan|inf)"
    ):
        score(rows, loaded, ScoreSettings.model_validate({"head_dtype": head}))


@dataclass
class _Fixed(_Counting):
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
    rows = in_memory([_tokens("a", [5, 6, 7, 8], 2)], Manifest(stage="tokens"))
    bad = ScoreRecord(**{**whole, measure: np.array(values, np.float32)})
    with pytest.raises(InputError, match=r"row a, model counting: the .* of token 3 \(id 8\)"):
        score_with(rows, _Fixed(record=bad), settings)
    mended = _Fixed(record=ScoreRecord(**whole))
    assert next(iter(score_with(rows, mended, settings))).nll_T()[2:].tolist() == [1.0, 1.0]
    assert len(mended.asked) == 1


def test_a_record_that_an_earlier_version_kept_is_scored_again_where_it_is_not_finite() -> None:
    from tokensieve.scoring.backend import request_for
    from tokensieve.scoring.store import ScoreStore

    row = _tokens("a", [5, 6, 7, 8], 2)
    with ScoreStore(None, _Counting().identity) as store:
        store.put({request_for(row, prompts=False).key: ScoreRecord(np.array([1.0, np.nan], np.float32))})
    backend = _Counting()
    score_with(in_memory([row], Manifest(stage="tokens")), backend, PLAIN)
    assert len(backend.asked) == 1


def test_the_manifest_is_the_same_but_for_its_timing(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        score_with(_rows(10), _Counting(), PLAIN.model_copy(update={"use_store": False}), out=tmp_path / name)
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        del manifest["timing"]
        texts.append(manifest)
    assert texts[0] == texts[1]


def test_scored_rows_keep_their_tokens(tiny_model: ModelFactory) -> None:
    rows = _rows(3)
    for before, after in zip(rows, score(rows, tiny_model()), strict=True):
        assert isinstance(after, Scored)
        assert after.tokens is before


@pytest.mark.parametrize("count", [2, 3, 5])
def test_several_processes_write_what_one_writes(tmp_path: Path, count: int) -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    score_with(_rows(30), _Counting(), settings, out=tmp_path / "one")
    for index in reversed(range(count)):
        done = score_with(_rows(30), _Counting(), settings, out=tmp_path / "several", portion=Portion(index, count))
        assert (len(done) == 30) == (index == 0)
    assert _files(tmp_path / "several") == _files(tmp_path / "one")
    again = _Counting()
    assert len(score_with(_rows(30), again, settings, out=tmp_path / "several", portion=Portion(0, count))) == 30
    assert again.asked == []


def _files(folder: Path) -> dict[str, object]:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["timing"]
    return {"manifest": manifest, **{p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".parquet"}}


def test_a_portion_that_was_killed_goes_on_alone(tmp_path: Path) -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    out = tmp_path / "out"
    score_with(_rows(30), _Counting(), settings, out=out, portion=Portion(0, 2))
    with pytest.raises(KeyboardInterrupt):
        score_with(_rows(30), _Counting(fails_after=8), settings, out=out, portion=Portion(1, 2))
    rest = _Counting()
    assert len(score_with(_rows(30), rest, settings, out=out, portion=Portion(1, 2))) == 30
    assert len(rest.asked) == 14 - 8


def test_a_join_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    score_with(_rows(30), _Counting(), settings, out=tmp_path / "one")
    out = tmp_path / "out"
    score_with(_rows(30), _Counting(), settings, out=out, portion=Portion(0, 2))

    def killed(manifest: Manifest, folder: Path) -> None:
        if folder == out:
            raise KeyboardInterrupt
        write(manifest, folder)

    write = Manifest.write
    monkeypatch.setattr(Manifest, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        score_with(_rows(30), _Counting(), settings, out=out, portion=Portion(1, 2))
    monkeypatch.setattr(Manifest, "write", write)
    backend = _Counting()
    score_with(_rows(30), backend, settings, out=out, portion=Portion(1, 2))
    assert backend.asked == []
    assert _files(out) == _files(tmp_path / "one")


def test_a_portion_goes_into_no_folder_of_another_run(tmp_path: Path) -> None:
    finished, foreign = tmp_path / "finished", tmp_path / "foreign"
    score_with(_rows(30), _Counting(), PLAIN, out=finished)
    with pytest.raises(InputError, match="other inputs"):
        score_with(_rows(29), _Counting(), PLAIN, out=finished, portion=Portion(0, 2))
    other = PLAIN.model_copy(update={"prompts": True})
    with pytest.raises(InputError, match="other settings"):
        score_with(_rows(30), _Counting(), other, out=finished, portion=Portion(0, 2))
    foreign.mkdir()
    (foreign / "rows-00000.parquet").write_text("precious")
    with pytest.raises(InputError, match=r"expected an empty folder, found rows-00000\.parquet"):
        score_with(_rows(30), _Counting(), PLAIN, out=foreign, portion=Portion(0, 2))
    assert [path.name for path in foreign.iterdir()] == ["rows-00000.parquet"]


def test_portions_agree_on_what_they_do(tmp_path: Path) -> None:
    out = tmp_path / "out"
    score_with(_rows(30), _Counting(), PLAIN, out=out, portion=Portion(0, 2))
    with pytest.raises(InputError, match="another number of processes"):
        score_with(_rows(30), _Counting(), PLAIN, out=out, portion=Portion(1, 3))
    with pytest.raises(InputError, match="give --out"):
        score_with(_rows(30), _Counting(), PLAIN, portion=Portion(1, 3))
    first = _Counting(facts={"token_budget": 1})
    score_with(_rows(30), first, PLAIN, out=out, portion=Portion(1, 2))
    assert open_rows(out).manifest.facts["token_budget"] == 64


def test_reading_ahead_is_one_item_and_keeps_order_and_errors() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(4):
            made.append(number)
            yield number
        raise InputError("the file ends in the middle of a row")

    ahead = read_ahead(items())
    assert next(ahead) == 0
    assert len(made) <= 2
    assert [next(ahead), next(ahead), next(ahead)] == [1, 2, 3]
    with pytest.raises(InputError, match="middle of a row"):
        next(ahead)
    assert list(read_ahead([])) == []
