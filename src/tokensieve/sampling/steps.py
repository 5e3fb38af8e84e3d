"""Faster decoding steps: of fixed shapes, which a GPU replays as graphs; and of several guessed tokens, on a CPU.

A small model's step is hundreds of kernels of a few microseconds; launching them one by one takes longer than running
them. So a step of fixed shapes is captured once as a CUDA graph and replayed. Elsewhere the same step runs operation by
operation. Either way its logits are those of the growing cache.

A forward pass of a few tokens costs a CPU little more than one of a single token, since both read all weights. So where
few answers are left, each pass checks some guesses at the next tokens: what followed the last time the answer's last
tokens occurred. Those that the model would have drawn itself are kept, all others are not. The answers are the same (to
float rounding); text that repeats itself, as code and loops do, comes faster.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from tokensieve.models.device import int64_on
from tokensieve.sampling.cache import ColumnCache
from tokensieve.types import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WINDOW: Final = 128
"""Columns by which the attended part of the cache grows; one graph each."""

_WARM_UP: Final = 2
"""Steps before a capture, in which libraries choose kernels and take their working memory."""

_LONGEST: Final = 16
"""Most guesses of a row in one pass."""

_PATTERN: Final = (4, 3, 2)
"""Tokens at the end that are looked for, longest first."""

_log = logging.getLogger(__name__)


class StaticStep:
    """One token for each row of a cache, whose rows and storage stay where they are.

    Args:
        model: a causal language model for which one boolean mask serves all layers.
        cache: keys and values; its storage must not be replaced while this is used.
        rows: rows of the cache.
        capture: True replays CUDA graphs.
    """

    def __init__(self, model: "PreTrainedModel", cache: ColumnCache, rows: int, *, capture: bool) -> None:
        self._model = model
        self._cache = cache
        self._capture = capture
        device = model.device
        self._ids_B1 = torch.zeros((rows, 1), dtype=torch.long, device=device)
        self._starts_B1 = torch.zeros((rows, 1), dtype=torch.long, device=device)
        self._column = torch.zeros(1, dtype=torch.long, device=device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        cache.clear_from_end()

    def __call__(self, ids: list[int], starts: list[int]) -> torch.Tensor:
        """Logits [B, V] after one more token in each row; overwritten by the next call.

        Args:
            ids: the token of each row.
            starts: column of each row's first token.
        """
        end = self._cache.end
        device = self._model.device
        self._ids_B1.copy_(int64_on(device, np.array(ids))[:, None])
        self._starts_B1.copy_(int64_on(device, np.array(starts))[:, None])
        self._column.fill_(end)
        window = min(self._cache.capacity, -(-(end + 1) // _WINDOW) * _WINDOW)
        self._cache.fix(self._column, window)
        try:
            logits_BV = self._replay(window) if self._capture else self._run(window)
        finally:
            self._cache.release()
        self._cache.advance()
        return logits_BV

    def _run(self, window: int) -> torch.Tensor:
        columns_K = torch.arange(window, device=self._model.device)
        mask_BK = (columns_K >= self._starts_B1) & (columns_K <= self._column)
        output = self._model(
            input_ids=self._ids_B1,
            attention_mask=mask_BK[:, None, None],
            position_ids=self._column - self._starts_B1,
            past_key_values=self._cache,
            use_cache=True,
        )
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def _replay(self, window: int) -> torch.Tensor:
        if window not in self._graphs:
            captured = self._captured(window)
            if captured is None:
                return self._run(window)
            self._graphs[window] = captured
        graph, logits_BV = self._graphs[window]
        graph.replay()
        return logits_BV

    def _captured(self, window: int) -> "tuple[torch.cuda.CUDAGraph, torch.Tensor] | None":
        """The step as a graph and where it leaves its logits; None, with a line in the log, where it has none.

        A step writes the same column however often it runs, so that warming up changes nothing.
        """
        # On this card: a stream of the process's current one, where the model lies on another, would capture nothing.
        with torch.cuda.device(self._model.device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    self._run(window)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            pool = next(iter(self._graphs.values()))[0].pool() if self._graphs else None
            try:
                # Other threads may ask the driver for memory meanwhile.
                with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                    logits_BV = self._run(window)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self._capture = False
                _log.warning("decoding steps run without CUDA graphs: %s", " ".join(str(error).split())[:200])
                return None
        return graph, logits_BV


@dataclass(slots=True)
class Guesser:
    """Guesses for one answer; the more came true, the more are made.

    Attributes:
        prompt_T: token ids of the prompt.
        reach: most guesses in the next pass.
    """

    prompt_T: IntArray
    reach: int = 2

    def guess(self, ids: Sequence[int], room: int) -> list[int]:
        """The tokens that may come next; empty where nothing speaks for any.

        Args:
            ids: the answer so far.
            room: tokens that the answer may still have behind the next one.
        """
        text_T = np.concatenate([self.prompt_T, np.asarray(ids)]).astype(np.int32)
        count = min(self.reach, room)
        if count < 1:
            return []
        for size in _PATTERN:
            place = _last_place(text_T[:-1], text_T[-size:]) if len(text_T) > size else -1
            if place >= 0:
                return [int(token) for token in text_T[place + size : place + size + count]]
        return []

    def learn(self, made: int, right: int) -> None:
        """Take in how many of the guesses came true."""
        if made:
            self.reach = min(_LONGEST, 2 * self.reach) if right == made else max(1, right)


def worth(guesses: Sequence[Sequence[int]]) -> int:
    """Guesses of each row that a pass should check: the most of which no more than half are padding."""
    lengths = [len(guess) for guess in guesses]
    counts = range(1, max(lengths, default=0) + 1)
    return max((n for n in counts if 2 * sum(min(own, n) for own in lengths) >= n * len(lengths)), default=0)


def logits_of_guesses(
    model: "PreTrainedModel", cache: ColumnCache, ids: Sequence[Sequence[int]], starts: Sequence[int], pad_id: int
) -> torch.Tensor:
    """Logits [B, Q, V] after each of the tokens, which are written to the next Q columns of the cache.

    Args:
        model: a causal language model for which one boolean mask serves all layers, on a CPU.
        cache: keys and values of B rows.
        ids: each row's last token and the guesses at the next ones; shorter rows are padded.
        starts: column of each row's first token.
        pad_id: any valid id.
    """
    begin, end = min(starts), cache.end
    width = max(len(row) for row in ids)
    cache.begin_at(begin)
    columns_Q = torch.arange(end, end + width)
    starts_B1 = torch.tensor(starts)[:, None]
    columns_K = torch.arange(begin, end + width)
    mask_BQK = (columns_K >= starts_B1[:, None]) & (columns_K <= columns_Q[:, None])
    output = model(
        input_ids=torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in ids]),
        attention_mask=mask_BQK[:, None],
        position_ids=columns_Q - starts_B1,
        past_key_values=cache,
        use_cache=True,
    )
    return output.logits  # type: ignore[no-any-return]


def _last_place(text_T: IntArray, pattern_N: IntArray) -> int:
    """Index of a pattern's last occurrence; -1 where there is none."""
    found = np.flatnonzero(text_T[: len(text_T) - len(pattern_N) + 1] == pattern_N[0])
    for place in found[::-1]:
        if np.array_equal(text_T[place : place + len(pattern_N)], pattern_N):
            return int(place)
    return -1
