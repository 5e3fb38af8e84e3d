"""Load the weights of a causal language model, and check that all of them are there and are numbers."""

import contextlib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from tokensieve.config import ModelSettings
from tokensieve.errors import EnvironmentProblem, InputError, first_line, note
from tokensieve.models.device import device_of, dtype_of
from tokensieve.models.fetch import Source

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class LoadingReport(TypedDict):
    """Transformers' report of loading weights; mismatched ones with the files' shape and the model's."""

    missing_keys: set[str]
    unexpected_keys: set[str]
    mismatched_keys: "set[tuple[str, torch.Size, torch.Size]]"


def read_weights(source: Source, settings: ModelSettings) -> "PreTrainedModel":
    """Load a model from its files, on its device, in its dtype.

    Raises:
        InputError: no safetensors files, weights that are missing, that the model has no place for, or that are not
            finite; settings that exclude each other.
        EnvironmentProblem: a package or device is missing, or the device has no room.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    if source.gguf is None and not any(source.folder.glob("*.safetensors")):
        raise InputError(
            "there are no weights in safetensors files",
            where=settings.model,
            fix="convert the model with transformers' save_pretrained, which writes safetensors",
        )
    arguments = _arguments(source, settings)
    try:
        with quiet_transformers():  # its report of the weights becomes an error or a note of ours
            if source.gguf is not None:
                model, report = _read_gguf(source.gguf, source.folder, **arguments)
            else:
                model, report = AutoModelForCausalLM.from_pretrained(
                    str(source.folder),
                    output_loading_info=True,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,  # so that the report names them
                    trust_remote_code=settings.trust_remote_code,
                    **arguments,
                )
    except ImportError as error:
        raise EnvironmentProblem(
            f"a package is missing: {first_line(error)}", where=settings.model, fix="install it, or choose otherwise"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise EnvironmentProblem(
                "the model does not fit into the device's memory",
                where=settings.model,
                fix="--quantisation nf4, a smaller model, or --tp-plan auto over several GPUs",
            ) from error
        raise InputError(f"the model cannot be loaded: {_reason(error)}", where=settings.model) from error
    _check_shapes(report["mismatched_keys"], settings.model)
    _check_complete(model, report, settings.model)
    if settings.tp_plan == "none":
        _note_untied(model, settings.model)
    check_finite(model, where=settings.model)
    return model


def _read_gguf(path: Path, folder: Path, **arguments: object) -> "tuple[PreTrainedModel, LoadingReport]":
    """Load the dequantised weights of a GGUF file as a plain model.

    Args:
        path: the file.
        folder: its configuration, as ``fetch.unpacked`` wrote it.
        arguments: further arguments of ``from_pretrained``, such as dtype and device.

    Returns:
        The model, which can be trained and saved like any other, and transformers' report of loading.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig

    model, report = AutoModelForCausalLM.from_pretrained(
        str(path.resolve().parent),
        gguf_file=path.name,
        config=AutoConfig.from_pretrained(str(folder)),
        # Where a kernel for packed blocks is installed the weights would stay packed.
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
        **arguments,
    )
    # The weights are dense now; a mark of quantisation that is left would keep them from being trained and saved.
    if getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer.remove_quantization_config(model)
    return model, report


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep back what transformers logs below an error."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _arguments(source: Source, settings: ModelSettings) -> dict[str, object]:
    """Arguments of ``from_pretrained``."""
    device = device_of(settings.device)
    arguments: dict[str, object] = {"dtype": dtype_of(settings.dtype, device)}
    if settings.attention != "auto":
        arguments["attn_implementation"] = settings.attention
    if settings.quantisation != "none":
        if source.gguf is not None:
            raise InputError(
                f"quantisation {settings.quantisation} cannot be put on a GGUF file, which is dequantised when loaded",
                where=settings.model,
                fix="leave --quantisation out, or give the model's safetensors files",
            )
        arguments["quantization_config"] = _quantisation(settings)
    if settings.tp_plan != "none":
        arguments["tp_plan"] = settings.tp_plan
    elif device.type != "cpu":
        arguments["device_map"] = {"": device}
    return arguments


