"""Commands that only look: rows in the terminal, the machine, the score store."""

import os
import platform
import shutil
from pathlib import Path
from typing import cast

from tokensieve.cli.console import out
from tokensieve.config import ModelSettings
from tokensieve.data.dataset import open_rows
from tokensieve.data.hashing import cache_folder
from tokensieve.data.manifest import package_versions
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.types import Scored, Selected

_PACKAGES = ("tokensieve", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "pyarrow")
_EXTRAS = ("vllm", "ray", "lm_eval", "bitsandbytes")


def show(folder: Path, row_id: str | None, limit: int, model: str | None) -> int:
    """Print rows of a scored or selected folder, token by token."""
    from tokensieve.models import load_tokenizer
    from tokensieve.token_view import token_view

    rows = open_rows(folder)
    if rows.manifest.stage not in ("scored", "selected"):
        raise InputError(
            f"{rows.manifest.stage} rows have no scores to show", where=str(folder), fix="tokensieve score"
        )
    made_by = rows.manifest.model
    name = model or (made_by.name if made_by else None)
    if name is None:
        raise InputError("the manifest names no model", where=str(folder), fix="--model NAME")
    tokenizer = load_tokenizer(ModelSettings(model=name, revision=made_by.revision if made_by and not model else None))
    shown = 0
    for row in rows:
        scored = row.scored if isinstance(row, Selected) else cast(Scored, row)
        if row_id is not None and scored.tokens.id != row_id:
            continue
        out.print(token_view(cast("Scored | Selected", row), lambda token: str(tokenizer.decode([token]))))
        shown += 1
        if shown == limit or row_id is not None:
            break
    if shown == 0:
        raise InputError(f"no row {row_id!r}" if row_id else "there are no rows", where=str(folder))
    return 0


def doctor() -> int:
    """Print versions, devices, caches and what the sandbox can promise."""
    from importlib.util import find_spec

    import torch

    from tokensieve.sandbox import describe

    for name, version in package_versions(_PACKAGES).items():
        out.print(f"{name:14}{version}")
    extras = [f"{name} {'there' if find_spec(name) else 'not installed'}" for name in _EXTRAS]
    out.print(f"{'extras':14}{', '.join(extras)}")
    out.print(f"{'system':14}{platform.platform()}, {os.cpu_count()} processors, {torch.get_num_threads()} threads")
    out.print(f"{'devices':14}{', '.join(_devices())}")
    free = shutil.disk_usage(_existing(cache_folder())).free
    out.print(f"{'cache':14}{cache_folder()} ({free / 2**30:.0f} GiB free)")
    out.print(f"{'hub':14}{'offline (HF_HUB_OFFLINE)' if os.environ.get('HF_HUB_OFFLINE') == '1' else 'online'}")
    try:
        sandbox = describe()
    except EnvironmentProblem as problem:
        sandbox = f"unavailable: {problem.problem}"
    out.print(f"{'sandbox':14}{sandbox}")
    return 0


def _devices() -> list[str]:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
