"""A model's own decoder layers, run otherwise: by torch.compile, and with attention over the rows of a packed sequence.

Both are contexts: the model itself stays as it is. Compiled, the elementwise work of a layer (norms, rotary embedding,
gated product, residuals) becomes a few kernels; one graph serves all layers of a kind, whatever the length.

In a packed sequence there is neither padding nor a product between neighbours: linear layers see one long sequence,
attention, the only layer that mixes tokens, sees rows: on a GPU by torch's variable-length kernel. A CPU has none, and
a plain kernel's mask would cost the square of the sequence; so it is called for each run of equally long rows.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, groupby
from types import FunctionType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar, cast

import torch

from tokensieve.models.device import on_device

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

T = TypeVar("T")
Wanted: TypeAlias = Literal["auto", "on", "off"]

_NAME: Final = "tokensieve_by_row"
_WINDOWS: Final = ("sliding_window", "attention_chunk_size", "window_size")
_NOT_HANDLED: Final = ("softcap", "position_bias", "s_aux")
"""Arguments that some models pass to their attention and that the plain kernel does not take."""

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
        self._forwards = _compiled_forwards(model, self._layers)
        self.problem: str | None = None if self._layers else f"{type(model).__name__} has no list of decoder layers"
        if any("forward" in vars(layer) for layer in self._layers):
            self.problem = "something else has replaced their forward functions"

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
                self.give_up(in_one_line(error))
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


_compiled: dict[str, Callable[..., object]] = {}
"""A compiled function by the structure of the layers that it runs: modules with their sizes, and the dtype."""


def _compiled_forwards(model: "PreTrainedModel", layers: Sequence[torch.nn.Module]) -> list[Callable[..., object]]:
    """A compiled function in place of each layer's ``forward``; models of one structure share it, and its graphs.

    Torch counts what it has compiled by code object, and all of transformers' layers have the same: a process that
    scores with models of several structures would be past the limit after the fourth. So each has a copy of its own.
    """
    structure = f"{model.dtype} {layers[:1]}"
    if structure not in _compiled:
        own = FunctionType(_forward.__code__.replace(), globals())
        # One graph a layer or none: a layer in pieces would be compiled anew for every shape that a piece sees.
        _compiled[structure] = torch.compile(own, dynamic=True, fullgraph=True)
    return [partial(_compiled[structure], type(layer).forward, layer) for layer in layers]


def _forward(forward: Callable[..., object], layer: torch.nn.Module, *inputs: object, **options: object) -> object:
    """A layer's output."""
    return forward(layer, *inputs, **options)


def is_wanted(wanted: Wanted, device: torch.device) -> bool:
    """True where layers are to be compiled; auto does so on CUDA, where kernels are many and compiling pays at once."""
    return wanted == "on" or (wanted == "auto" and device.type == "cuda")


def in_one_line(error: Exception) -> str:
    """An error as a short line of the log."""
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


