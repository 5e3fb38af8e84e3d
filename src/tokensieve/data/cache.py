"""Where this project keeps what can be made again: scores and digests of large files."""

import os
from pathlib import Path

ENVIRONMENT_VARIABLE = "TOKENSIEVE_CACHE"


def cache_folder() -> Path:
    """The user's cache: ``$TOKENSIEVE_CACHE``, else ``$XDG_CACHE_HOME/tokensieve``, else ``~/.cache/tokensieve``."""
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(named).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser() / "tokensieve"
    return Path("~/.cache/tokensieve").expanduser()
