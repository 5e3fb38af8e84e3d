"""Every command that may run a model's code takes the flag that the sandbox's refusal names."""

import inspect

import pytest

from tokensieve.cli import console, model_commands, study_commands, tool_commands
from tokensieve.sandbox import pool

COMMANDS = (tool_commands.check, model_commands.generate, model_commands.evaluate, study_commands.run)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_the_flag_is_there_and_off(command: object) -> None:
    assert callable(command)
    assert inspect.signature(command).parameters["allow_weak_sandbox"].default is False


def test_the_flag_reaches_the_sandbox() -> None:
    before = pool.pool()
    pool.use(pool.Pool())
    try:
        console.take_weak_sandbox(False)
        assert not pool.pool().weak_allowed
        console.take_weak_sandbox(True)
        assert pool.pool().weak_allowed
    finally:
        pool.use(before)
