"""Stage folders: what is written is what is read, a kill costs one shard, damage is named."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tokensieve.data.dataset import Rows, ShardRun, in_memory, in_shards, open_rows, open_rows_of
from tokensieve.data.manifest import Counts, Manifest, digest_of, read_manifest
from tokensieve.data.shards import FolderWriter
from tokensieve.errors import InputError
from tokensieve.types import (
    JSON,
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
        Sample("p", "t", 0, "x", (1, 2), finished=False, nll=0.5, token_nll=(0.25, 0.75)),
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


def test_rows_say_what_they_are_without_being_read(tmp_path: Path) -> None:
    rows = in_memory([scored("a"), scored("b", 3)], DRAFT)
    assert repr(rows) == "<Rows scored: 2 rows, 7 tokens>"
    saved = rows.save(tmp_path / "x")
    assert repr(saved) == f"<Rows scored: 2 rows, 7 tokens in {tmp_path / 'x'}>"
    facts: dict[str, JSON] = {"trained_tokens": 1, "response_tokens": 4}
    chosen = [Selected(row, row.tokens.ends_turn_T) for row in rows]
    selected = in_memory(chosen[:1], Manifest(stage="selected", facts=facts))
    assert repr(selected) == "<Rows selected: 1 row, 4 tokens, 25.0% of 4 response tokens trained>"
    shard = tmp_path / "x" / "rows-00000.parquet"
    shard.write_bytes(b"damaged")
    assert repr(saved) == f"<Rows scored: 2 rows in {tmp_path / 'x'}>"
    never: Rows[Tokens] = Rows(Manifest(stage="tokens"), lambda: pytest.fail("the rows were read"))
    assert repr(never) == "<Rows tokens: 0 rows>"
    examples = in_memory([Example("1", ({"role": "assistant", "content": "b"},))], Manifest(stage="examples"))
    assert repr(examples) == "<Rows examples: 1 row>"


def test_a_folder_opens_as_rows_of_its_own_type_only(tmp_path: Path) -> None:
    in_memory([scored("a")], DRAFT).save(tmp_path / "x")
    assert next(iter(open_rows_of(Scored, tmp_path / "x"))).tokens.id == "a"
    with pytest.raises(InputError, match="expected the folder of a stage that makes selected rows, got one of scored"):
        open_rows_of(Selected, tmp_path / "x")


def shard_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("rows-*"))


@pytest.mark.parametrize("killed_at", range(4))
def test_the_runner_makes_every_shard_once_however_often_it_is_killed(tmp_path: Path, killed_at: int) -> None:
    inputs = [[scored(f"{shard}-{row}") for row in range(2)] for shard in range(4)]
    made: list[str] = []
    recalled: list[str] = []

    def make(shard: list[Scored]) -> list[Scored]:
        made.append(shard[0].tokens.id)
        if len(made) == killed_at + 1 and not recalled:
            raise KeyboardInterrupt
        return shard

    def start(folder: Path) -> Rows[Scored]:
        with ShardRun[Scored](folder, DRAFT) as run:
            if run.finished is not None:
                return run.finished
            run.make(inputs, make, recall=lambda shard, _: recalled.append(shard[0].tokens.id))
            return run.finish(Counts(rows_in=8), {"found": 1})

    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "x")
    assert len(shard_names(tmp_path / "x")) == killed_at
    made.clear()
    recalled.append("second start")
    rows = start(tmp_path / "x")
    assert made == [f"{shard}-0" for shard in range(killed_at, 4)]
    assert recalled[1:] == [f"{shard}-0" for shard in range(killed_at)]
    assert [row.tokens.id for row in rows] == [row.tokens.id for shard in inputs for row in shard]
    assert rows.manifest.facts == {"found": 1}
    made.clear()
    assert len(start(tmp_path / "x")) == 8
    assert made == []
    (tmp_path / "x" / "rows-00002.parquet").unlink()
    start(tmp_path / "x")
    assert made == ["2-0"]
    with ShardRun[Scored](None, DRAFT) as run:
        run.make(inputs, list)
        assert [row.tokens.id for row in run.finish(Counts(rows_in=8))] == [row.tokens.id for row in rows]


def test_the_digest_ignores_timing_and_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    timed = DRAFT.model_copy(update={"timing": DRAFT.timing.model_copy(update={"wall_s": 9.0})})
    assert timed.digest == DRAFT.digest
    assert DRAFT.model_copy(update={"seed": 1}).digest != DRAFT.digest
