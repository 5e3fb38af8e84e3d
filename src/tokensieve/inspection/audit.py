"""Audit of a loss mask: every row of ids and labels held against the chat template's responses."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from tokensieve.errors import InputError
from tokensieve.inspection.label_rows import LabelRow
from tokensieve.inspection.label_shift import AlignedRow, aligned, labels_fit, vote
from tokensieve.inspection.results import MaskAudit, MaskCheck, Verdict
from tokensieve.inspection.row_layout import ResponseFinder, RowLayout, flags, lay_out

_SELECTIVE: Final = 0.05
"""Share of responses with holes from which on a mask counts as one that leaves tokens out on purpose."""
_EXAMPLES: Final = 5
_CONVENTIONS: Final[Mapping[int, Literal["unshifted", "shifted", "shifted back", "shifted twice"]]] = {
    -1: "shifted back",
    0: "unshifted",
    1: "shifted",
    2: "shifted twice",
}


@dataclass(slots=True)
class _Count:
    """Places or rows of one kind: how many, out of how many, and the first rows that are meant."""

    found: int = 0
    of: int = 0
    rows: list[str] = field(default_factory=list)

    def add(self, found: int, of: int, row: str) -> None:
        self.found += found
        self.of += of
        if found and row not in self.rows and len(self.rows) < _EXAMPLES:
            self.rows.append(row)


class _Audit:
    """Counts over the rows seen so far."""

    def __init__(self, finder: ResponseFinder, shift: int, selective: bool) -> None:
        self.finder, self.shift, self.selective = finder, shift, selective
        self.rows = self.tokens = self.responses = self.trained = self.with_holes = 0
        self.counts: dict[str, _Count] = {name: _Count() for name in _WORDS}

    def add(self, row: LabelRow) -> None:
        """Count one row."""
        line = aligned(row, self.shift)
        layout = lay_out(line, self.finder)
        trained_T, length = line.trained_T, len(line.ids_T)
        self.rows += 1
        self.tokens += len(row.ids_T)
        self.responses += len(layout.spans)
        self.trained += int(trained_T.sum())
        response_T, tail_T = flags(layout.spans, length)
        first_of_next_T = np.zeros(length, dtype=np.bool_)
        first_of_next_T[list(layout.starts[1:])] = True
        self._count("labels", int(not labels_fit(row, self.shift)), 1, row)
        self._spans(line, layout)
        outside_T = trained_T & ~response_T & ~tail_T & ~layout.padded_T & ~first_of_next_T
        prompt = int((~response_T & ~tail_T & ~layout.padded_T).sum())
        doubtful = bool(outside_T.any()) and not self.finder.tools.isdisjoint(line.ids_T.tolist())
        self._count("tool turns", int(outside_T.sum()) if doubtful else 0, int(trained_T.sum()), row)
        if layout.spans and not doubtful:
            self._count("prompt", int(outside_T.sum()), prompt, row)
        self._count("after end of turn", int((trained_T & tail_T & ~layout.padded_T).sum()), int(tail_T.sum()), row)
        self._count("padding", int((trained_T & layout.padded_T).sum()), int(layout.padded_T.sum()), row)
        self._count("packing border", int((trained_T & first_of_next_T).sum()), int(first_of_next_T.sum()), row)
        self._count("no label", int(not trained_T.any()), 1, row)
        self._count("no response", int(not layout.spans), 1, row)
        if self.finder.begin_id is not None:
            begins_T = (line.ids_T == self.finder.begin_id) & ~layout.padded_T
            self._count("doubled BOS", int((begins_T[1:] & begins_T[:-1]).any()), 1, row)

    def _spans(self, line: AlignedRow, layout: RowLayout) -> None:
        """Count what is trained within each response."""
        row, trained_T, last = line.row, line.trained_T, len(line.ids_T)
        for span in layout.spans:
            inside_T = trained_T[span.start : span.after]
            if inside_T.any() or span.after < last or not line.cut_off:  # else its end may lie behind the row
                self._count("cut off", int(span.stop is None), 1, row)
            self._count("turn not trained", int(not inside_T.any()), 1, row)
            if not inside_T.any():
                continue
            if span.stop is not None:
                self._count("stop token", int(not trained_T[span.stop]), 1, row)
            self._count("first token", int(not trained_T[span.first]), 1, row)
            body_T = trained_T[span.first : span.after if span.stop is None else span.stop]
            known = np.flatnonzero(body_T)
            self.with_holes += bool(len(known) and not body_T[known[0] : known[-1] + 1].all())

    def _count(self, name: str, found: int, of: int, row: LabelRow) -> None:
        self.counts[name].add(found, of, row.id)

    def checks(self) -> Iterator[MaskCheck]:
        """The checks in their order, with verdicts.

        Raises:
            InputError: most rows hold no response, so that another model's template made them.
        """
        missing = self.counts["no response"]
        if missing.found * 2 > missing.of:
            raise InputError(
                f"no assistant turn was found in {missing.found:,} of {missing.of:,} rows, such as {missing.rows[0]}:"
                " the rows were made with another chat template",
                where="input_ids",
                fix="--model with the model whose template made the rows",
            )
        convention, known = _CONVENTIONS[self.shift], self.shift in (0, 1)
        verdict: Verdict = "fault" if not known else "note" if self.shift else "pass"
        yield MaskCheck(name="shift", verdict=verdict, found=self.rows, of=self.rows, words=_SHIFTS[convention])
        selective = self.selective or self.with_holes >= _SELECTIVE * max(1, self.counts["first token"].of)
        for name, words in _WORDS.items():
            count = self.counts[name]
            verdict = words.verdict if count.found else "pass"
            text = words.fault if count.found else words.fine
            if name == "first token" and count.found and selective:
                verdict, text = "note", f"{words.fault}; the mask leaves tokens within responses out as well"
            if not count.of:
                verdict, text = "not checked", words.unchecked
            yield MaskCheck(
                name=name, verdict=verdict, found=count.found, of=count.of, words=text, rows=tuple(count.rows)
            )


@dataclass(frozen=True, slots=True)
class _Words:
    """A check's findings in words, and the verdict where it finds something."""

    fault: str
    fine: str
    unchecked: str = "no such place in the rows"
    verdict: Verdict = "fault"


