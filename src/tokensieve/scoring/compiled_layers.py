"""Decoder layers by torch.compile: one graph for all layers of a kind, whatever the length of what they read.

The elementwise work of a layer (norms, rotary embedding, gated product, residuals) becomes a few kernels. The model
itself stays as it is: its layers run compiled inside a context only, and where that fails they run eager.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import torch

from tokensieve.scoring.lm_head_tiles import Sums, TileStep, add_functional, add_in_place

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")
Wanted: TypeAlias = Literal["auto", "on", "off"]

_log = logging.getLogger(__name__)


class CompiledLayers:
    """The decoder layers of a backbone, compiled at their first call.

    One graph serves packed rows and one padded ones, for each kind of layer; lengths and batch sizes are symbols in
    it. Layers share a graph, since their weights are its inputs. torch's ``recompile_limit`` bounds what else might
    be compiled: past it the layers run eager from then on, as after any error of the compiler.

    Args:
        model: whose layers they are.
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        self._layers = decoder_layers(model)
        # One graph a layer or none: a layer in pieces would be compiled anew for every shape that a piece sees.
        self._forwards = [torch.compile(layer.forward, dynamic=True, fullgraph=True) for layer in self._layers]
        self.problem: str | None = None if self._layers else f"{type(model).__name__} has no list of decoder layers"

    def run(self, work: Callable[[], T]) -> T:
        """The result of ``work``, with the layers compiled; eager, with a line in the log, where they cannot be.

        Raises:
            torch.OutOfMemoryError: as ``work`` does.
        """
        if self.problem is None:
            try:
                with self._installed():
                    return work()
            except Exception as error:
                if not is_of_compiler(error):
                    raise
                self.give_up(_in_one_line(error))
        return work()

    def give_up(self, problem: str) -> None:
        """Run the layers eager from now on, and say why in the log."""
        self.problem = problem
        _log.warning("decoder layers run without torch.compile: %s", problem)

    @contextmanager
    def _installed(self) -> Iterator[None]:
        before = [layer.__dict__.get("forward") for layer in self._layers]
        for layer, forward in zip(self._layers, self._forwards, strict=True):
            layer.forward = forward
        try:
            yield
        finally:
            for layer, own in zip(self._layers, before, strict=True):
                if own is None:
                    del layer.forward  # the class's own method shows through again
                else:
                    layer.forward = own


def is_wanted(wanted: Wanted, device: torch.device) -> bool:
    """True where layers are to be compiled; auto does so on CUDA, where kernels are many and compiling pays at once."""
    return wanted == "on" or (wanted == "auto" and device.type == "cuda")


class CompiledStep:
    """Adds a tile of logits to the sums of an LM head, compiled: two passes over the tile in place of a dozen."""

    def __init__(self) -> None:
        self._step: TileStep = torch.compile(add_functional, dynamic=True, fullgraph=True)
        self.problem: str | None = None

    def __call__(self, sums: Sums, *tile: torch.Tensor) -> Sums:
        """As ``add_in_place``, which runs, with a line in the log, where this cannot be compiled."""
        if self.problem is None:
            try:
                return self._step(sums, *tile)
            except Exception as error:
                if not is_of_compiler(error):
                    raise
                self.problem = _in_one_line(error)
                _log.warning("the LM head's sums run without torch.compile: %s", self.problem)
        return add_in_place(sums, *tile)


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def is_of_compiler(error: Exception) -> bool:
    """True for errors of torch.compile itself, not of what it compiled."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    return isinstance(error, TorchDynamoException | FailOnRecompileLimitHit)


def decoder_layers(model: "PreTrainedModel") -> list[torch.nn.Module]:
    """The layers of a backbone in order; empty where it has no list of as many modules as its configuration says."""
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return list(module)
    return []
