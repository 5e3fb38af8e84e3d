"""Output of the commands: progress as a bar in a terminal and as plain lines elsewhere; shared option types."""

import os
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Annotated, Final, TextIO, TypeAlias

from cyclopts import Parameter, default_name_transform, validators
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tokensieve.errors import Note


def _option(field: str) -> str:
    """A settings field's name as an option; what a run minimises and how it is fitted to the machine lie flat in it."""
    return "*" if field in ("machine", "objective") else default_name_transform(field)


def option_of(holder: str, place: tuple[int | str, ...]) -> str:
    """The option that sets a field.

    Args:
        holder: option of the settings class that it lies in, ``*`` where that is flat.
        place: names of the nested fields, then of the field itself.
    """
    parts = [_option(str(part)) for part in place]
    return "--" + ".".join(part for part in (holder.lstrip("-"), *parts) if part != "*")


FLAT: Final = Parameter(name="*", name_transform=_option)
"""On a settings class: its fields are options by their own names."""
Count: TypeAlias = Annotated[int, Parameter(validator=validators.Number(gt=0))]
Limit: TypeAlias = Annotated[int | None, Parameter(validator=validators.Number(gt=0))]
Out: TypeAlias = Annotated[Path, Parameter(name="--out")]
OptionalOut: TypeAlias = Annotated[Path | None, Parameter(name="--out")]

_LINE_EVERY_S = 10.0
"""Seconds between two lines of progress where the output is no terminal; shorter work prints none."""
_ESTIMATE_AFTER_S = 2.0
"""Seconds until the first line of progress where the output is no terminal; it gives the time left."""

# Without markup: brackets in a path, a title or an error are text.
out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as Python would, a note of ours as a plain line; for ``warnings.showwarning``."""
    if issubclass(category, Note):
        err.print(f"note: {message}", style="yellow")
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=file or sys.stderr, end="")


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s", style="dim")


class _Bars:
    """The bars of all work that goes on at a time, one below the other: a terminal holds one display only."""

    def __init__(self) -> None:
        self._display: Progress | None = None

    def add(self, title: str) -> TaskID:
        """A new bar."""
        if self._display is None:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
            )
            self._display = Progress(*columns, console=err, transient=True)
            self._display.start()
        return self._display.add_task(title, total=None)

    def update(self, bar: TaskID, done: int, total: int) -> None:
        """Move a bar."""
        if self._display is not None:
            self._display.update(bar, completed=done, total=total or None)

    def remove(self, bar: TaskID) -> None:
        """Take a bar away, and with the last one the display."""
        if self._display is None:
            return
        self._display.remove_task(bar)
        if not self._display.tasks:
            self._display.stop()
            self._display = None


_bars = _Bars()
"""Of this process."""


class Work:
    """Progress of one long piece of work, shown on standard error; use as a context and call ``advanced``.

    Several may be open at a time: in a terminal each has a bar, elsewhere each prints whole lines that begin with its
    title.

    Args:
        title: what is being done.
        unit: what is counted, in the plural.
    """

    def __init__(self, title: str, unit: str = "rows") -> None:
        self._title = title
        self._unit = unit
        self._first: tuple[float, int] | None = None
        self._next_line = 0.0
        self._bar: TaskID | None = None

    def __enter__(self) -> "Work":
        if err.is_terminal:
            self._bar = _bars.add(self._title)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            _bars.remove(self._bar)
            self._bar = None

    def advanced(self, done: int, total: int) -> None:
        """Say how far the work is, in units done and in all."""
        if self._bar is not None:
            _bars.update(self._bar, done, total)
            return
        now = time.monotonic()
        if self._first is None:
            # What is done by now may have been done by an earlier start: it says nothing of the rate.
            self._first = now, done
            self._next_line = now + _ESTIMATE_AFTER_S
        began, done_before = self._first
        if now < self._next_line or done == done_before:
            return
        rate = (done - done_before) / (now - began)
        left = (total - done) / rate if total else 0.0
        short = self._next_line == began + _ESTIMATE_AFTER_S and 0 <= left < _LINE_EVERY_S and total > 0
        self._next_line = now + _LINE_EVERY_S
        if short:
            return
        of = f"{done:,} of {total:,}" if total else f"{done:,}"
        about = f", about {duration(left)} left" if left else ""
        print(f"{self._title}: {of} {self._unit}, {rate:,.1f}/s{about}", file=sys.stderr, flush=True)


class Phases:
    """Progress of work in phases, a bar each; use as a context and call ``advanced``."""

    def __init__(self) -> None:
        self._title = ""
        self._work: Work | None = None

    def __enter__(self) -> "Phases":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._work is not None:
            self._work.__exit__(kind, error, at)

    def advanced(self, title: str, unit: str, done: int, total: int) -> None:
        """Say what goes on and how far it is; another title ends the phase before and begins its own."""
        if self._work is None or title != self._title:
            self.__exit__(None, None, None)
            self._title, self._work = title, Work(title, unit)
            self._work.__enter__()
        self._work.advanced(done, total)


def take_weak_sandbox(allowed: bool) -> None:
    """Let generated code run also where the machine cannot isolate it as well as promised, if that is allowed."""
    if allowed:
        from tokensieve.sandbox import allow_weak_sandbox

        allow_weak_sandbox()


def hush_transformers() -> None:
    """Keep transformers' own bars and what it deprecates in PEFT off the terminal; downloads keep their bars."""
    from huggingface_hub.utils import enable_progress_bars  # type: ignore[attr-defined]
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging

    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    logging.disable_progress_bar()
    if not err.is_terminal:
        # The reader of GGUF files draws its bar by tqdm itself, 272 lines in a file for a model of 272 tensors.
        modeling_gguf_pytorch_utils.tqdm = partial(modeling_gguf_pytorch_utils.tqdm, disable=True)
    if "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
        enable_progress_bars()


def hush_datasets() -> None:
    """Keep the bars of the datasets library off the terminal, of which an export or a check of one draws several."""
    import datasets

    datasets.disable_progress_bars()


def duration(seconds: float) -> str:
    """A time span for people, e.g. 45 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