class UnsupportedAttention(RuntimeError):
    """A model's attention does more than plain causal attention over rows."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive rows of one length."""

    rows: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Rows of a packed sequence: runs of equally long ones, and on a GPU the columns where they begin, int32 [B + 1].

    The columns are copied once a sequence, not once a layer: each such copy would wait for the device.
    """

    runs: tuple[_Run, ...]
    bounds_B: torch.Tensor | None = None

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(run.length for run in self.runs)


_rows: ContextVar[_Rows] = ContextVar("rows of the packed sequence that is being read")


@contextmanager
def varlen_rows(causal: "PreTrainedModel", lengths: Sequence[int]) -> Iterator[None]:
    """Context in which the model's attention takes a packed sequence as rows of these lengths.

    Raises:
        UnsupportedAttention: (from the model's call) its attention does more than plain causal attention.
    """
    config: PretrainedConfig = causal.config.get_text_config()
    _register()
    before = config._attn_implementation
    bounds_B = None
    if causal.device.type == "cuda":
        bounds_B = on_device(torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), causal.device)
    runs = tuple(_Run(len(list(same)), length) for length, same in groupby(lengths))
    token = _rows.set(_Rows(runs, bounds_B))
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _rows.reset(token)


def longest_unwindowed(causal: "PreTrainedModel") -> int | None:
    """Longest row, in tokens, that no sliding window or chunk of any layer cuts; None where there is no window."""
    config = causal.config.get_text_config()
    windows = [getattr(config, name, None) for name in _WINDOWS]
    return min((window for window in windows if isinstance(window, int)), default=None)


def _register() -> None:
    """Register the attention function with transformers; a name without a mask function gets no mask."""
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attend)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """Attention function as transformers calls it: ``[1, H, T, D]`` each, and ``[1, T, H, D]`` as result."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    asked = [name for name in _NOT_HANDLED if options.get(name) is not None]
    if attention_mask is not None or not causal or asked or len(query) != 1:
        raise UnsupportedAttention(f"{type(module).__name__} asks for {', '.join(asked) or 'a mask of its own'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attend = _attend_rows_opaque if torch.compiler.is_compiling() else _attend_rows
    return attend(query, key, value, scale), None


def _empty_output(query: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Room for a result, ``[1, T, H, D]``."""
    return query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])


def _attend_rows(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention over the rows of the context; ``[1, T, H, D]``."""
    if query.is_cuda:
        return _attend_varlen(query, key, value, scale)
    shared = query.shape[1] // key.shape[1]
    output = _empty_output(query, value)
    start = 0
    for run in _rows.get().runs:
        stop = start + run.rows * run.length
        query_BHTD, key_BHTD, value_BHTD = (_rows_of(part, start, run) for part in (query, key, value))
        if shared > 1:  # the CPU's fused kernel wants as many key heads as query heads
            key_BHTD, value_BHTD = (part.repeat_interleave(shared, 1) for part in (key_BHTD, value_BHTD))
        rows_BHTD = torch.nn.functional.scaled_dot_product_attention(
            query_BHTD, key_BHTD, value_BHTD, scale=scale, is_causal=True
        )
        output[0, start:stop].view(run.rows, run.length, *output.shape[2:]).copy_(rows_BHTD.transpose(1, 2))
        start = stop
    return output


@torch.library.custom_op("tokensieve::attend_rows", mutates_args=())
def _attend_rows_opaque(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """The same as an operation that a compiler does not look into: a graph must not depend on the rows."""
    return _attend_rows(query, key, value, scale)


@_attend_rows_opaque.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:  # noqa: ARG001
    return _empty_output(query, value)


def _attend_varlen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention by torch's variable-length kernel in one call; ``[1, T, H, D]``."""
    rows = _rows.get()
    bounds_B = rows.bounds_B
    if bounds_B is None:  # unreachable: rows on a GPU have them
        raise UnsupportedAttention("rows without bounds")
    query_THD, key_THD, value_THD = (part[0].transpose(0, 1) for part in (query, key, value))
    try:
        from torch.nn.attention.varlen import varlen_attn

        output_THD = varlen_attn(
            query_THD,
            key_THD,
            value_THD,
            bounds_B,
            bounds_B,
            rows.longest,
            rows.longest,
            scale=scale,
            window_size=(-1, 0),  # as far back as there is, nothing ahead: causal
            enable_gqa=query_THD.shape[1] != key_THD.shape[1],
        )
    except torch.OutOfMemoryError:
        raise
    except (ImportError, TypeError, ValueError, RuntimeError) as error:  # another release, card or dtype
        raise UnsupportedAttention(f"torch's variable-length attention: {error}") from error
    return cast(torch.Tensor, output_THD)[None]  # a tuple only where more is asked for


def _rows_of(packed_BHTD: torch.Tensor, start: int, run: _Run) -> torch.Tensor:
    """Rows of a run as a batch, ``[B, H, T, D]``, without a copy."""
    run_HTD = packed_BHTD[0, :, start : start + run.rows * run.length]
    return run_HTD.view(len(run_HTD), run.rows, run.length, -1).transpose(0, 1)
