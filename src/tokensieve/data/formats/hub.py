"""A data set on the Hub, held to one commit and streamed, so that a limit fetches only what it needs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tokensieve.data.formats.fields import Record
from tokensieve.errors import EnvironmentProblem, InputError, TokensieveError

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubName:
    """A data set's name: ``owner/name``, then ``:config`` and ``@revision`` where they are given.

    Attributes:
        repo: the repository.
        config: one of several data sets that it holds; None is its default.
        revision: commit, tag or branch; None is its main branch.
    """

    repo: str
    config: str | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubName":
        """The name's parts; whether there is such a data set is found out by asking for it."""
        name, _, revision = text.partition("@")
        repo, _, config = name.partition(":")
        return cls(repo, config or None, revision or None)

    def __str__(self) -> str:
        config = f":{self.config}" if self.config else ""
        return f"{self.repo}{config}{f'@{self.revision}' if self.revision else ''}"


def resolved(name: HubName) -> HubName:
    """The name with the commit that its revision means now, so that all passes over it read the same rows.

    Raises:
        InputError: no such data set or revision, or no access to it.
        EnvironmentProblem: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    if name.revision is not None and _COMMIT.fullmatch(name.revision):
        return name
    try:
        return replace(name, revision=HfApi().dataset_info(name.repo, revision=name.revision).sha)
    except HFValidationError:
        raise InputError(
            "no such file or folder, nor a name that the Hub could have", where=str(name), fix="owner/name, or a path"
        ) from None
    except Exception as error:
        # The transfer library's own errors, which differ by its release, share no base class that is public.
        raise _explained(name, error) from error


def stream(name: HubName, split: str) -> Iterator[Record]:
    """The rows of one split, in the repository's order, fetched as they are read.

    Raises:
        InputError: no such data set, configuration or split, no access to it, or damaged files.
        EnvironmentProblem: the Hub cannot be reached, or the transfer broke off.
    """
    yield from _rows(resolved(name), split, streaming=True)


def download(name: HubName, split: str) -> tuple[HubName, Iterator[Record]]:
    """The rows of one split, kept in the cache of the datasets library; without the Hub, the copy that lies there.

    Returns:
        The name with the commit of the rows, and the rows.

    Raises:
        InputError: as in ``stream``.
        EnvironmentProblem: as in ``stream``, and the cache has no copy.
    """
    import datasets

    try:
        name = resolved(name)
    except EnvironmentProblem as unreachable:
        try:
            copy = datasets.load_dataset(name.repo, name.config, split=split)
        except (OSError, ValueError, datasets.exceptions.DatasetsError):
            raise unreachable from None
        return replace(name, revision=_commit_of(copy.cache_files)), iter(copy)
    return name, _rows(name, split, streaming=False)


def _commit_of(files: Sequence[Mapping[str, str]]) -> str | None:
    """The commit that names the folder of a copy in the cache; None where none does."""
    parts = (part for file in files for part in Path(file["filename"]).parts)
    return next((part for part in parts if _COMMIT.fullmatch(part)), None)


def _rows(name: HubName, split: str, *, streaming: bool) -> Iterator[Record]:
    import datasets

    rows = 0
    try:
        for record in datasets.load_dataset(
            name.repo, name.config, split=split, streaming=streaming, revision=name.revision
        ):
            yield record
            rows += 1
    except datasets.exceptions.DatasetNotFoundError:  # the repository is there, so its files are what is withheld
        raise _gated(name) from None
    except (datasets.exceptions.DatasetsError, FileNotFoundError, KeyError, RuntimeError, ValueError) as error:
        raise InputError(
            f"the data set cannot be read{_after(rows)}: {_short(error)}", where=str(name), fix=_fix_of(error)
        ) from None
    except Exception as error:  # what is left is the transfer's, as in ``resolved``
        if not rows:
            raise _explained(name, error) from error
        raise EnvironmentProblem(
            f"the transfer broke off{_after(rows)}: {_short(error)}", where=str(name), fix="run the command again"
        ) from error


def _explained(name: HubName, error: Exception) -> TokensieveError:
    """The error for the user that a refusal of the Hub stands for."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return _gated(name)
    if isinstance(error, RevisionNotFoundError):
        return InputError(f"the data set has no revision {name.revision!r}", where=str(name))
    if isinstance(error, RepositoryNotFoundError):
        return InputError(
            "no such file or folder, and no such data set on the Hub, or a private one without access",
            where=str(name),
            fix="check the spelling; `hf auth login` where it is private",
        )
    return EnvironmentProblem(
        f"not a file here, and the Hub did not deliver it: {_short(error)}",
        where=str(name),
        fix="check the network, unset HF_HUB_OFFLINE, and run the command again; or give a local file",
    )


def _gated(name: HubName) -> InputError:
    return InputError(
        "the data set is gated, and this account has no access to it",
        where=str(name),
        fix=f"accept its terms on the page of {name.repo}, then `hf auth login`",
    )


def _fix_of(error: Exception) -> str | None:
    """The option that mends what the datasets library refuses; None where there is none."""
    text = str(error)
    if "split" in text:
        return "--split NAME"
    return "owner/name:CONFIG" if "onfig" in text else None


def _after(rows: int) -> str:
    return f" after row {rows:,}" if rows else ""


def _short(error: Exception) -> str:
    """The error's text in one line of at most 200 characters; its class where it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__
