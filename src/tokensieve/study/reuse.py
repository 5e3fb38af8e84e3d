"""Finished steps of other runs, taken over in place of making them again: equal keys mean equal results."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tokensieve.errors import InputError
from tokensieve.study.steps import Runner, Silent, Step


def runs_in(folders: Iterable[Path]) -> tuple[Path, ...]:
    """The folders of runs: those given, and those that lie in a folder given, such as ``runs``.

    Raises:
        InputError: there is no such folder.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError("there is no such folder", where=str(folder), fix="--reuse FOLDER of a run, or of several")
        found |= {one.resolve(): None for one in (folder, *sorted(folder.iterdir())) if _is_run(one)}
    return tuple(found)


def elsewhere(runner: Runner, steps: Iterable[Step], runs: Sequence[Path]) -> Iterator[tuple[Step, Path]]:
    """Those of the steps that are not finished here but in another run, with the first such run.

    Args:
        runner: of the run that lacks them.
        steps: what may be missing.
        runs: folders of other runs; the run's own is passed over.
    """
    others = [Runner(run, Silent()) for run in runs if run != runner.root.resolve()]
    for step in steps:
        if runner.record(step) is None:
            for other in others:
                if other.record(step) is not None:  # with the whole key, of which folders' names hold the start
                    yield step, other.root
                    break


def take_over(runner: Runner, found: Iterable[tuple[Step, Path]]) -> Mapping[str, int]:
    """Take finished steps over from other runs, and return the number from each, by the name of its folder.

    Files are hard-linked where the disk allows it, else copied: no finished step is ever changed. The step's record
    says where it came from.

    Args:
        runner: of the run that lacks them.
        found: steps, each with the folder of a run that has finished it.

    Raises:
        OSError: the disk is full or refuses.
    """
    taken: Counter[str] = Counter()
    for step, root in found:
        other = Runner(root, Silent())
        record = other.record(step)
        if record is None:
            continue
        half = runner.root / f".{step.folder_name}.taken"
        shutil.rmtree(half, ignore_errors=True)
        shutil.rmtree(runner.folder(step), ignore_errors=True)  # what a kill has left half done
        half.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(other.folder(step), half, copy_function=_link_or_copy)
        source = record.taken_from or root.name
        # A record without a folder says nothing, so that a kill in between loses nothing; a folder without a record
        # would be made again, by a call that does not know whose it is.
        runner.write_record(step, record.model_copy(update={"taken_from": source}))
        half.rename(runner.folder(step))
        taken[root.name] += 1
    return taken


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and any(folder.glob("*-????????????.json"))


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        return str(shutil.copy2(source, target))
    return target
