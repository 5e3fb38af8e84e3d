"""Models in one GGUF file: configuration and tokenizer unpacked once, weights dequantised at every load."""

import contextlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

from tokensieve.data.hashing import cache_folder, file_digest
from tokensieve.errors import EnvironmentProblem, InputError, first_line

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class LoadingReport(TypedDict):
    """Transformers' report of loading weights; mismatched ones with the files' shape and the model's."""

    missing_keys: set[str]
    unexpected_keys: set[str]
    mismatched_keys: "set[tuple[str, torch.Size, torch.Size]]"


SUFFIX: Final = ".gguf"
_MAGIC: Final = b"GGUF"


def unpacked(path: Path) -> Path:
    """Write the configuration and tokenizer of a GGUF file as a folder that transformers loads.

    Reading them from the file takes seconds, so the folder is kept in the user's cache, under the file's digest and the
    version of transformers.

    Args:
        path: the file.

    Returns:
        The folder, with ``config.json`` and, where the file holds a tokenizer that transformers knows, the tokenizer.

    Raises:
        InputError: not a GGUF file, a damaged one, one of several parts, or a model that transformers cannot read.
        EnvironmentProblem: the package gguf is not installed.
    """
    import transformers

    check_readable(path)
    folder = cache_folder() / "gguf" / f"{file_digest(path)[:32]}-{transformers.__version__}"
    if (folder / "config.json").is_file():
        return folder
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    place = {"pretrained_model_name_or_path": str(path.resolve().parent), "gguf_file": path.name}
    try:
        config = transformers.AutoConfig.from_pretrained(**place)
        config.save_pretrained(str(part))
    except Exception as error:  # whatever the parser meets in a damaged file
        raise InputError(f"the file cannot be read: {first_line(error)}", where=str(path)) from error
    # Where the file has no usable tokenizer, --tokenizer names one, or its absence is said when it is loaded.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, NotImplementedError):
        transformers.AutoTokenizer.from_pretrained(**place).save_pretrained(str(part))
    try:
        part.replace(folder)
    except OSError:  # another process was first
        shutil.rmtree(part, ignore_errors=True)
    return folder


def check_readable(path: Path) -> None:
    """Check that a file is a GGUF file of one part and that the package that reads it is there.

    Raises:
        InputError: it is something else, or one part of several.
        EnvironmentProblem: the package gguf is not installed.
    """
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if start != _MAGIC:
        raise InputError("this is no GGUF file: it does not start with GGUF", where=str(path))
    if "-of-" in path.stem and not path.stem.endswith("-00001-of-00001"):
        raise InputError(
            "this is one part of a GGUF file, and transformers reads whole files only",
            where=str(path),
            fix="join the parts with llama.cpp's `llama-gguf-split --merge`",
        )
    if importlib.util.find_spec("gguf") is None:
        raise EnvironmentProblem(
            "reading GGUF files needs the package gguf", where=str(path), fix="pip install 'tokensieve[gguf]'"
        )


def read_weights(path: Path, folder: Path, **arguments: object) -> "tuple[PreTrainedModel, LoadingReport]":
    """Load the dequantised weights of a GGUF file as a plain model.

    Args:
        path: the file.
        folder: its configuration, as ``unpacked`` wrote it.
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
