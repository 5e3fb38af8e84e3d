"""The table of commands: each is a plain function, named after the stage that it runs."""

from collections.abc import Callable
from typing import Final

import cyclopts
from cyclopts import Parameter

from tokensieve import __version__
from tokensieve.cli import compare_command, data_commands, model_commands, study_commands, tool_commands
from tokensieve.selection import policy_lines

COMMANDS: Final[tuple[Callable[..., int], ...]] = (
    study_commands.run,
    data_commands.score,
    data_commands.select,
    data_commands.show,
    data_commands.export,
    data_commands.verify_export,
    model_commands.generate,
    model_commands.anchors,
    model_commands.train,
    model_commands.evaluate,
    compare_command.compare,
    model_commands.drift,
    model_commands.repair,
    study_commands.report,
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
        default_parameter=Parameter(consume_multiple=True),
        suppress_keyboard_interrupt=False,  # main says that the same command goes on
    )
    for place, command in enumerate(COMMANDS):
        epilogue = _policies() if command is data_commands.select else None
        app.command(command, sort_key=place, help_epilogue=epilogue)
    store = cyclopts.App(name="store", help="Look into the score store, and prune it.", sort_key=len(COMMANDS))
    for name, command in STORE_COMMANDS.items():
        store.command(command, name=name)
    app.command(store)
    return app


def _policies() -> str:
    """The policies as a list, for the help of the command that takes one."""
    lines = [f"- {usage}: {line}" for usage, line in policy_lines()]
    return "\n".join(["Policies:", "", *lines])
