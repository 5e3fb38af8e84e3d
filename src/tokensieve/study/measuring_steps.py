"""Steps of a study that measure a model: its answers, its drift, its weight update, the page's rows under it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tokensieve.config import DriftSettings, EvaluateSettings, TargetSettings, TrainSettings
from tokensieve.data.manifest import write_atomically
from tokensieve.errors import InputError
from tokensieve.models.speed import Work
from tokensieve.study.inputs import ProblemSet, StudyInputs
from tokensieve.study.steps import Step, settings_json, step_key
from tokensieve.types import FloatArray, Progress

if TYPE_CHECKING:
    from tokensieve.drift import DriftProbe
    from tokensieve.models import LoadedModel

TARGET_PROMPTS: Final = "target"
"""Prompts of drift's answers: those of each target's training split, or of another one as target/SPLIT."""
DRIFT_NAME: Final = "drift.json"
"""File of a drift step's result."""
_TURN_TOKENS: Final = 80
_ROW_TOKENS: Final = 200
_TEXT_TOKENS: Final = 1024
"""Tokens of a drawn turn, of a row of a data set, of a row of plain text, for estimates of the time."""
TOKENS_NAME: Final = "tokens.json"
"""File with the nll of the shown rows' tokens under the trained model, nats, by row id; null is not scored."""


class MeasuringSteps:
    """Makes the steps that measure a study's models; nothing is run.

    Attributes:
        draws: the steps that draw rows for drift, by key; filled as drift's steps are made.
    """

    def __init__(self, inputs: StudyInputs) -> None:
        self.draws: dict[str, Step] = {}
        self._inputs = inputs
        self._settings = inputs.settings
        self._root = inputs.root
        self._probe: tuple[Step, DriftProbe] | None = None

    def evaluate(self, task: str, label: str, tuned: Step | None, *, validation: bool = False) -> Step:
        """Answers to a task's problems, by a trained model or where there is none by the base.

        Args:
            task: name of the task.
            label: of the model.
            tuned: made the model; None is the model under study.
            validation: on the problems on which a rate is chosen.
        """
        from tokensieve.evaluation import evaluate

        is_target = any(task == target.task for target in self._settings.targets)
        settings = self._settings.evaluate.of(task, is_target=is_target)
        if validation:
            limit = self._settings.sweep.validation_limit or settings.limit
            settings = settings.model_copy(update={"split": "validation", "limit": limit})

        def build(folder: Path, progress: Progress) -> None:
            if not self._inputs.without_model(tuned, folder):
                evaluate(self._inputs.model(tuned), settings, folder, progress=progress)

        problems = self._inputs.task_key(task, settings.split, settings.limit, settings.data)
        needs = () if tuned is None else (tuned,)
        told = f"{task} {settings.split} · {label}" if validation else f"{task} · {label}"
        key = step_key("evaluate", settings_json(settings), [self._inputs.key_of_model(tuned), problems])
        asked = self._inputs.problem_set(task, settings.split, settings.limit, settings.data)
        return Step("evaluate", told, key, build, needs, _work_of_answers(task, asked, settings))

    def check_validation(self) -> None:
        """Refuse a target without validation problems for an arm whose rate is chosen on them."""
        from tokensieve.tasks import get_task

        for task in (target.task for target in self._settings.targets):
            swept = any(arm.is_for(task) and len(self._settings.rates_of(arm)) > 1 for arm in self._settings.arms)
            if swept and "validation" not in (splits := get_task(task).splits):
                raise InputError(
                    f"a learning rate is chosen on the target's validation problems, and {task} has none; its splits"
                    f" are: {', '.join(splits)}",
                    where="sweep",
                    fix="another target, or one learning rate for every arm",
                )

    def drift(self, target: TargetSettings, label: str, tuned: Step) -> Step | None:
        """The drift of one trained model from the base; None where the study does not measure it."""
        rows = self._drift_rows(target)
        if rows is None:
            return None
        drawn = self._draw(rows)

        def write(folder: Path) -> None:
            found = self._drift_probe(rows, drawn).measure(self._inputs.model(tuned))
            write_atomically(folder / DRIFT_NAME, found.model_dump_json(indent=2).encode())

        read = self._inputs.content_keys(rows.rows, rows.prompts, rows.text)
        key = step_key("drift", settings_json(rows, exclude={"data"}), [self._inputs.model_key, tuned.key, *read])
        return Step("drift", label, key, self._of_trained(tuned, write), (tuned, drawn), Work(read=_drift_tokens(rows)))

    def update(self, label: str, tuned: Step, settings: TrainSettings) -> Step | None:
        """The weight update of one trained model; None where the study does not measure it."""
        if not self._settings.evaluate.update:
            return None

        def write(folder: Path) -> None:
            from tokensieve.drift.update import UPDATE_NAME, weight_update

            found = weight_update(self._root / tuned.folder_name, self._inputs.base())
            write_atomically(folder / UPDATE_NAME, found.model_dump_json(indent=2).encode())

        key = step_key("update", {}, [self._inputs.model_key, tuned.key])
        work = Work(spectra=int(settings.method == "full" or settings.lora.dora))
        return Step("update", label, key, self._of_trained(tuned, write), (tuned,), work)

    def tokens(self, label: str, select: Step, seed: int, tuned: Step) -> Step | None:
        """The shown rows under the trained model of the first seed; None for other seeds, or where it is not asked."""
        if not self._settings.evaluate.tokens or seed != self._settings.seeds[0]:
            return None

        def write(folder: Path) -> None:
            write_shown_tokens(self._root / select.folder_name, self._inputs.model(tuned), folder)

        key = step_key("tokens", {}, [select.key, tuned.key])
        return Step("tokens", label, key, self._of_trained(tuned, write), (tuned,))

    def _of_trained(self, tuned: Step, write: Callable[[Path], None]) -> Callable[[Path, Progress], None]:
        """The making of a trained model's measure, which says so where there is no model."""

        def build(folder: Path, progress: Progress) -> None:
            if not self._inputs.without_model(tuned, folder):
                progress(0, 1)
                write(folder)

        return build

    def _drift_rows(self, target: TargetSettings) -> DriftSettings | None:
        """The rows on which drift is measured; the prompts ``target`` are those of the target's own training split."""
        rows = self._settings.evaluate.drift
        prompts = None if rows is None else rows.prompts
        if rows is None or prompts is None:
            return rows
        word, _, split = prompts.partition("/")
        changes: dict[str, str | Path | None] = {"data": rows.data or self._inputs.train_data}
        if word == TARGET_PROMPTS:
            changes["prompts"] = f"task:{target.task}/{split or 'train'}"
        return rows.model_copy(update=changes)

    def _draw(self, rows: DriftSettings) -> Step:
        """The base's rows on which drift is measured, drawn once for all runs that are measured on them."""
        from tokensieve.drift import probe_sets

        def build(folder: Path, progress: Progress) -> None:
            progress(0, 1)
            folder.mkdir(parents=True, exist_ok=True)  # rows that are read, not drawn, leave nothing in it
            probe_sets(self._inputs.base(), rows, folder)

        read = self._inputs.content_keys(rows.rows, rows.prompts, rows.text)
        key = step_key("draw", settings_json(rows, exclude={"data"}), [self._inputs.model_key, *read])
        turns = 2 * rows.dialogues * (rows.rows is None) + rows.limit * (rows.prompts is not None)
        work = Work(drawn=turns * min(_TURN_TOKENS, rows.max_new_tokens))
        return self.draws.setdefault(key, Step("draw", "rows for drift", key, build, work=work))

    def _drift_probe(self, rows: DriftSettings, drawn: Step) -> "DriftProbe":
        """The base's rows and hidden states, made once for all runs of a target; the last ones are kept."""
        from tokensieve.drift import DriftProbe

        if self._probe is None or self._probe[0] is not drawn:
            self._probe = None  # frees the one before
            self._probe = (drawn, DriftProbe(self._inputs.base(), rows, self._root / drawn.folder_name))
        return self._probe[1]