def _quantisation(settings: ModelSettings) -> object:
    """Quantisation as a QLoRA run uses it; for nf4 the settings of its paper (double quantisation)."""
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise EnvironmentProblem(
            f"quantisation {settings.quantisation} needs bitsandbytes",
            where=settings.model,
            fix="pip install bitsandbytes",
        )
    if settings.quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype_of(settings.dtype, device_of(settings.device)),
    )


def _check_shapes(mismatched: "Iterable[tuple[str, torch.Size, torch.Size]]", where: str) -> None:
    """Check that no weight of the files has another shape than the configuration gives it.

    Raises:
        InputError: names the first one.
    """
    for key, theirs, ours in sorted(mismatched):
        raise InputError(
            f"{key} has the shape {list(theirs)} in the files, {list(ours)} by config.json",
            where=where,
            fix="give the files their own config.json; where the vocabulary was resized, its vocab_size too",
        )


def _check_complete(model: "PreTrainedModel", report: LoadingReport, where: str) -> None:
    """Hold the files' weights against the model's.

    A weight for a part that the model has (a further layer, a bias) changes the output by being left out: an error.
    One for a part that a causal language model does not have, such as a vision tower, is noted.

    Raises:
        InputError: weights are missing, or the files have more than the configuration makes use of.
    """
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if missing:
        raise InputError(
            f"the files lack {len(missing)} weights, which would be random: {', '.join(missing[:3])}",
            where=where,
            fix="check that the files are complete, that config.json is theirs (its tie_word_embeddings too), and that "
            "the model is a causal language model",
        )
    adapter = [key for key in unexpected if "lora_" in key or ".base_layer." in key]
    if adapter:
        raise InputError(
            f"the files hold a model together with an adapter that was not merged: {adapter[0]}",
            where=where,
            fix="merge it with PEFT's merge_and_unload and save again, or give base and adapter apart",
        )
    parts = {_without_layer(name) for name, _ in model.named_modules()}
    unused = [key for key in unexpected if _without_layer(key.rpartition(".")[0]) in parts]
    if unused:
        raise InputError(
            f"the files hold {len(unused)} weights that config.json's model leaves out: {', '.join(unused[:3])}",
            where=where,
            fix="give the files their own config.json: its number of layers or its biases are not those of the weights",
        )
    if unexpected:
        note(
            f"{where}: {len(unexpected)} weights that a causal language model does not have are left out: "
            f"{unexpected[0]} …"
        )


def _note_untied(model: "PreTrainedModel", where: str) -> None:
    """Note a LM head of its own beside a configuration that ties it to the embedding; other backends may tie it."""
    head = model.get_output_embeddings()
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if tied and head is not None and head.weight is not model.get_input_embeddings().weight:
        note(f"{where}: config.json ties the LM head to the embedding, the files hold another one, which is used")


def _without_layer(name: str) -> str:
    """A module's name without the numbers of layers and experts."""
    return re.sub(r"\d+", "*", name)


def check_finite(model: "torch.nn.Module", *, where: str, only: str = "") -> None:
    """Check that no floating-point weight is NaN or infinite: its logits would be, and every rank 0.

    Args:
        model: the model.
        where: its name, for the error.
        only: text that a weight's name must hold to be looked at.

    Raises:
        InputError: names the first such weight.
    """
    import torch

    for name, parameter in model.named_parameters():
        tensor = getattr(parameter, "_local_tensor", parameter).detach()  # of a tensor-parallel one the part held here
        if only not in name or not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
            continue
        if tensor.element_size() == 1:  # float8 has no minimum
            continue
        # Minimum and maximum carry NaN and need no copy of the tensor.
        if not all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor)):
            raise InputError(
                f"the weight {name} holds NaN or infinity",
                where=where,
                fix="the checkpoint is damaged or its training diverged: take an earlier one",
            )


def _reason(error: Exception) -> str:
    """The lines of a library's error that name the weights which do not load."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
