from collections import Counter
from pathlib import Path

import pytest
from tests.chat_tokenizers import tokenizer
from tests.malformed import CASES, Case

from tokensieve.data.chat import prepare, tokenise_all
from tokensieve.data.formats import read_examples
from tokensieve.data.row_counts import Tally
from tokensieve.errors import TokensieveError
from tokensieve.types import Tokens


def read(case: Case, folder: Path) -> tuple[list[Tokens], Tally]:
    tally = Tally()
    examples = read_examples(case.write(folder), case.settings, tally)
    return list(tokenise_all(examples, prepare(tokenizer(case.tokenizer)), case.settings, tally)), tally


def test_the_corpus_is_as_wide_as_promised() -> None:
    assert len(CASES) >= 200
    assert len({case.kind for case in CASES}) >= 20
    assert max(Counter((case.kind, case.name) for case in CASES).values()) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}"[:80])
def test_a_malformed_source_ends_in_a_clear_message_or_a_counted_drop(case: Case, tmp_path: Path) -> None:
    if case.owed == "error":
        with pytest.raises(TokensieveError) as caught:
            read(case, tmp_path)
        message = str(caught.value)
        assert case.file in message or "row " in message
        for words in case.words:
            assert words in message
        assert len(message) < 1500
        return
    rows, tally = read(case, tmp_path)
    if case.owed == "keep":
        assert not tally.dropped
        return
    assert tally.dropped.total() == 1
    assert tally.rows_in == len(rows) + 1
    ((reason, ids),) = tally.counts.dropped_ids.items()
    assert len(ids) == 1
    for words in case.words:
        assert words in reason


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == "special token in text"], ids=lambda c: c.name)
def test_special_tokens_in_text_open_no_response(case: Case, tmp_path: Path) -> None:
    rows, _ = read(case, tmp_path)
    for row in rows:
        assert int(row.ends_turn_T.sum()) == 1
        edges = int((row.in_response_T[1:] & ~row.in_response_T[:-1]).sum())
        assert edges == 1
