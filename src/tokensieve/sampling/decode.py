"""A decoding loop that keeps its batch full: rows leave when they are finished and waiting ones take their place.

``transformers``' ``generate`` draws a batch until its longest row is finished, copies the whole cache every step, and
its random numbers depend on the batch. Here the cache is written in place, a prompt is run once for all of its samples,
and every row has its own random numbers. Greedy answers are those of ``generate``; a contract test holds us to that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from tokensieve.config import SampleSettings
from tokensieve.models.device import int64_on, on_device
from tokensieve.sampling.cache import ColumnCache
from tokensieve.sampling.draw import Drawn, Job, alike, pick, takes_plain_mask
from tokensieve.sampling.request import uniforms
from tokensieve.sampling.steps import Guesser, StaticStep, logits_of_guesses, worth
from tokensieve.types import FloatArray, IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_REFILL_SHARE: Final = 0.125
"""Share of the slots that must be free before waiting rows are put in; a pass over prompts costs as much as a step."""

_SHRINK_SHARE: Final = 0.7
"""With nothing waiting, the batch shrinks once fewer of its rows than this are still being drawn."""

_STATIC_SHRINK_SHARE: Final = 0.5
"""The same where a batch of another size is captured anew."""

_SPARE_COLUMNS: Final = 32

_FEW: Final = 8
"""Rows up to which a CPU's step is as slow as its memory, and checks guesses on the side."""


@dataclass(slots=True)
class _Row:
    """A slot's occupant; ``start`` is the column of its prompt's first token."""

    job: Job
    uniform_T: FloatArray | None
    start: int = 0
    ids: list[int] = field(default_factory=list)
    nll: float = 0.0
    guesser: Guesser = field(init=False)

    def __post_init__(self) -> None:
        self.guesser = Guesser(self.job.prompt_T)

    def drawn(self, stops: frozenset[int]) -> Drawn:
        return Drawn(self.job, tuple(self.ids), self.ids[-1] in stops, self.nll / len(self.ids))


