"""What a model's own data are like beside the ground truth: yield, time, and sentence perplexity of each arm.

    python benchmarks/generated_data.py [--model pocket] [--task pocket_python_foreign] [--limit 100] [--samples 32]

The paper's order of perplexities is ground truth, Rephrase, Self-Output, from high to low. The perplexity of a sentence
is the exponential of the mean nll of its response's tokens under the model before training; a table's entry is the mean
over sentences. Rows are compared on the prompts that every arm answered, since an arm keeps the easier ones.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from machine import describe_run

from tokensieve.config import GenerateSettings, ManySettings, ModelSettings
from tokensieve.generation import generate, read_yields
from tokensieve.generation.perplexity import conditional_nll
from tokensieve.models import LoadedModel, load_model
from tokensieve.pipeline.load import gold_examples
from tokensieve.types import Example

Arm = Literal["self-output", "rephrase"]


def made(arm: Arm, task: str, loaded: LoadedModel, limit: int, samples: int, out: Path) -> list[Example]:
    """An arm's rows; prints what the answers came to."""
    settings = GenerateSettings(arm=arm, sampling=ManySettings(n=samples))
    started = time.perf_counter()
    rows = list(generate(task, loaded, settings, out, limit=limit))
    seconds = time.perf_counter() - started
    yields = read_yields(out)
    drawn, correct = sum(y.drawn for y in yields), sum(y.correct for y in yields)
    print(
        f"{arm:<14} {drawn:>6,} answers in {seconds:6.1f} s, {correct / drawn:6.1%} correct, "
        f"{sum(y.cut_off for y in yields) / drawn:5.1%} cut off, {sum(y.leftovers for y in yields):,} leftovers; "
        f"{len(rows)} of {len(yields)} prompts kept",
        flush=True,
    )
    return rows


def show(name: str, rows: Sequence[Example], loaded: LoadedModel) -> None:
    perplexity = np.exp(conditional_nll(rows, loaded))
    quarters = ", ".join(f"{value:.3f}" for value in np.quantile(perplexity, [0.25, 0.5, 0.75]))
    print(f"{name:<14} {len(rows):>5} rows, sentence perplexity: mean {perplexity.mean():.3f}, quartiles {quarters}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--task", default="pocket_python_foreign")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--samples", type=int, default=32)
    arguments = parser.parse_args()
    task, limit = arguments.task, arguments.limit
    print(describe_run())
    loaded = load_model(ModelSettings(model=arguments.model))
    arms: tuple[Arm, ...] = ("rephrase", "self-output")
    rows = {"ground truth": list(gold_examples(task, "train", limit=limit))}
    with tempfile.TemporaryDirectory() as folder:
        for arm in arms:
            rows[arm] = made(arm, task, loaded, limit, arguments.samples, Path(folder) / arm)
    common = set.intersection(*({row.id for row in listed} for listed in rows.values()))
    for name, listed in rows.items():
        show(name, [row for row in listed if row.id in common], loaded)


if __name__ == "__main__":
    main()