def _work_of_answers(task: str, problems: ProblemSet, settings: EvaluateSettings) -> Work:
    """Work of the answers to problems: drawn, as long as the references; or where likelihoods are measured read."""
    from tokensieve.tasks import get_task

    known = get_task(task)
    if known.measures_likelihood or known.likelihood_choice is not None:
        return Work(read=problems.count * problems.row_tokens)
    drawn = min(problems.answer_tokens, settings.sampling.max_new_tokens or math.inf)
    return Work(read=problems.count * problems.prompt_tokens, drawn=problems.count * drawn)


def _drift_tokens(rows: DriftSettings) -> float:
    """Tokens on which drift is measured, roughly."""
    turn = min(_TURN_TOKENS, rows.max_new_tokens)
    return (
        2 * turn * rows.dialogues * (rows.rows is None)
        + 2 * turn * rows.limit * (rows.prompts is not None)
        + _ROW_TOKENS * rows.limit * (rows.rows is not None)
        + _TEXT_TOKENS * rows.limit * (rows.text is not None)
    )


def write_shown_tokens(selected: Path, model: "LoadedModel", folder: Path) -> None:
    """Score the training rows that the page's token browser shows under the trained model, and write their nll."""
    from tokensieve.pipeline import open_selected
    from tokensieve.report.browsers import drawn_rows
    from tokensieve.scoring.response_states import nll_of_rows

    rows = [row.tokens for row in drawn_rows(open_selected(selected))]
    found = {
        row.id: [None if nll != nll else round(float(nll), 4) for nll in nll_T]
        for row, nll_T in zip(rows, nll_of_rows(rows, model), strict=True)
    }
    write_atomically(folder / TOKENS_NAME, json.dumps(found).encode())


def read_shown_tokens(folder: Path) -> dict[str, FloatArray]:
    """The nll of the shown rows' tokens by row id, ``[T]`` in nats; NaN is not scored."""
    read = json.loads((folder / TOKENS_NAME).read_text(encoding="utf-8"))
    return {
        name: np.array([np.nan if nll is None else nll for nll in values], dtype=np.float32)
        for name, values in read.items()
    }
