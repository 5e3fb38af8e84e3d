"""Stage folders: what is written is what is read, a kill costs one shard, damage is named."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tokensieve.data.dataset import FolderWriter, in_memory, in_shards, open_rows
from tokensieve.data.manifest import Counts, Manifest, digest_of, read_manifest
from tokensieve.errors import InputError
from tokensieve.types import (
    Example,
    FloatArray,
    Origin,
    Outcome,
    Sample,
    Scored,
    Scores,
    Selected,
    Tokens,
    Verdict,
    bools,
    ints,
)

DRAFT = Manifest(stage="scored", settings={"scorer": "base"}, inputs={"tokens": "abc"})


def floats(values: Sequence[float]) -> FloatArray:
    return np.array(values, dtype=np.float32)


def scored(name: str, length: int = 4) -> Scored:
    tokens = Tokens(
        name,
        ints(range(length)),
        bools(t > 1 for t in range(length)),
        bools(t == length - 1 for t in range(length)),
        task="t",
        origin=Origin.SELF_OUTPUT,
    )
    nll_T = floats([np.nan, np.nan, *np.arange(length - 2)])
    return Scored(tokens, {"base": Scores(nll_T, nll_T + 1, nll_T * 2), "tuned": Scores(nll_T)})


def same(one: FloatArray | None, other: FloatArray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other, equal_nan=True)


def test_scored_rows_come_back_as_they_went(tmp_path: Path) -> None:
    rows = [scored("a"), scored("b", 3), scored("c", 7)]
    back = list(in_memory(rows, DRAFT).save(tmp_path / "x"))
    for row, read in zip(rows, back, strict=True):
        assert read.tokens.id == row.tokens.id
        assert read.tokens.origin is Origin.SELF_OUTPUT
        assert np.array_equal(read.tokens.ids_T, row.tokens.ids_T)
        assert np.array_equal(read.tokens.in_response_T, row.tokens.in_response_T)
        assert np.array_equal(read.tokens.ends_turn_T, row.tokens.ends_turn_T)
        for name, scores in row.scores.items():
            assert same(read.scores[name].nll_T, scores.nll_T)
            assert same(read.scores[name].entropy_T, scores.entropy_T)
            assert same(read.scores[name].rank_T, scores.rank_T)


def test_selected_rows_keep_weights_and_their_absence(tmp_path: Path) -> None:
    row = scored("a")
    soft = Selected(row, row.tokens.in_response_T, floats([0, 0, 1, 0.25]))
    hard = Selected(row, row.tokens.ends_turn_T)
    manifest = Manifest(stage="selected")
    (read,) = in_memory([soft], manifest).save(tmp_path / "soft")
    assert read.weight_T is not None
    assert read.weight_T.tolist() == [0, 0, 1, 0.25]
    (read,) = in_memory([hard], manifest).save(tmp_path / "hard")
    assert read.weight_T is None
    assert read.train_T.tolist() == [False, False, False, True]


def test_examples_and_samples_come_back_as_they_went(tmp_path: Path) -> None:
    turns = ({"role": "user", "content": "a\r\n\u2028é"}, {"role": "assistant", "content": "b"})
    examples = [
        Example("1", turns, "t", Origin.REPHRASE, ints([5, 6])),  # type: ignore[arg-type]
        Example("2", turns),  # type: ignore[arg-type]
    ]
    back = list(in_memory(examples, Manifest(stage="examples")).save(tmp_path / "e"))
    assert back[0].messages == turns
    assert back[0].sampled_ids is not None
    assert back[0].sampled_ids.tolist() == [5, 6]
    assert back[1].sampled_ids is None
    samples = [
        Sample("p", "t", 0, "x", (1, 2), finished=False, nll=0.5),
        Sample("p", "t", 1, "y", verdict=Verdict(Outcome.WRONG, None, "why")),
    ]
    read = list(in_memory(samples, Manifest(stage="samples")).save(tmp_path / "s"))
    assert read[0] == samples[0]
    assert read[1].verdict == samples[1].verdict
    assert np.isnan(read[1].nll)


def test_an_empty_stage_is_a_stage(tmp_path: Path) -> None:
    rows = in_memory(list[Scored](), DRAFT).save(tmp_path / "x")
    assert list(rows) == []
    assert len(rows) == 0


def test_a_second_start_goes_on_and_redoes_only_what_is_missing_or_damaged(tmp_path: Path) -> None:
    shards = list(in_shards([scored(str(i)) for i in range(10)], 4))
    undisturbed = FolderWriter(tmp_path / "whole", DRAFT)
    for index, rows in enumerate(shards):
        undisturbed.write(index, rows)
    undisturbed.finish(Counts(rows_in=10))

    killed = FolderWriter(tmp_path / "killed", DRAFT)
    killed.write(0, shards[0])
    killed.write(1, shards[1])
    (tmp_path / "killed" / "rows-00001.parquet").write_bytes(b"half a")
    with (tmp_path / "killed" / "progress.jsonl").open("a") as file:
        file.write('{"index": 2, "na')
    again = FolderWriter(tmp_path / "killed", DRAFT)
    assert [again.has(i) for i in range(3)] == [True, False, False]
    again.write(1, shards[1])
    again.write(2, shards[2])
    again.finish(Counts(rows_in=10))

    one, other = read_manifest(tmp_path / "whole"), read_manifest(tmp_path / "killed")
    assert one.digest == other.digest
    for shard in one.shards:
        assert (tmp_path / "whole" / shard.name).read_bytes() == (tmp_path / "killed" / shard.name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == [
        "manifest.json",
        "rows-00000.parquet",
        "rows-00001.parquet",
        "rows-00002.parquet",
    ]


def test_a_damaged_shard_is_named_on_reading_and_redone_alone(tmp_path: Path) -> None:
    rows = in_memory([scored("a")], DRAFT).save(tmp_path / "x")
    path = tmp_path / "x" / "rows-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"rows-00000\.parquet: the shard is damaged"):
        list(rows)
    assert not FolderWriter(tmp_path / "x", DRAFT).has(0)
    path.unlink()
    with pytest.raises(InputError, match="the shard is missing"):
        list(rows)


def test_another_runs_folder_and_a_foreign_one_are_refused(tmp_path: Path) -> None:
    FolderWriter(tmp_path / "x", DRAFT)
    with pytest.raises(InputError, match="other settings"):
        FolderWriter(tmp_path / "x", DRAFT.model_copy(update={"settings": {"scorer": "tuned"}}))
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"found thesis\.tex"):
        FolderWriter(tmp_path / "y", DRAFT)


def test_manifests_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the finished folder"):
        open_rows(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        open_rows(tmp_path)
    (tmp_path / "manifest.json").write_text('{"schema_version": 99}')
    with pytest.raises(InputError, match="schema version 99"):
        open_rows(tmp_path)
    (tmp_path / "manifest.json").write_text('{"schema_version": 1, "stage": "scored", "surprise": 1}')
    with pytest.raises(InputError, match="does not fit"):
        open_rows(tmp_path)


def test_the_digest_ignores_timing_and_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    timed = DRAFT.model_copy(update={"timing": DRAFT.timing.model_copy(update={"wall_s": 9.0})})
    assert timed.digest == DRAFT.digest
    assert DRAFT.model_copy(update={"seed": 1}).digest != DRAFT.digest
