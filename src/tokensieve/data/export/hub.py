"""An exported folder as a data set on the Hub; its README is the card."""

import os
from pathlib import Path

from tokensieve.data.manifest import read_manifest
from tokensieve.errors import EnvironmentProblem, InputError


def push_to_hub(folder: Path, repo: str, *, private: bool = True, token: str | None = None) -> str:
    """Upload an exported folder, whole, in one commit.

    Args:
        folder: the export; its README states model, scorer, policy and the share left out.
        repo: ``owner/name``; made where there is none.
        private: whether a repository that is made is private.
        token: access token; None is the one that ``hf auth login`` has stored.

    Returns:
        The address of the commit.

    Raises:
        InputError: not an export, or the name is not one of a repository.
        EnvironmentProblem: the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    manifest = read_manifest(folder)
    if manifest.stage != "exported":
        raise InputError(f"expected an export, got the folder of the stage {manifest.stage!r}", where=str(folder))
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    try:
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=folder,
            commit_message=f"Training set for {manifest.settings['to']}: {manifest.facts.get('policy', '')}",
        )
    except HFValidationError as error:
        raise InputError(f"not a repository's name: {error}", where=repo, fix="owner/name") from None
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        first = str(error).strip().splitlines()[0]
        raise EnvironmentProblem(
            f"the Hub refuses: {first}", where=repo, fix="hf auth login, with a token that may write to it"
        ) from None
    except OSError as error:
        raise EnvironmentProblem(f"the Hub cannot be reached: {error}", where=repo, fix="check the network") from None
    return str(commit.commit_url)