class Decoder:
    """Draws jobs with a model whose layers all attend (no recurrent state).

    Args:
        model: a causal language model.
        stops: ids that end an answer.
        settings: temperature, top_p and seed.
        pad_id: any valid id, put where there is no token.
        static: steps of fixed shapes, which a GPU replays as graphs; None does so on CUDA. The answers are the same.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        stops: frozenset[int],
        settings: SampleSettings,
        pad_id: int,
        *,
        static: bool | None = None,
    ) -> None:
        self._model = model
        self._stops = stops
        self._settings = settings
        self._pad_id = pad_id
        self._config = model.config.get_text_config()
        self._plain_mask = takes_plain_mask(model)
        wanted = model.device.type == "cuda" if static is None else static
        self._static = wanted and self._plain_mask
        self._static_step: StaticStep | None = None
        self._guessing = self._plain_mask and not self._static and model.device.type == "cpu"
        self._rows: list[_Row | None] = []
        self._cache: ColumnCache | None = None

    @torch.inference_mode()
    def draw(self, jobs: Sequence[Job], slots: int) -> Iterator[Drawn]:
        """Draw all jobs, ``slots`` at a time; answers come as they are finished.

        Jobs of one prompt should be neighbours and share its array, so that the prompt is run once.
        """
        # Long prompts first: a later one then always fits before the current column.
        waiting = sorted(jobs, key=lambda job: len(job.prompt_T))
        self._rows, self._cache, self._static_step = [], None, None
        while waiting or self._active():
            free = slots - self._active()
            if waiting and free >= max(1, int(slots * _REFILL_SHARE)):
                taken = [waiting.pop() for _ in range(min(free, len(waiting)))]
                rows = slots if waiting else len(taken)
                for portion in alike(taken):
                    yield from self._admit(portion, rows)
            else:
                few = not waiting and self._guessing and self._active() <= _FEW
                share = 1.0 if few else _STATIC_SHRINK_SHARE if self._static else _SHRINK_SHARE
                if not waiting and self._active() < share * len(self._rows):
                    self._compact(shrink=True)
                yield from self._guessed_step() if few else self._step()

    def _active(self) -> int:
        return sum(row is not None for row in self._rows)

    def _admit(self, jobs: list[Job], slots: int) -> Iterator[Drawn]:
        """Run the jobs' prompts, draw their first tokens, and put those that go on into slots."""
        prompts = list({id(job.prompt_T): job.prompt_T for job in jobs}.values())
        place = {id(prompt): number for number, prompt in enumerate(prompts)}
        fresh, logits_PV = self._run_prompts(prompts)
        source_B = self._tensor([place[id(job.prompt_T)] for job in jobs])
        rows = [_Row(job, self._uniforms(job)) for job in jobs]
        finished = self._append(rows, logits_PV[source_B])
        yield from (row.drawn(self._stops) for row, done in zip(rows, finished, strict=True) if done)
        going = [number for number, done in enumerate(finished) if not done]
        if going:
            self._seat([rows[number] for number in going], source_B[going], fresh, slots)

    def _run_prompts(self, prompts: list[IntArray]) -> tuple[ColumnCache, torch.Tensor]:
        """Keys and values of the prompts, padded on the left, and the logits after each."""
        longest = max(len(prompt) for prompt in prompts)
        ids = np.full((len(prompts), longest), self._pad_id, dtype=np.int64)
        present = np.zeros((len(prompts), longest), dtype=np.int64)
        for number, prompt in enumerate(prompts):
            ids[number, longest - len(prompt) :] = prompt
            present[number, longest - len(prompt) :] = 1
        cache = ColumnCache(self._config, longest)
        output = self._model(
            input_ids=self._tensor(ids),
            attention_mask=self._tensor(present),
            position_ids=self._tensor(np.maximum(present.cumsum(1) - 1, 0)),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cache, output.logits[:, -1]

    def _seat(self, rows: list[_Row], source_B: torch.Tensor, fresh: ColumnCache, slots: int) -> None:
        """Put rows whose prompts were run into free slots, their prompts ending at the current column."""
        if self._cache is None or not self._active():
            room = fresh.end + max(row.job.limit for row in rows) + _SPARE_COLUMNS
            self._cache = ColumnCache(self._config, room)
            self._cache.open_at(slots, fresh.end, fresh)
            self._rows = [None] * slots
            self._static_step = None
        free = [slot for slot, row in enumerate(self._rows) if row is None][: len(rows)]
        self._cache.put(self._tensor(free), fresh, source_B)
        for slot, row in zip(free, rows, strict=True):
            row.start = self._cache.end - len(row.job.prompt_T)
            self._rows[slot] = row

    def _step(self) -> Iterator[Drawn]:
        """One token for every slot; free ones compute along, which costs less than leaving them out each time."""
        cache = self._require_cache()
        if cache.end == cache.capacity:
            self._compact(shrink=False)
        begin = min(row.start for row in self._rows if row is not None)
        ids = [self._pad_id if row is None else row.ids[-1] for row in self._rows]
        starts = [begin if row is None else row.start for row in self._rows]
        logits_BV = self._static_logits(ids, starts) if self._static else self._logits(ids, starts, begin)
        seats = [slot for slot, row in enumerate(self._rows) if row is not None]
        rows = [row for row in self._rows if row is not None]
        finished = self._append(rows, logits_BV if len(seats) == len(self._rows) else logits_BV[self._tensor(seats)])
        for slot, row, done in zip(seats, rows, finished, strict=True):
            if done:
                self._rows[slot] = None
                yield row.drawn(self._stops)

    def _logits(self, ids: list[int], starts: list[int], begin: int) -> torch.Tensor:
        """Logits [B, V] after one more token in each row, over the columns that are in use."""
        cache = self._require_cache()
        cache.begin_at(begin)
        starts_B = self._tensor(starts)
        mask_BK = torch.arange(begin, cache.end + 1, device=self._model.device) >= starts_B[:, None]
        output = self._model(
            input_ids=self._tensor(ids)[:, None],
            attention_mask=mask_BK[:, None, None] if self._plain_mask else mask_BK.long(),
            position_ids=cache.end - starts_B[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def _static_logits(self, ids: list[int], starts: list[int]) -> torch.Tensor:
        """The same by a step of fixed shapes."""
        if self._static_step is None:
            capture = self._model.device.type == "cuda"
            self._static_step = StaticStep(self._model, self._require_cache(), len(ids), capture=capture)
        return self._static_step(ids, starts)

    def _guessed_step(self) -> Iterator[Drawn]:
        """As many tokens for each of the rows as guesses at them come true, and one; there are no free slots."""
        cache = self._require_cache()
        rows = [row for row in self._rows if row is not None]
        guesses = [row.guesser.guess(row.ids, row.job.limit - len(row.ids) - 1) for row in rows]
        width = 1 + worth(guesses)
        guesses = [guess[: width - 1] for guess in guesses]
        if cache.end + width > cache.capacity:
            self._compact(shrink=False)
        end = cache.end
        starts = [row.start for row in rows]
        ids = [[row.ids[-1], *guess] for row, guess in zip(rows, guesses, strict=True)]
        logits_BQV = logits_of_guesses(self._model, cache, ids, starts, self._pad_id)
        taken, finished = self._take(rows, guesses, logits_BQV)
        most = max(taken)
        moves = {slot: (rows[slot].start, most - own) for slot, own in enumerate(taken) if own < most}
        cache.settle(end + most, moves)
        for slot, (_, by) in moves.items():
            rows[slot].start += by
        for slot, row in enumerate(rows):
            if finished[slot]:
                self._rows[slot] = None
                yield row.drawn(self._stops)

    def _take(
        self, rows: list[_Row], guesses: list[list[int]], logits_BQV: torch.Tensor
    ) -> tuple[list[int], list[bool]]:
        """Draw each row's tokens as long as they are those guessed; their numbers, and which rows are finished."""
        taken, finished = [0] * len(rows), [False] * len(rows)
        going = list(range(len(rows)))
        for place in range(logits_BQV.shape[1]):
            done = self._append([rows[slot] for slot in going], logits_BQV[going, place])
            for slot, stopped in zip(going, done, strict=True):
                taken[slot], finished[slot] = place + 1, stopped
            going = [
                slot
                for slot in going
                if not finished[slot] and place < len(guesses[slot]) and rows[slot].ids[-1] == guesses[slot][place]
            ]
            if not going:
                break
        for row, guess, number in zip(rows, guesses, taken, strict=True):
            row.guesser.learn(len(guess), number - 1)
        return taken, finished

    def _append(self, rows: list[_Row], logits_BV: torch.Tensor) -> list[bool]:
        """Draw each row's next token; True where the row is finished with it."""
        uniform_B = None
        if self._settings.temperature > 0:
            drawn = [row.uniform_T[len(row.ids)] for row in rows if row.uniform_T is not None]
            uniform_B = on_device(torch.from_numpy(np.array(drawn)), self._model.device)
        token_B, nll_B = pick(logits_BV, uniform_B, self._settings.temperature, self._settings.top_p)
        for row, token, nll in zip(rows, token_B.tolist(), nll_B.tolist(), strict=True):
            row.ids.append(token)
            row.nll += nll
        return [row.ids[-1] in self._stops or len(row.ids) >= row.job.limit for row in rows]

    def _compact(self, *, shrink: bool) -> None:
        """Give up the columns before the oldest row's start, and the free slots where no more rows will come."""
        cache = self._require_cache()
        rows = [row for row in self._rows if row is not None]
        begin = min(row.start for row in rows)
        left = max(row.job.limit - len(row.ids) for row in rows)
        if self._static and not shrink and begin >= _SPARE_COLUMNS:
            cache.shift(begin)  # the storage stays where it is, and with it what was captured
            for row in rows:
                row.start -= begin
            return
        seats = [slot for slot, row in enumerate(self._rows) if row is not None] if shrink else None
        cache.keep(None if seats is None else self._tensor(seats), begin, cache.end - begin + left + _SPARE_COLUMNS)
        self._static_step = None  # the storage is another one
        for row in rows:
            row.start -= begin
        if shrink:
            self._rows = list(rows)

    def _require_cache(self) -> ColumnCache:
        if self._cache is None:  # unreachable: a step follows a row's admission
            raise RuntimeError("a step without rows")
        return self._cache

    def _uniforms(self, job: Job) -> FloatArray | None:
        if self._settings.temperature == 0:
            return None
        return uniforms(self._settings.seed, job.key, job.index, job.limit)

    def _tensor(self, values: object) -> torch.Tensor:
        """Whole numbers or flags on the model's device, int64."""
        return int64_on(self._model.device, np.asarray(values))
