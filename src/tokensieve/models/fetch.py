"""From a model's name to a local folder: the embedded model, a path, or a download from the Hub."""

import errno
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from tokensieve.errors import EnvironmentProblem, InputError, TokensieveError

POCKET: Final = "pocket"
"""Name of the embedded model."""

_TOKENIZER_FILES: Final = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
_WEIGHT_FILES: Final = ("*.safetensors",)
_CODE_FILES: Final = ("*.py",)
_NOT_WANTED: Final = ("original/*", "consolidated*", "onnx/*", "*/*.safetensors", "runs/*", "*.index.fp16.json")
"""Second copies of the weights that many repositories hold in other formats."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model's or tokenizer's files.

    Attributes:
        folder: where they lie.
        revision: the commit on the Hub; None for a local folder.
    """

    folder: Path
    revision: str | None = None


def fetch(name: str, revision: str | None = None, *, weights: bool = True, code: bool = False) -> Source:
    """The local folder of a model, downloaded where it has to be.

    Args:
        name: ``pocket``, a folder, or a Hub name.
        revision: commit, tag or branch on the Hub; None is its main branch.
        weights: whether the weights are wanted, or the configuration and tokenizer only.
        code: whether the modelling code that a repository ships is wanted.

    Returns:
        The folder, and the commit where it came from the Hub.

    Raises:
        InputError: no such folder or repository, no access to it, or no such revision.
        EnvironmentProblem: the Hub cannot be reached, the download broke off, or the disk is full.
    """
    if name == POCKET:
        return Source(Path(str(files("tokensieve") / POCKET)))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Source(folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise InputError("no such folder", where=name, fix="give a folder, a Hub name (owner/name) or `pocket`")
    patterns = [*_TOKENIZER_FILES, *(_WEIGHT_FILES if weights else ()), *(_CODE_FILES if code else ())]
    return _download(name, revision, patterns)


def _download(name: str, revision: str | None, patterns: list[str]) -> Source:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=list(_NOT_WANTED))
    except HFValidationError as error:
        raise InputError(
            f"neither a folder nor a Hub name: {error}", where=name, fix="give a folder, owner/name or `pocket`"
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise _explained(name, revision, error) from None
    except Exception as error:
        # The transfer library's own errors share no base class that is public; all that is left at this point
        # is a connection that broke off, or a disk that refused.
        raise _broken_off(name, error) from error
    path = Path(folder)
    return Source(path, revision=path.name)


def _explained(name: str, revision: str | None, error: Exception) -> TokensieveError:
    """What a refusal of the Hub means for the user."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

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
    if isinstance(error, HfHubHTTPError):
        return EnvironmentProblem(
            f"the Hub answered with an error: {error}",
            where=name,
            fix="run the command again; finished files are not downloaded twice",
        )
    return EnvironmentProblem(
        "the files are not all in the local cache, and the Hub cannot be reached or offline mode is on",
        where=name,
        fix="connect, unset HF_HUB_OFFLINE, and run the command again; or give a local folder",
    )


def _broken_off(name: str, error: Exception) -> EnvironmentProblem:
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
