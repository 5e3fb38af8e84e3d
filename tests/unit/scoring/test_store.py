import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tokensieve.data.manifest import ModelIdentity
from tokensieve.errors import EnvironmentProblem
from tokensieve.scoring import store as store_module
from tokensieve.scoring.backend import Measures, ScoreRecord
from tokensieve.scoring.store import ScoreStore, model_digest, prune_store, store_size, stored_models

IDENTITY = ModelIdentity(name="m", weights_digest="w", dtype="float32", head_dtype="float32", attention="sdpa")


def _key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _record(seed: int = 0, *, length: int = 5, entropy: bool = True, rank: bool = True) -> ScoreRecord:
    values = np.random.default_rng(seed).random((3, length), dtype=np.float32)
    return ScoreRecord(values[0], values[1] if entropy else None, np.floor(values[2] * 9) if rank else None)


def _same(one: ScoreRecord, other: ScoreRecord) -> bool:
    pairs = [(one.nll_N, other.nll_N), (one.entropy_N, other.entropy_N), (one.rank_N, other.rank_N)]
    return all(a is b is None or (a is not None and b is not None and a.tobytes() == b.tobytes()) for a, b in pairs)


def test_what_was_put_comes_back_bit_for_bit(tmp_path: Path) -> None:
    records = {_key(i): _record(i, length=i, entropy=i % 2 == 0, rank=i % 3 == 0) for i in range(1, 1200)}
    with ScoreStore(tmp_path, IDENTITY) as store:
        store.put(records)
    with ScoreStore(tmp_path, IDENTITY) as store:
        assert store.get([*records, _key(99_999)], Measures()).keys() == records.keys()
        for key, record in records.items():
            wanted = Measures(entropy=record.entropy_N is not None, rank=record.rank_N is not None)
            assert _same(store.get([key], wanted)[key], record)


def test_a_record_that_lacks_what_is_asked_for_does_not_count(tmp_path: Path) -> None:
    with ScoreStore(tmp_path, IDENTITY) as store:
        store.put({_key(1): _record(entropy=False)})
        assert store.get([_key(1)], Measures(entropy=False, rank=True))
        assert not store.get([_key(1)], Measures(entropy=True, rank=True))
        store.put({_key(1): _record()})
        assert store.get([_key(1)], Measures(entropy=True, rank=True))


def test_what_an_earlier_record_holds_is_kept_but_not_shown_unasked(tmp_path: Path) -> None:
    whole, poorer = _record(0), _record(0, entropy=False, rank=False)
    with ScoreStore(tmp_path, IDENTITY) as store:
        store.put({_key(1): whole})
        store.put({_key(1): poorer})
        assert _same(store.get([_key(1)], Measures(entropy=True, rank=True))[_key(1)], whole)
        assert _same(store.get([_key(1)], Measures())[_key(1)], poorer)


def test_top_k_entropies_of_several_k_stand_beside_each_other(tmp_path: Path) -> None:
    twenty, five = np.full(5, 2.5, np.float32), np.full(5, 1.5, np.float32)
    with ScoreStore(tmp_path, IDENTITY) as store:
        store.put({_key(1): _record()})
        assert not store.get([_key(1)], Measures(top_k=20))
        store.put({_key(1): replace(_record(), top_entropy_N=twenty)}, 20)
        store.put({_key(1): replace(_record(), top_entropy_N=five)}, 5)
        for top_k, expected in ((20, twenty), (5, five)):
            found = store.get([_key(1)], Measures(entropy=True, top_k=top_k))[_key(1)].top_entropy_N
            assert found is not None
            np.testing.assert_array_equal(found, expected)
        assert not store.get([_key(1)], Measures(top_k=10))
        assert store.get([_key(1)], Measures())[_key(1)].top_entropy_N is None