_WORDS: Final[Mapping[str, _Words]] = {
    "labels": _Words("rows have labels that are not their tokens", "all labels are the rows' tokens"),
    "stop token": _Words(
        "responses whose end-of-turn token is not trained: the model does not learn to stop",
        "the end-of-turn token of every trained response is trained",
        "no trained response has an end-of-turn token",
    ),
    "first token": _Words(
        "responses whose first token is not trained",
        "the first token of every trained response is trained",
        "no response is trained",
    ),
    "prompt": _Words("prompt tokens are trained", "no prompt token is trained"),
    "tool turns": _Words(
        "trained tokens lie outside of the responses that the header tells, in rows with tool tokens: some templates"
        " write an answer to a tool without a header, so that it cannot be told from a prompt",
        "no trained token lies in a doubtful place",
        verdict="note",
    ),
    "after end of turn": _Words(
        "tokens that the template writes behind an end of turn are trained; harmless, but no model has to write them",
        "nothing behind an end of turn is trained",
        verdict="note",
    ),
    "padding": _Words("padding tokens are trained", "no padding is trained", "there is no padding"),
    "doubled BOS": _Words(
        "rows hold the begin-of-text token twice in a row: it was added to a text that had it",
        "no row holds the begin-of-text token twice in a row",
        "the tokenizer has no begin-of-text token of its own",
    ),
    "no label": _Words("rows have no label at all", "every row has a label"),
    "no response": _Words(
        "rows hold no assistant turn of this chat template", "every row holds an assistant turn of this chat template"
    ),
    "cut off": _Words(
        "responses end before their end-of-turn token, or shifted labels leave it out",
        "every response has its end-of-turn token",
    ),
    "packing border": _Words(
        "first tokens of a packed conversation are predicted from the one before it",
        "no label crosses the border of two packed conversations",
        "no packed rows: neither position_ids, seq_lengths nor a second begin-of-text token tells a border",
    ),
    "turn not trained": _Words(
        "assistant turns are not trained at all, such as all but the last",
        "every assistant turn is trained",
        verdict="note",
    ),
}
_SHIFTS: Final[Mapping[str, str]] = {
    "unshifted": "label t is token t: right for trainers that shift themselves (transformers, TRL, Axolotl)",
    "shifted": "label t is token t + 1: right for trainers that do not shift (NeMo, Megatron, torchtune), a fault in"
    " all others",
    "shifted back": "label t is token t - 1: shifted in the wrong direction",
    "shifted twice": "label t is token t + 2: shifted twice",
}


def violations(line: AlignedRow, finder: ResponseFinder) -> int:
    """Number of places at which the trained tokens are not those of whole responses."""
    spans = lay_out(line, finder).spans
    response_T, _ = flags(spans, len(line.ids_T))
    trained_T = line.trained_T
    missing = sum(
        int(not trained_T[span.first]) + int(span.stop is not None and not trained_T[span.stop])
        for span in spans
        if trained_T[span.start : span.after].any()
    )
    return int((trained_T & ~response_T).sum()) + missing


def audit(
    rows: Callable[[], Iterator[LabelRow]],
    finder: ResponseFinder,
    *,
    source: str,
    model: str,
    labels: Literal["auto", "unshifted", "shifted"] = "auto",
    selective: bool = False,
    unread: tuple[str, ...] = (),
) -> MaskAudit:
    """Check the loss mask of a data set, in two passes over its rows.

    Args:
        rows: starts a pass over the rows.
        finder: of the model's responses.
        source: name of the data set.
        model: name of the model.
        labels: convention of the labels; auto finds it out.
        selective: True where a policy is known to have left tokens out; else the rows are asked.
        unread: columns that say nothing on the mask.

    Raises:
        InputError: no rows, ids of another tokenizer, or a doubt: how far the labels are shifted, whether the rows
            were made with this chat template.
    """
    votes = vote(_known_ids(rows(), finder), lambda line: violations(line, finder))
    found = _Audit(finder, votes.decide(labels), selective)
    for row in rows():
        found.add(row)
    if not found.rows:
        raise InputError("the data set holds no rows", where=source)
    return MaskAudit(
        source=source,
        model=model,
        rows=found.rows,
        tokens=found.tokens,
        responses=found.responses,
        trained_tokens=found.trained,
        labels=_CONVENTIONS[found.shift],
        checks=tuple(found.checks()),
        unread=unread,
    )


def _known_ids(rows: Iterator[LabelRow], finder: ResponseFinder) -> Iterator[LabelRow]:
    """The rows, refused where an id is not one of the tokenizer's."""
    size = len(finder.tokenizer)
    for row in rows:
        if len(row.ids_T) and not 0 <= int(row.ids_T.min()) <= int(row.ids_T.max()) < size:
            bad = int(row.ids_T.max()) if int(row.ids_T.min()) >= 0 else int(row.ids_T.min())
            raise InputError(
                f"token id {bad}, the tokenizer has ids from 0 to {size - 1}",
                where=f"row {row.id}",
                fix="--model with the model whose tokenizer made the rows",
            )
        yield row
