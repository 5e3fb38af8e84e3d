"""The files of a model by its name: the embedded model, a folder, a GGUF file, or a download from the Hub."""

import contextlib
import errno
import importlib.util
import os
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from tokensieve.data.hashing import cache_folder, file_digest
from tokensieve.errors import EnvironmentProblem, InputError, TokensieveError, first_line

POCKET: Final = "pocket"
"""Name of the embedded model."""

_TOKENIZER_FILES: Final = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
_WEIGHT_FILES: Final = ("*.safetensors",)
_CODE_FILES: Final = ("*.py",)
_SECOND_COPIES: Final = ("original/*", "consolidated*", "onnx/*", "*/*.safetensors", "runs/*", "*.index.fp16.json")
"""Weights in other formats that many repositories hold beside the safetensors files; not downloaded."""

GGUF_SUFFIX: Final = ".gguf"
_GGUF_MAGIC: Final = b"GGUF"

_POINTER: Final = b"version https://git-lfs.github.com/spec/"
"""First bytes of the text file that git leaves in place of a large file where Git LFS has not fetched it."""


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a model, an adapter or a tokenizer.

    Attributes:
        folder: configuration, tokenizer and, but for a GGUF file, the weights.
        revision: the commit on the Hub; None for local files.
        gguf: the file of the weights where the model is one GGUF file.
    """

    folder: Path
    revision: str | None = None
    gguf: Path | None = None


def fetch(name: str, revision: str | None = None, *, weights: bool = True, code: bool = False) -> Source:
    """Find the files of a model, downloaded where they have to be.

    Args:
        name: ``pocket``, a folder, a GGUF file, a Hub name, or ``owner/name/FILE.gguf`` on the Hub.
        revision: commit, tag or branch on the Hub; None is its main branch.
        weights: download the weights too, not the configuration and tokenizer only.
        code: download the modelling code that a repository ships.

    Returns:
        The local files, and the commit where they came from the Hub.

    Raises:
        InputError: no such file, folder or repository, no access to it, no such revision, or a file that Git LFS has
            not fetched.
        EnvironmentProblem: the Hub cannot be reached, the download broke off, the disk is full, or a package is
            missing.
    """
    if name == POCKET:
        return Source(Path(str(files("tokensieve") / POCKET)))
    path = Path(name).expanduser()
    if name.lower().endswith(GGUF_SUFFIX) and (path.is_file() or not _may_be_on_the_hub(name, 2)):
        if not path.is_file():
            raise InputError("no such file", where=name, fix="give a GGUF file that is there")
        refuse_pointer(path)
        return Source(unpacked(path), gguf=path)
    if path.is_dir():
        for pattern in (*_TOKENIZER_FILES, *(_WEIGHT_FILES if weights else ())):
            for file in sorted(path.glob(pattern)):
                refuse_pointer(file)
        return Source(path)
    if path.is_file():
        raise InputError(
            "expected a folder, this is a file",
            where=name,
            fix="give the folder that holds config.json, or a GGUF file",
        )
    if name.lower().endswith(GGUF_SUFFIX):
        return _download_gguf(name, revision)
    if not _may_be_on_the_hub(name, 1):
        raise InputError("no such folder", where=name, fix="give a folder, a Hub name (owner/name) or `pocket`")
    patterns = [*_TOKENIZER_FILES, *(_WEIGHT_FILES if weights else ()), *(_CODE_FILES if code else ())]
    return _download(name, revision, patterns)


def refuse_pointer(path: Path) -> None:
    """Check that a file is not a Git-LFS pointer, the few lines of text that stand for a large file.

    Raises:
        InputError: it is one.
    """
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if start == _POINTER:
        raise InputError(
            "this is a Git-LFS pointer, not the file that it stands for",
            where=str(path),
            fix="git lfs install && git lfs pull, in the repository that the folder was cloned from",
        )


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

    _check_gguf(path)
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


def _check_gguf(path: Path) -> None:
    """Check that a file is a GGUF file of one part and that the package that reads it is there.

    Raises:
        InputError: it is something else, or one part of several.
        EnvironmentProblem: the package gguf is not installed.
    """
    with path.open("rb") as file:
        start = file.read(len(_GGUF_MAGIC))
    if start != _GGUF_MAGIC:
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


def _may_be_on_the_hub(name: str, slashes: int) -> bool:
    return not name.startswith((".", "/", "~")) and name.count("/") <= slashes and "\\" not in name


def _download(name: str, revision: str | None, patterns: list[str]) -> Source:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=patterns, ignore_patterns=list(_SECOND_COPIES)
        )
    except Exception as error:
        raise _download_error(name, revision, error) from error
    path = Path(folder)
    return Source(path, revision=path.name)


def _download_gguf(name: str, revision: str | None) -> Source:
    from huggingface_hub import hf_hub_download

    repository, _, file = name.rpartition("/")
    if "/" not in repository:
        raise InputError("no such file", where=name, fix="give a GGUF file that is there, or owner/name/FILE.gguf")
    try:
        path = Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:
        raise _download_error(name, revision, error) from error
    return Source(unpacked(path), revision=path.parent.name, gguf=path)


def _download_error(name: str, revision: str | None, error: Exception) -> TokensieveError:
    """Our error for a download that failed; the transfer library's own errors share no public base class."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if isinstance(error, HFValidationError):
        return InputError(
            f"neither a folder nor a Hub name: {error}", where=name, fix="give a folder, owner/name or `pocket`"
        )
    if isinstance(error, HfHubHTTPError | LocalEntryNotFoundError):
        return _refusal(name, revision, error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentProblem(
            "the disk is full, so the model could not be downloaded",
            where=name,
            fix="make room, or set HF_HOME to a folder on another disk",
        )
    return EnvironmentProblem(
        f"the download broke off ({type(error).__name__}: {error})",
        where=name,
        fix="run the command again; finished files are not downloaded twice",
    )


def _refusal(name: str, revision: str | None, error: Exception) -> TokensieveError:
    """Our error for an answer of the Hub that is a refusal."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return InputError(
            "the repository is gated, and this account has no access to it",
            where=name,
            fix=f"accept its terms on the page of {name}, then `hf auth login`",
        )
    if isinstance(error, RepositoryNotFoundError):
        return InputError(
            "no such repository on the Hub, or a private one without access",
            where=name,
            fix="check the spelling; `hf auth login` where it is private; `pocket` is the embedded model",
        )
    if isinstance(error, RevisionNotFoundError):
        return InputError(f"the repository has no revision {revision!r}", where=name, fix="check --revision")
    if isinstance(error, LocalEntryNotFoundError):
        return EnvironmentProblem(
            "the files are not all in the local cache, and the Hub cannot be reached or offline mode is on",
            where=name,
            fix="connect, unset HF_HUB_OFFLINE, and run the command again; or give a local folder",
        )
    if isinstance(error, EntryNotFoundError):
        return InputError("the repository has no such file", where=name, fix="check the file's name")
    return EnvironmentProblem(
        f"the Hub answered with an error: {error}",
        where=name,
        fix="run the command again; finished files are not downloaded twice",
    )
