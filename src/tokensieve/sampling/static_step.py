"""A decoding step of fixed shapes: on a GPU captured once as a CUDA graph and replayed.

A small model's step is hundreds of kernels of a few microseconds; launching them one by one takes longer than running
them. Elsewhere the same step runs operation by operation. Either way its logits are those of the growing cache.
"""

import logging
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from tokensieve.sampling.cache import ColumnCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WINDOW: Final = 128
"""Columns by which the attended part of the cache grows; one graph each."""

_WARM_UP: Final = 2
"""Steps before a capture, in which libraries choose kernels and take their working memory."""

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
        self._fill(self._ids_B1, ids)
        self._fill(self._starts_B1, starts)
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

    def _fill(self, buffer_B1: torch.Tensor, values: list[int]) -> None:
        """Copy whole numbers into a buffer; from pinned memory to a GPU, without waiting for it."""
        values_B1 = torch.from_numpy(np.array(values, dtype=np.int64))[:, None]
        buffer_B1.copy_(values_B1.pin_memory() if buffer_B1.is_cuda else values_B1, non_blocking=True)
