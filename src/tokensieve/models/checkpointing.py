"""Gradient checkpointing by the names that the installed release of transformers knows."""

from dataclasses import fields


def checkpointing_arguments(on: bool) -> dict[str, bool]:
    """Arguments that turn gradient checkpointing on or off, under every name that the release knows.

    Up to 5.17 that is ``gradient_checkpointing`` only. Later ones have ``activation_checkpointing`` and keep the old
    name as an alias, which TRL's defaults set, so that both have to be given.
    """
    from transformers import TrainingArguments

    known = {field.name for field in fields(TrainingArguments)}
    return {name: on for name in ("gradient_checkpointing", "activation_checkpointing") if name in known}
