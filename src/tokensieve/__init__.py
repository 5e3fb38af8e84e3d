"""Fine-tune a language model without making it forget: score, select, train, measure.

The verbs of the command line, as functions: ``load``, ``score``, ``select``, ``generate``, ``train``, ``evaluate``,
``compare``, ``export``, ``run``. They are imported on first use, so that importing the package costs nothing.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokensieve.comparison import compare
    from tokensieve.evaluation import evaluate
    from tokensieve.exports import export
    from tokensieve.generation import generate
    from tokensieve.pipeline import load, select
    from tokensieve.scoring import score
    from tokensieve.study import run
    from tokensieve.training import train

__version__ = metadata.version("tokensieve")

__all__ = ["compare", "evaluate", "export", "generate", "load", "run", "score", "select", "train"]

_HOMES = {
    "compare": "comparison",
    "evaluate": "evaluation",
    "export": "exports",
    "generate": "generation",
    "load": "pipeline",
    "run": "study",
    "score": "scoring",
    "select": "pipeline",
    "train": "training",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
