"""Record of a run, as its folder and its report hold it: recipe, commit, digests, versions, workers."""

from pydantic import BaseModel, ConfigDict

_STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Checkout(BaseModel):
    """The git checkout that a recipe lies in."""

    model_config = _STRICT

    commit: str
    """The commit that is checked out, 40 hex digits."""
    changed: bool
    """True where files of the checkout differ from the commit."""


class RunRecord(BaseModel):
    """Recipe, commit, digests and versions of a run; written by every start that makes a step."""

    model_config = _STRICT

    recipe: str
    """Name of the shipped recipe, or of the file without its folder."""
    settings_digest: str
    """Digest of the study's settings."""
    inputs: dict[str, str]
    """Digest of the base model, and of each set of problems that is trained on or evaluated."""
    checkout: Checkout | None = None
    """Commit of the git checkout whose file the recipe is; None where it is no such file."""
    versions: dict[str, str]
    """Packages and Python."""
    workers: int
    """Processes among which the steps were shared out."""
    threads: int
    """Threads of each; with another number a float's last digits differ."""
    started_at: str
    """ISO 8601, UTC."""
