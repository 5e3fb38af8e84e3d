"""What the commands print: progress as a bar in a terminal and as plain lines elsewhere; errors in words."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

FLAT: Final = Parameter(name="*")
"""On a settings class: its fields are options by their own names."""
Out: TypeAlias = Annotated[Path, Parameter(name="--out")]
OptionalOut: TypeAlias = Annotated[Path | None, Parameter(name="--out")]

_LINE_EVERY_S = 10.0
"""Where the output is no terminal, how often a line says how far the work is."""

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s", style="dim")


class Work:
    """Progress of one long piece of work, shown on standard error; use as a context and call ``advanced``.

    Args:
        title: what is being done.
        unit: what is counted, in the plural.
    """

    def __init__(self, title: str, unit: str = "rows") -> None:
        self._title = title
        self._unit = unit
        self._began = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if err.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=err, transient=True)
            self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> "Work":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advanced(self, done: int, total: int) -> None:
        """Say how far the work is, in units done and in all."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total or None)
            return
        now = time.monotonic()
        if now - self._last_line < _LINE_EVERY_S:
            return
        self._last_line = now
        rate = done / (now - self._began)
        left = f", {duration((total - done) / rate)} left" if rate and total else ""
        print(f"{self._title}: {done:,} of {total:,} {self._unit}, {rate:,.1f}/s{left}", file=sys.stderr, flush=True)


def hush_transformers() -> None:
    """Keep transformers' own bars, one for every load and save, off the terminal; downloads keep theirs."""
    from huggingface_hub.utils import enable_progress_bars  # type: ignore[attr-defined]
    from transformers.utils import logging

    logging.disable_progress_bar()
    enable_progress_bars()


def duration(seconds: float) -> str:
    """A time span for people, e.g. 45 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
