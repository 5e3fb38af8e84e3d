"""Arms of generation: each origin of training data that a model makes, as an object that answers for itself.

Rephrase shows the model the reference answer and asks for its own (paper section 3; the wording is ours).
A new origin is one member of ``types.Origin`` and one entry of ``ARMS``.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from tokensieve.config import GenerateSettings, SampleSettings
from tokensieve.errors import InputError
from tokensieve.tasks import Task
from tokensieve.types import Message, Origin, Problem, Sample

_FORM: Final = """\
Below are an instruction and a reference answer to it. Answer the instruction yourself: let the reference guide you to \
the right result, but put it in the words, the steps and the style that come naturally to you. Reply with your answer \
alone, in the format that the instruction asks for.

### Instruction
{prompt}

### Reference answer
{reference}

### Response
"""

_LEFTOVERS: Final = re.compile(
    r"""^\W*(sure|certainly|of\ course|okay|ok)\b[^\n]{0,80}(answer|version|response|paraphras|rephras|rewrit)
    | \bhere(\ is|'s|\ are)\ (my|the|a|an)\ (\w+\ )?(answer|response|version|solution|paraphrase|rephrased|rewritten)
    | \b(my|your)\ own\ (words|style|answer)\b
    | \b(the|this|that|given|provided)\ reference(\ (answer|solution))?\b
    | \b(rephrased|paraphrased|rewritten)\ (answer|response|version|solution)\b
    | ^\#{2,}\ *(instruction|reference|response)\b
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Arm:
    """One origin of training data.

    Attributes:
        origin: of the rows.
        line: description of the rows, in one line.
        samples: answers drawn for each prompt, unless the settings say.
        from_task: the prompts are a task's training problems; else the model writes them too (self-dialogue).
        another_model: the answers come from a model other than the one that is to be trained.
        prompt: turns that the model is shown in place of the problem's own; None shows the problem's.
        usable: False for a text that is no training data although it is correct; None takes every text.
        unread: settings of generation that the arm has no use for.
    """

    origin: Origin
    line: str
    samples: int
    from_task: bool = True
    another_model: bool = False
    prompt: Callable[[Task, Problem], tuple[Message, ...]] | None = None
    usable: Callable[[str], bool] | None = None
    unread: tuple[str, ...] = ("dialogue",)

    def shown(self, task: Task, problems: list[Problem]) -> list[Problem]:
        """The problems with the prompts that the model is shown."""
        if self.prompt is None:
            return problems
        return [replace(problem, prompt=self.prompt(task, problem)) for problem in problems]

    def fit(self, samples: list[Sample]) -> list[Sample]:
        """The samples whose text is training data."""
        return samples if self.usable is None else [sample for sample in samples if self.usable(sample.text)]


def rephrase_prompt(task: Task, problem: Problem) -> tuple[Message, ...]:
    """The turns that ask for the model's own wording: the problem's, the last one with the reference put to it.

    The task's own form is used where it has one.

    Raises:
        InputError: the problem's last turn is not text.
    """
    last = problem.prompt[-1]
    form = task.rephrase or _in_form
    asked: Message = {**last, "content": form(problem, problem.gold)}
    return (*problem.prompt[:-1], asked)


def is_leftover(text: str) -> bool:
    """True for an answer that talks about the request to rephrase ("Here is my answer"): no training data."""
    return _LEFTOVERS.search(text) is not None


ARMS: Final[dict[str, Arm]] = {
    "self-output": Arm(Origin.SELF_OUTPUT, "the model's own correct answer of lowest perplexity among 32", samples=32),
    "rephrase": Arm(
        Origin.REPHRASE,
        "the reference in the model's own words, checked again; one answer a prompt, as in the paper",
        samples=1,
        prompt=rephrase_prompt,
        usable=lambda text: not is_leftover(text),
    ),
    "larger-model": Arm(
        Origin.LARGER_MODEL, "another model's correct answer, among 32", samples=32, another_model=True
    ),
    "self-dialogue": Arm(
        Origin.SELF_DIALOGUE,
        "prompt and answer both from the model itself: rehearsal without data; takes no task",
        samples=1,
        from_task=False,
        unread=("choose", "perplexity", "none_correct", "stop_at", "correct_share"),
    ),
}
"""Every arm by the name that the command line takes."""


def arm_of(settings: GenerateSettings) -> Arm:
    """The arm that the settings name, after a check that it reads all that they say.

    Raises:
        InputError: no such arm, or a setting that it does not read.
    """
    if settings.arm not in ARMS:
        raise InputError(f"no arm {settings.arm!r}", where="generate.arm", fix=f"one of: {', '.join(ARMS)}")
    arm, default = ARMS[settings.arm], GenerateSettings()
    given = [name for name in arm.unread if getattr(settings, name) != getattr(default, name)]
    if arm.samples == 1 and not arm.from_task and settings.sampling.n not in (None, 1):
        given.append("sampling.n")
    if settings.perplexity != default.perplexity and settings.choose != "lowest-perplexity" and arm.from_task:
        raise InputError(
            f"{settings.perplexity} perplexity is not read where the {settings.choose} answer is chosen",
            where="generate.perplexity",
            fix="--choose lowest-perplexity",
        )
    if given:
        raise InputError(
            f"the arm {settings.arm} does not read {', '.join(given)}",
            where=f"generate.{given[0]}",
            fix=f"leave {'it' if len(given) == 1 else 'them'} out",
        )
    return arm


def name_of_origin(origin: Origin, where: str | None = None) -> str:
    """The name of the arm whose rows have this origin.

    Args:
        origin: of the rows.
        where: place that named the origin, for the message.

    Raises:
        InputError: nothing generates rows of it from a task.
    """
    names = {arm.origin: name for name, arm in ARMS.items() if arm.from_task}
    if origin not in names:
        known = ", ".join(o.value for o in (Origin.GROUND_TRUTH, *names))
        raise InputError(f"no arm of a study trains on {origin.value}", where=where, fix=f"data: {known}")
    return names[origin]


def sampling_of(settings: GenerateSettings) -> SampleSettings:
    """The sampling rule of a generation, with the arm's own number of answers where the settings leave it open.

    Raises:
        InputError: several greedy answers to a prompt, which would all be the same.
    """
    n = settings.sampling.n or arm_of(settings).samples
    if n > 1 and settings.sampling.temperature == 0:
        raise InputError(
            f"{n} greedy answers to a prompt are {n} times the same",
            where="generate.sampling",
            fix="--sampling.temperature 0.7, or --sampling.n 1",
        )
    return SampleSettings.model_validate({**settings.sampling.model_dump(), "n": n})


def arm_lines() -> Iterator[tuple[str, str]]:
    """Name and description of every arm, for help texts."""
    return ((name, arm.line) for name, arm in ARMS.items())


def _in_form(problem: Problem, reference: str) -> str:
    prompt = problem.prompt[-1]["content"]
    if not isinstance(prompt, str):
        raise InputError("only a user's turn of text can be rephrased", where=f"problem {problem.id}")
    return _FORM.format(prompt=prompt, reference=reference)
