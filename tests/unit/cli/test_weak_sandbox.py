"""Every command that may run a model's code takes the flag that the sandbox's refusal names."""

import inspect

import pytest

from tokensieve.cli import _check, _model_commands, _study_commands, _tool_commands
from tokensieve.tasks._sandbox import _pool

COMMANDS = (_tool_commands.check, _model_commands.generate, _model_commands.evaluate, _study_commands.run)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_the_flag_is_there_and_off(command: object) -> None:
    assert callable(command)
    assert inspect.signature(command).parameters["allow_weak_sandbox"].default is False


def test_the_flag_reaches_the_sandbox() -> None:
    before = _pool.pool()
    _pool.use(_pool.Pool())
    try:
        _check.take_weak_sandbox(False)
        assert not _pool.pool().weak_allowed
        _check.take_weak_sandbox(True)
        assert _pool.pool().weak_allowed
    finally:
        _pool.use(before)
