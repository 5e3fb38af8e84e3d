"""Shared pieces of the settings classes, and the settings of a model."""

import json
from collections.abc import Hashable, Mapping
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias, TypeVar, cast

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from tokensieve.errors import InputError, in_words
from tokensieve.types import JSON

Settings = TypeVar("Settings", bound=BaseModel)


STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
"""Configuration of every settings class: frozen, no unknown keys, docstrings as descriptions."""


def _ascending(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """See ``ASCENDING``."""
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise ValueError(f"expected ascending numbers, got {', '.join(f'{number:g}' for number in numbers)}")
    return numbers


def _once(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """See ``ONCE``."""
    if len({*numbers}) < len(numbers):
        raise ValueError(f"expected each number once, got {', '.join(f'{number:g}' for number in numbers)}")
    return numbers


ASCENDING = AfterValidator(_ascending)
"""Validator of numbers that are tried one after the other, each larger than the one before."""
ONCE = AfterValidator(_once)
"""Validator of numbers by which results are kept and shown, so that a second one would hide the first."""


Rates: TypeAlias = Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], ONCE]
"""Peak learning rates, each once."""


class _EachKeyOnce(yaml.SafeLoader):
    """PyYAML's safe loader, which takes the last of two equal keys of a mapping in silence; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        """See PyYAML."""
        seen = set[tuple[str, object]]()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                problem = f"the key {key.value!r} stands twice in one mapping"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> object:
    """YAML as Python values.

    Raises:
        yaml.YAMLError: it does not parse, or a key stands twice in a mapping (both with their line).
    """
    return cast("object", yaml.load(text, Loader=_EachKeyOnce))  # noqa: S506 - a safe loader


def as_settings(kind: type[Settings], given: object, where: str) -> Settings:
    """Settings as they are, or from a dict of their fields; None gives the defaults.

    Args:
        kind: the settings class.
        given: what a caller passed.
        where: name of the argument, for the message.

    Raises:
        InputError: it is something else, or a field's name or value is not right.
    """
    if isinstance(given, kind):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise InputError(
            f"expected {kind.__name__} or a dict, got {type(given).__name__}", where=where, fix=f"{kind.__name__}(…)"
        )
    try:
        return kind.model_validate(dict(given or {}))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (where, *first["loc"])))
        raise InputError(in_words(first), where=place) from None


TemplateArgument: TypeAlias = int | float | bool | str | list[JSON] | dict[str, JSON] | None
"""A JSON value, spelt out because the command line reads no recursive type."""


class ModelSettings(BaseModel):
    """A model, its dtype and its device."""

    model_config = STRICT

    model: str = "pocket"
    """A Hub name, a local folder, or `pocket`, the embedded model."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""
    adapter: str | None = None
    """A PEFT adapter that is put on the model: a folder or a Hub name."""
    tokenizer: str | None = None
    """A tokenizer other than the model's own: a Hub name or a folder."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """dtype of the backbone; auto is bfloat16 on a GPU and float32 on a CPU."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] = "auto"
    """Attention kernel, by its name in transformers."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Score by torch.compile's decoder layers; auto does so on CUDA. Scores change by float rounding at most."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    quantisation: Literal["none", "int8", "nf4"] = "none"
    """Weights as a QLoRA run will train them."""
    tp_plan: Literal["none", "auto"] = "none"
    """auto spreads one model over the GPUs of a torchrun launch."""
    trust_remote_code: bool = False
    """Run the modelling code that a Hub repository ships. Only for repositories that you have read."""
    template_kwargs: dict[str, TemplateArgument] = Field(default_factory=dict)
    """The chat template's arguments, such as {"enable_thinking": false}; as an option --template-kwargs.enable_thinking
    false. JSON in text counts as its value."""

    @field_validator("template_kwargs")
    @classmethod
    def _json_in_text(cls, given: dict[str, TemplateArgument]) -> dict[str, TemplateArgument]:
        """Arguments as the template must see them: ``--template-kwargs.enable_thinking false`` comes as text."""
        return {name: _value_of(argument) for name, argument in given.items()}


def _value_of(argument: TemplateArgument) -> TemplateArgument:
    """The JSON value that a text holds, the text itself where it holds none."""
    if not isinstance(argument, str):
        return argument
    try:
        return cast("TemplateArgument", json.loads(argument, parse_constant=str))
    except (ValueError, RecursionError):
        return argument