@pytest.mark.parametrize(
    "change",
    [
        {"weights_digest": "x"},
        {"adapter_digest": "a"},
        {"quantisation": "nf4"},
        {"dtype": "bfloat16"},
        {"head_dtype": "tf32"},
        {"attention": "eager"},
        {"backend": "vllm"},
    ],
)
def test_another_model_or_other_numbers_are_another_key(tmp_path: Path, change: dict[str, str]) -> None:
    with ScoreStore(tmp_path, IDENTITY) as store:
        store.put({_key(1): _record()})
    with ScoreStore(tmp_path, IDENTITY.model_copy(update=change)) as store:
        assert not store.get([_key(1)], Measures(entropy=False, rank=False))


@pytest.mark.parametrize("change", [{"name": "n"}, {"revision": "r"}, {"tokenizer_digest": "t"}])
def test_names_are_no_part_of_the_key(tmp_path: Path, change: dict[str, str]) -> None:
    with ScoreStore(tmp_path, IDENTITY) as store:
        store.put({_key(1): _record()})
    with ScoreStore(tmp_path, IDENTITY.model_copy(update=change)) as store:
        assert store.get([_key(1)], Measures(entropy=False, rank=False))


def test_a_damaged_record_is_as_good_as_missing(tmp_path: Path) -> None:
    with ScoreStore(tmp_path, IDENTITY) as store:
        store.put({_key(1): _record(1), _key(2): _record(2)})
    with sqlite3.connect(tmp_path / "scores.sqlite") as connection:
        connection.execute("UPDATE scores SET content = zeroblob(LENGTH(content)) WHERE key = ?", (_key(1),))
    connection.close()
    with ScoreStore(tmp_path, IDENTITY) as store:
        assert set(store.get([_key(1), _key(2)], Measures(entropy=True, rank=True))) == {_key(2)}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "scores.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(EnvironmentProblem, match=r"scores\.sqlite.*damaged"):
        ScoreStore(tmp_path, IDENTITY)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    ScoreStore(tmp_path, IDENTITY).__exit__(None, None, None)
    with sqlite3.connect(tmp_path / "scores.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(EnvironmentProblem, match="format 99"):
        ScoreStore(tmp_path, IDENTITY)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot be made"):
        ScoreStore(tmp_path / "file" / "store", IDENTITY)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from tokensieve.data.manifest import ModelIdentity
from tokensieve.scoring.backend import ScoreRecord
from tokensieve.scoring.store import ScoreStore
folder, worker = Path(sys.argv[1]), int(sys.argv[2])
identity = ModelIdentity(name="m", weights_digest="w")
for start in range(0, 200, 20):
    with ScoreStore(folder, identity) as store:
        keys = [(worker * 1000 + start + i).to_bytes(32, "big") for i in range(20)]
        store.put({key: ScoreRecord(np.ones(5, dtype=np.float32)) for key in keys})
"""


def test_processes_share_it(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(number)]) for number in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert [model.rows for model in stored_models(tmp_path)] == [600]


def test_listing_and_pruning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stored_models(tmp_path) == []
    assert store_size(tmp_path) == 0
    assert prune_store(tmp_path, everything=True) == 0
    other = IDENTITY.model_copy(update={"name": "other", "weights_digest": "o"})
    monkeypatch.setattr(store_module, "_today", lambda: 20_000)
    with ScoreStore(tmp_path, IDENTITY) as store:
        store.put({_key(i): _record(i) for i in range(10)})
    with ScoreStore(tmp_path, other) as store:
        store.put({_key(i): _record(i) for i in range(4)})
    monkeypatch.setattr(store_module, "_today", lambda: 20_010)
    with ScoreStore(tmp_path, IDENTITY) as store:
        store.get([_key(0), _key(1)], Measures(entropy=True, rank=True))
    assert [(m.name, m.rows, m.last_used) for m in stored_models(tmp_path)] == [
        ("m", 10, "2024-10-14"),
        ("other", 4, "2024-10-04"),
    ]
    assert store_size(tmp_path) > 14 * 20
    assert prune_store(tmp_path) == 0
    assert prune_store(tmp_path, unused_days=11) == 0
    assert prune_store(tmp_path, unused_days=10) == 12
    assert [(m.name, m.rows) for m in stored_models(tmp_path)] == [("m", 2)]
    assert prune_store(tmp_path, model=model_digest(IDENTITY)[:12]) == 2
    assert stored_models(tmp_path) == []
