"""The table of commands: each is a plain function, named after the stage that it runs."""

from collections.abc import Callable, Iterable
from typing import Final

import cyclopts
from cyclopts import Parameter

from tokensieve import __version__
from tokensieve.cli import (
    card_command,
    data_commands,
    inspect_command,
    model_commands,
    study_commands,
    tool_commands,
)
from tokensieve.generation.arms import arm_lines
from tokensieve.selection import policy_lines

COMMANDS: Final[tuple[Callable[..., int], ...]] = (
    study_commands.run,
    data_commands.score,
    data_commands.select,
    inspect_command.inspect,
    data_commands.show,
    data_commands.export,
    data_commands.verify_export,
    model_commands.generate,
    model_commands.calibrate,
    model_commands.anchors,
    model_commands.train,
    model_commands.evaluate,
    tool_commands.compare,
    model_commands.drift,
    model_commands.repair,
    study_commands.report,
    card_command.card,
    tool_commands.check,
    data_commands.compare_backends,
    tool_commands.doctor,
)
STORE_COMMANDS: Final[dict[str, Callable[..., int]]] = {
    "list": tool_commands.store_list,
    "size": tool_commands.store_size,
    "prune": tool_commands.store_prune,
}


def make_app() -> cyclopts.App:
    """The command line; help lists the commands in the order in which a newcomer meets them."""
    app = cyclopts.App(
        name="tokensieve",
        help="Fine-tune a language model without making it forget.",
        version=__version__,
        default_parameter=Parameter(consume_multiple=True, negative_iterable=()),
        suppress_keyboard_interrupt=False,  # main says that the same command goes on
    )
    for place, command in enumerate(COMMANDS):
        epilogue = _EPILOGUES[command]() if command in _EPILOGUES else None
        app.command(command, sort_key=place, help_epilogue=epilogue)
    store = cyclopts.App(name="store", help="Look into the score store, and prune it.", sort_key=len(COMMANDS))
    for name, command in STORE_COMMANDS.items():
        store.command(command, name=name)
    app.command(store)
    return app


def _listed(title: str, entries: Iterable[tuple[str, str]]) -> str:
    """Names with a line each, for the help of the command that takes one of them."""
    return "\n".join([f"{title}:", "", *(f"- {name}: {line}" for name, line in entries)])


_EPILOGUES: Final[dict[Callable[..., int], Callable[[], str]]] = {
    data_commands.select: lambda: _listed("Policies", policy_lines()),
    model_commands.generate: lambda: _listed("Arms", arm_lines()),
}
