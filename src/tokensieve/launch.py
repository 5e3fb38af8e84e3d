"""Engines: this process, one of several that torchrun or a job array started, or Ray's workers.

An engine never changes a result: it deals out whole shards, and a shard's bytes depend on its rows alone.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tokensieve.config import LaunchSettings, ModelSettings
from tokensieve.errors import InputError


@dataclass(frozen=True, slots=True)
class Portion:
    """One process's shards among several processes: those whose index modulo ``count`` is ``index``.

    Attributes:
        index: this process, from 0.
        count: number of processes.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(
                f"expected a portion i/N with i from 0 to N-1, got {self.index}/{self.count}",
                where="--shard",
                fix="for an array of 8 jobs: --shard $SLURM_ARRAY_TASK_ID/8, with --array=0-7",
            )

    @property
    def whole(self) -> bool:
        """True where there is only one process."""
        return self.count == 1

    def has(self, shard: int) -> bool:
        """True for a shard of this portion."""
        return shard % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"


def parse_portion(text: str) -> Portion:
    """A portion from ``i/N``, i from 0.

    Raises:
        InputError: the text is no such thing, or i is not below N.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if found is None:
        raise InputError(f"expected i/N, e.g. 0/8, got {text!r}", where="--shard")
    return Portion(int(found[1]), int(found[2]))


def portion_of_launch(environment: Mapping[str, str] = os.environ) -> Portion:
    """The portion that torchrun or ``accelerate launch`` gave this process; the whole where neither started it.

    Raises:
        InputError: the launcher's variables contradict each other.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return Portion()
    return Portion(int(environment["RANK"]), int(environment["WORLD_SIZE"]))


def portion_of(launch: LaunchSettings, model: ModelSettings) -> Portion:
    """This process's portion of the shards: as set, else as the launcher says; all where processes share one model.

    Raises:
        InputError: settings that exclude each other.
    """
    shared = model.tp_plan != "none"
    portion = parse_portion(launch.shard) if launch.shard else Portion() if shared else portion_of_launch()
    if launch.url is not None and launch.backend != "vllm":
        raise InputError("a server is asked with --backend vllm only", where="--url")
    if launch.engine == "ray" and (launch.backend != "transformers" or not portion.whole):
        raise InputError("Ray deals the work out itself, to the transformers backend", where="--engine ray")
    return portion


def device_of_launch(environment: Mapping[str, str] = os.environ) -> str:
    """The device of this process among those of its machine: ``cuda:LOCAL_RANK`` under a launcher, else ``auto``.

    It becomes the process's current one: else pinned memory and streams would be those of the first card, in which each
    process would take some hundred megabytes.
    """
    import torch

    if "LOCAL_RANK" in environment and torch.cuda.is_available():
        device = f"cuda:{environment['LOCAL_RANK']}"
        torch.cuda.set_device(device)
        return device
    return "auto"
