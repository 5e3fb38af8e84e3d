"""The command line: one command a stage, with the verbs of the modules.

Exit codes: 0 done, 1 a check or gate failed, 2 the user's mistake, 3 the environment, 130 interrupted.
"""

import errno
import os
import sys
import warnings
from collections.abc import Sequence

import cyclopts
from pydantic import BaseModel, ValidationError

from tokensieve.errors import TokensieveError, class_at, in_words

_USERS_MISTAKE = 2
_ENVIRONMENT = 3
_INTERRUPTED = 130
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of a disk that is full or refuses."""
_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
"""Errors of a path."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a console script passes it on to the shell.

    Args:
        arguments: words after the program's name; None takes them from the process.
    """
    from tokensieve.cli.console import show_warning

    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        return _run(sys.argv[1:] if arguments is None else list(arguments))


def _run(words: list[str]) -> int:
    from tokensieve.cli.app import make_app
    from tokensieve.cli.console import err

    try:
        result = make_app()(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except cyclopts.CycloptsError as error:
        err.print(f"error: {_in_words(error)}", style="red")
        err.print("tokensieve --help lists the commands, tokensieve COMMAND --help their options", style="dim")
        return _USERS_MISTAKE
    except TokensieveError as error:
        err.print(f"error: {error}", style="red")
        return error.exit_code
    except KeyboardInterrupt:
        err.print("interrupted; the same command goes on where it stopped", style="yellow")
        return _INTERRUPTED
    except BrokenPipeError:  # the reader went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _DISK and error.errno not in _PATH:
            raise
        err.print(f"error: {error.filename or 'the disk'}: {error.strerror}", style="red")
        if error.errno in _PATH:
            err.print("  fix: a part of this path is a file or is missing; choose another")
            return _USERS_MISTAKE
        err.print("  fix: make room or choose another folder; the same command goes on where it stopped")
        return _ENVIRONMENT


def _in_words(error: cyclopts.CycloptsError) -> str:
    """The error of an option in words; one of settings by the option's own name."""
    from tokensieve.cli.console import option_of

    if isinstance(error, cyclopts.UnusedCliTokensError):
        return f"expected no such words here: {' '.join(error.unused_tokens or ())}"
    if not isinstance(error.__cause__, ValidationError):
        return str(error)
    complaint = error.__cause__.errors()[0]
    holder = error.argument.name if isinstance(error, cyclopts.ValidationError) and error.argument else "*"
    option = option_of(holder, complaint["loc"])
    if complaint["type"] not in ("dict_type", "model_type"):
        whole = option == "--"  # of settings whose fields are options, not one of them but what they are together
        return in_words(complaint) if whole else f"{option}: {in_words(complaint)}"
    got = str(complaint["input"])
    expected = f"{option}: expected {option}.NAME VALUE, got {option} {got}"
    name, equals, value = got.partition("=")
    if complaint["type"] == "dict_type":
        return f"{expected}\n  fix: {option}.{name} {value}" if equals and name and value else expected
    settings = class_at(error.argument.hint, complaint["loc"]) if error.argument else BaseModel
    if name in settings.model_fields and value:
        return f"{expected}\n  fix: {option_of(option, (name,))} {value}"
    return f"{expected}; its names: {', '.join(option_of(option, (field,)) for field in settings.model_fields)}"
