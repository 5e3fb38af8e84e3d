"""Emptying a folder that a hostile program filled: links, folders without rights, trees deeper than a path may be."""

import contextlib
import os
from pathlib import Path


def untouched(folder: str) -> bool:
    """True for a folder that is empty and still only its owner's."""
    try:
        return Path(folder).stat().st_mode & 0o7777 == 0o700 and not any(os.scandir(folder))
    except OSError:
        return False


def empty(folder: str) -> None:
    """Remove everything in a folder, never following a link.

    Folders are moved up to the top before they are emptied, so that no path and no recursion gets long.
    """
    moved = 0
    while entries := list(os.scandir(folder)):
        before = len(entries), moved
        for entry in entries:
            with contextlib.suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    Path(entry.path).unlink()
                    continue
                Path(entry.path).chmod(0o700)
                for inner in os.scandir(entry.path):
                    if inner.is_dir(follow_symlinks=False):
                        Path(inner.path).chmod(0o700)
                        moved += 1
                        Path(inner.path).rename(Path(folder) / f".moved-{moved}-{os.urandom(8).hex()}")
                    else:
                        Path(inner.path).unlink()
                Path(entry.path).rmdir()
        if (sum(1 for _ in os.scandir(folder)), moved) == before:
            # Nothing could be removed or moved: what is left goes with the file system.
            return
