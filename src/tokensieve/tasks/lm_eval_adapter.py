"""Adapter to lm-evaluation-harness: find a task, put its problems into messages, judge by its metrics.

The only module that imports ``lm_eval``, at use; what it relies on is held by tests/contract/test_harness.py.
"""

import difflib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.tasks.task import Continuation
from tokensieve.types import Message

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import ConfigurableTask

Doc: TypeAlias = Mapping[str, object]
"""A row of the harness's task."""

INSTALL: Final = 'pip install "tokensieve[lm-eval]"'

_FEWSHOT_SEED: Final = 1234
"""The harness's own default, so that its few-shot examples are drawn here too."""

_DEFAULT_TOKENS: Final = 256
"""Longest answer of a task that sets no ``max_gen_toks``, as in the harness."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One problem as the harness puts it.

    Attributes:
        prompt: the turns before the answer.
        choices: what the model chooses among; empty where it writes an answer.
        until: texts that end a written answer.
    """

    prompt: tuple[Message, ...]
    choices: tuple[Continuation, ...] = ()
    until: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A task of the harness that is no group.

    Attributes:
        name: its name there.
        task: the harness's object.
        lock: the harness does not say that its tasks may be used by several threads.
        made: rows that were asked for so far, as they were put.
    """

    name: str
    task: "ConfigurableTask"
    lock: threading.Lock = field(default_factory=threading.Lock)
    made: list[Asked] = field(default_factory=list)

    @property
    def by_likelihood(self) -> bool:
        """True where the likeliest of given texts is the answer; False where the model writes one."""
        return bool(self.task.OUTPUT_TYPE != "generate_until")

    @property
    def max_new_tokens(self) -> int:
        """Longest answer in tokens."""
        return int((self.task.config.generation_kwargs or {}).get("max_gen_toks", _DEFAULT_TOKENS))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of its metrics; the first is the one that it is known by."""
        return tuple(self.task.aggregation())

    def higher_is_better(self, metric: str) -> bool:
        """True for a metric of which more is better."""
        return bool(self.task.higher_is_better()[metric])

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the ways in which an answer is found in a text."""
        return tuple(ensemble.name for ensemble in self.task._filters)

    def doc(self, number: int) -> Doc:
        """A row by its number."""
        found: Doc = self.task.task_docs[number]
        return found

    def asked(self) -> Iterator[tuple[int, Doc, Asked]]:
        """The rows in their order, each with its number and as the model is asked.

        Raises:
            InputError: the harness begins the answer itself, or its requests are of a kind that has no place here.
        """
        for number, doc in enumerate(self.task.task_docs):
            with self.lock:
                # Few-shot examples are drawn row by row from one seed: each row is put once, and in order.
                if number == 0 and not self.made:
                    self.task.set_fewshot_seed(_FEWSHOT_SEED)
                if number == len(self.made):
                    self.made.append(self._asked(number, doc))
            yield number, doc, self.made[number]

    def gold(self, doc: Doc) -> str:
        """The reference answer as text; empty where the task has none."""
        target = self.task.doc_to_target(doc)
        choices = self.task.doc_to_choice(doc) if self.task.config.doc_to_choice is not None else None
        if self.task.multiple_input:  # the choices lie in the prompts, and the "text" says which
            target = self.task.doc_to_text(doc)
        if isinstance(target, list):
            target = target[0] if target else ""
        if isinstance(target, int):
            return str(choices[target]) if choices is not None else ""
        return str(target)

    def found(self, doc: Doc, text: str, filter_name: str) -> object:
        """Result of a filter on an answer: mostly a text."""
        from lm_eval.api.instance import Instance

        instance = Instance(request_type="generate_until", doc=doc, arguments=("", {}), idx=0, resps=[text])
        next(ensemble for ensemble in self.task._filters if ensemble.name == filter_name).apply([instance])
        return instance.filtered_resps[filter_name]

    def measured(self, doc: Doc, results: Sequence[object]) -> dict[str, object]:
        """Metric to value, of one row."""
        return dict(self.task.process_results(doc, list(results)))

    def _asked(self, number: int, doc: Doc) -> Asked:
        where = f"{self.name}, row {number}"
        if self.task.doc_to_prefix(doc):
            raise InputError("the harness's task begins the answer itself (gen_prefix)", where=where)
        context = self.task.fewshot_context(
            doc,
            self.task.config.num_fewshot or 0,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
            chat_template=_as_json,
        )
        made = self.task.construct_requests(
            doc, context, metadata=(self.name, number, 1), apply_chat_template=True, chat_template=_as_json
        )
        instances: list[Instance] = made if isinstance(made, list) else [made]
        kinds = {instance.request_type for instance in instances}
        if kinds == {"generate_until"} and len(instances[0].args) == 2:
            context, generation = instances[0].args
            until = generation.get("until") or []
            return Asked(_turns(context, where), until=(until,) if isinstance(until, str) else tuple(until))
        if kinds == {"loglikelihood"} and all(len(instance.args) == 2 for instance in instances):
            pairs = [instance.args for instance in instances]
            choices = tuple(Continuation(_turns(context, where) if context else (), text) for context, text in pairs)
            return Asked(choices[0].prompt, choices)
        raise InputError(f"requests of the kind {', '.join(sorted(kinds))} are not answered here", where=where)


@cache
def read_leaves(name: str, folder: str | None) -> tuple[Leaf, ...]:
    """The task of a name, or all tasks of a group, in the harness's order.

    Args:
        name: a task or group; or the path of a YAML file.
        folder: where to look in place of the harness's own tasks; None for those.

    Raises:
        EnvironmentProblem: the harness is not installed, or something that the task needs; or its data cannot be had.
        InputError: no such task, a broken one, or one whose answers cannot be right or wrong here.
    """
    where = f"lm-eval:{name}"
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise EnvironmentProblem("lm-evaluation-harness is not installed", where=where, fix=INSTALL) from error
    # Its remarks are for its own command line.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    is_file = name.endswith((".yaml", ".yml"))
    manager = TaskManager(include_path=folder, include_defaults=folder is None and not is_file)
    known = manager.all_tasks
    if is_file and not Path(name).is_file():
        raise InputError("no such file", where=where)
    if not is_file and name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"near: {', '.join(near)}" if near else "lm-eval ls tasks lists those of the harness"
        raise InputError(f"no task {name!r} in {folder or 'lm-evaluation-harness'}", where=where, fix=hint)
    tasks = _built(lambda: manager.load(name)["tasks"], where)
    for task_name, task in tasks.items():
        _check_fits(f"lm-eval:{task_name}", task)
    return tuple(Leaf(task_name, task) for task_name, task in tasks.items())


def _built(load: Callable[[], Mapping[str, "ConfigurableTask"]], where: str) -> Mapping[str, "ConfigurableTask"]:
    """The harness's tasks with their data, its errors in words of ours."""
    from datasets.exceptions import DatasetsError
    from jinja2 import TemplateError

    try:
        return load()
    except ImportError as error:
        raise EnvironmentProblem(f"the task needs a package: {error}", where=where, fix=INSTALL) from error
    except (OSError, DatasetsError) as error:
        fix = "check the network, or dataset_kwargs in the task's YAML"
        raise EnvironmentProblem(f"its data cannot be had: {error}", where=where, fix=fix) from error
    except (AttributeError, KeyError, TypeError, ValueError, TemplateError) as error:
        raise InputError(f"the harness cannot read it: {type(error).__name__}: {error}", where=where) from error


