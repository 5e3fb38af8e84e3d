"""The table of commands: each is a plain function, named after the stage that it runs."""

from collections.abc import Callable
from typing import Final

import cyclopts
from cyclopts import Parameter

from tokensieve import __version__
from tokensieve.cli import _data_commands, _model_commands, _study_commands, _tool_commands

COMMANDS: Final[tuple[Callable[..., int], ...]] = (
    _study_commands.run,
    _data_commands.score,
    _data_commands.select,
    _data_commands.show,
    _data_commands.export,
    _data_commands.verify_export,
    _model_commands.generate,
    _model_commands.train,
    _model_commands.evaluate,
    _model_commands.compare,
    _study_commands.report,
    _tool_commands.check,
    _data_commands.compare_backends,
    _tool_commands.doctor,
)
STORE_COMMANDS: Final[dict[str, Callable[..., int]]] = {
    "list": _tool_commands.store_list,
    "size": _tool_commands.store_size,
    "prune": _tool_commands.store_prune,
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
        app.command(command, sort_key=place)
    store = cyclopts.App(name="store", help="Look into the score store, and prune it.", sort_key=len(COMMANDS))
    for name, command in STORE_COMMANDS.items():
        store.command(command, name=name)
    app.command(store)
    return app
