"""Keys and values of rows that begin at different columns and all end at the same one.

Every row's newest token lies in the same column, so a step writes one column for all rows, in place. A new row is put
in with its prompt ending at the current column; what lies before its start is not attended to.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class ColumnLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, ``[rows, heads, columns, size]``, in storage that is larger than what is in use."""

    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.begin = 0
        self.end = 0
        self.column: torch.Tensor | None = None
        self.window = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room at the first use, when sizes, numbers and device are known.

        What is in it is anything: each column is written before it is read.
        """
        rows, heads = key_states.shape[:2]
        self.keys = key_states.new_empty(rows, heads, self.capacity, key_states.shape[-1])
        self.values = value_states.new_empty(rows, heads, self.capacity, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new columns and return all that are in use."""
        if self.column is not None:
            self.keys.index_copy_(2, self.column, key_states)
            self.values.index_copy_(2, self.column, value_states)
            return self.keys[:, :, : self.window], self.values[:, :, : self.window]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new_end = self.end + key_states.shape[2]
        self.keys[:, :, self.end : new_end] = key_states
        self.values[:, :, self.end : new_end] = value_states
        self.end = new_end
        return self.keys[:, :, self.begin : new_end], self.values[:, :, self.begin : new_end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that the next step attends to, itself included, and where they begin."""
        if self.column is not None:
            return self.window, 0
        return self.end - self.begin + query_length, 0

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.end - self.begin

    def get_max_length(self) -> int:
        """Columns there is room for."""
        return self.capacity


class ColumnCache(Cache):  # type: ignore[misc]
    """All layers' keys and values."""

    def __init__(self, config: "PretrainedConfig", capacity: int) -> None:
        super().__init__(layers=[ColumnLayer(capacity) for _ in range(config.num_hidden_layers)])

    @property
    def end(self) -> int:
        """Column that the next token is written to."""
        return int(self.layers[0].end)

    @property
    def capacity(self) -> int:
        """Columns there is room for."""
        return int(self.layers[0].capacity)

    def begin_at(self, column: int) -> None:
        """Attend to nothing before a column."""
        for layer in self.layers:
            layer.begin = column

    def fix(self, column: torch.Tensor, window: int) -> None:
        """Write the next token to a column that the device reads [1], and attend to the first ``window`` columns.

        No shape then depends on how far the rows are, so that a step can be captured once and replayed.
        """
        for layer in self.layers:
            layer.column, layer.window = column, window

    def advance(self) -> None:
        """Count a column that a fixed step has written."""
        for layer in self.layers:
            layer.end += 1

    def release(self) -> None:
        """Write and attend as far as the rows are, as before ``fix``."""
        for layer in self.layers:
            layer.column = None

    def clear_from_end(self) -> None:
        """Zero what is not written yet: a fixed step attends to it with weight 0, and NaN times 0 is NaN."""
        for layer in self.layers:
            layer.keys[:, :, layer.end :] = 0
            layer.values[:, :, layer.end :] = 0

    def open_at(self, rows: int, end: int, like: "ColumnCache") -> None:
        """Make room for rows of another cache's kind, with everything before ``end`` empty."""
        for layer, other in zip(self.layers, like.layers, strict=True):
            layer.lazy_initialization(
                other.keys[:1].expand(rows, -1, -1, -1), other.values[:1].expand(rows, -1, -1, -1)
            )
            # Not attended to, but weighed with nothing: a number that is none would come through.
            layer.keys[:, :, :end] = 0
            layer.values[:, :, :end] = 0
            layer.end = end

    def put(self, slots: torch.Tensor, other: "ColumnCache", rows: torch.Tensor) -> None:
        """Copy rows of another cache into slots of this one so that they end at this one's current column."""
        for layer, source in zip(self.layers, other.layers, strict=True):
            columns = slice(layer.end - source.end, layer.end)
            layer.keys[slots, :, columns] = source.keys[rows, :, : source.end]
            layer.values[slots, :, columns] = source.values[rows, :, : source.end]

    def shift(self, begin: int) -> None:
        """Move the columns from ``begin`` on to the front of the same storage."""
        for layer in self.layers:
            size = layer.end - begin
            layer.keys[:, :, :size] = layer.keys[:, :, begin : layer.end].clone()
            layer.values[:, :, :size] = layer.values[:, :, begin : layer.end].clone()
            layer.begin, layer.end = 0, size

    def settle(self, end: int, moves: Mapping[int, tuple[int, int]]) -> None:
        """Let all rows end before one column after a step of several, of which some rows keep fewer than others.

        Args:
            end: the column behind the row that keeps most.
            moves: row to its first column and the columns by which it moves to the right, up to ``end``.
        """
        for layer in self.layers:
            for row, (start, by) in moves.items():
                for stored in (layer.keys, layer.values):
                    stored[row, :, start + by : end] = stored[row, :, start : end - by].clone()
            layer.end = end

    def keep(self, rows: torch.Tensor | None, begin: int, capacity: int) -> None:
        """Copy the rows and the columns from ``begin`` on to the front of fresh storage."""
        for layer in self.layers:
            used = slice(begin, layer.end)
            keys, values = layer.keys, layer.values
            if rows is not None:
                keys, values = keys[rows], values[rows]
            size = layer.end - begin
            layer.keys = keys.new_empty(*keys.shape[:2], capacity, keys.shape[-1])
            layer.values = values.new_empty(*values.shape[:2], capacity, values.shape[-1])
            layer.keys[:, :, :size] = keys[:, :, used]
            layer.values[:, :, :size] = values[:, :, used]
            layer.capacity, layer.begin, layer.end = capacity, 0, size