def _check_fits(where: str, task: object) -> None:
    """Refuse what cannot be right or wrong here, and code that would run outside of the sandbox."""
    from lm_eval.api.task import ConfigurableTask

    if not isinstance(task, ConfigurableTask):
        raise InputError("only tasks that a YAML file describes are taken", where=where)
    if getattr(task, "UNSAFE_CODE", False):
        raise InputError(
            "the harness would run generated code outside of a sandbox", where=where, fix="humaneval, mbpp or mbpp_plus"
        )
    if getattr(task, "MULTIMODAL", False) or task.OUTPUT_TYPE == "loglikelihood_rolling":
        kind = "images or sound" if getattr(task, "MULTIMODAL", False) else "the perplexity of texts"
        raise InputError(f"a task on {kind} has no right or wrong answers here", where=where)


def _as_json(messages: Sequence[Mapping[str, str]], **_: object) -> str:
    """In place of a chat template: the harness hands texts on, and turns travel in one as JSON."""
    return json.dumps(list(messages), ensure_ascii=False)


def _turns(context: str, where: str) -> tuple[Message, ...]:
    turns: list[Message] = json.loads(context)
    if not turns or turns[-1]["role"] != "user":
        raise InputError("expected a prompt that ends with a user's turn", where=where)
    return tuple(turns)
