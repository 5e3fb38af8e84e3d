"""What a study starts from: its models, each loaded once, and its problems, with the digests that steps' keys hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokensieve.config import ModelSettings, StudySettings
from tokensieve.data.hashing import file_digest
from tokensieve.data.manifest import digest_of, write_atomically
from tokensieve.study.steps import NOT_TRAINED, Step

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tokensieve.models import LoadedModel


_COUNTED: Final = 16
"""Problems whose tokens are counted, for estimates of the time."""


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """The problems of a task's split.

    Attributes:
        digest: of the problems and the task's rules, 64 hex digits.
        count: number of problems.
        prompt_tokens: mean length of a prompt, from the first few.
        answer_tokens: mean length of a reference answer, likewise.
    """

    digest: str
    count: int
    prompt_tokens: float
    answer_tokens: float

    @property
    def row_tokens(self) -> float:
        """Mean length of prompt and reference answer."""
        return self.prompt_tokens + self.answer_tokens


class StudyInputs:
    """The models and problems of a study. A model is loaded when the first step asks for it.

    Args:
        settings: the study.
        root: folder of the run.
        by_name: where the model under study is not on this machine, take keys from the names of models and tasks, so
            that a plan needs neither weights, data nor the Hub. Such a plan can be shown, not run.

    Attributes:
        by_name: whether keys are taken from names.
    """

    def __init__(self, settings: StudySettings, root: Path, *, by_name: bool = False) -> None:
        self.by_name = by_name and not is_at_hand(settings.model)
        self.settings = settings
        self.root = root
        self._base: LoadedModel | None = None
        self._tuned: tuple[str, LoadedModel] | None = None
        self._problems: dict[tuple[str, str, int | None, Path | None], ProblemSet] = {}
        self._contents: dict[Path, str] = {}

    def base(self) -> "LoadedModel":
        """The model under study."""
        from tokensieve.models import load_model

        if self._base is None:
            self._base = load_model(self.settings.model)
        return self._base

    def model(self, trained: Step | None) -> "LoadedModel":
        """The model that a step has trained, of which the last one stays loaded; None is the model under study."""
        from tokensieve.models import load_model

        if trained is None:
            return self.base()
        if self._tuned is None or self._tuned[0] != trained.key:
            self._tuned = None  # frees the one before
            self._tuned = (trained.key, load_model(self.settings_of(trained)))
        return self._tuned[1]

    def settings_of(self, trained: Step | None) -> ModelSettings:
        """The settings that load the model that a step has trained, or for None the model under study."""
        from tokensieve.training import open_adapter

        if trained is None:
            return self.settings.model
        return open_adapter(self.root / trained.folder_name).on(self.settings.model)

    def key_of_model(self, trained: Step | None) -> str:
        """Identity of the model that a step has trained, or for None of the model under study."""
        return self.model_key if trained is None else trained.key

    def without_model(self, step: Step | None, folder: Path) -> bool:
        """True where a step has no result for want of training rows; what would follow from it says so in its folder.

        Args:
            step: a step that is made; None is the model under study, which there always is.
            folder: of what would follow.
        """
        if step is None or not (self.root / step.folder_name / NOT_TRAINED).is_file():
            return False
        write_atomically(folder / NOT_TRAINED, b"there is no trained model\n")
        return True

    @property
    def train_data(self) -> Path | None:
        """Folder with local copies of the benchmarks whose training splits are learnt."""
        return self.settings.data.data or self.settings.evaluate.data

    @property
    def digests(self) -> dict[str, str]:
        """Digest of everything that the study starts from: the base model, and each set of problems."""
        problems = {
            f"{task}/{split}" + ("" if limit is None else f", the first {limit}"): found.digest
            for (task, split, limit, _), found in self._problems.items()
        }
        return {"model": self.model_key, **problems}

    @cached_property
    def model_key(self) -> str:
        """Digest of the model under study."""
        return self.key_of(self.settings.model)

    def key_of(self, model: ModelSettings) -> str:
        """Digest of a model's files, or of its settings where keys are taken from names: 64 hex digits."""
        from tokensieve.models import fingerprint

        return digest_of(["by name", model.model_dump(mode="json")]) if self.by_name else fingerprint(model)

    def task_key(self, task: str, split: str, limit: int | None, data: Path | None) -> str:
        """Digest of the problems themselves, so that a changed benchmark is noticed."""
        from tokensieve.sampling.grading import problems_digest
        from tokensieve.tasks import get_task

        asked = (task, split, limit, data)
        if self.by_name:
            return digest_of(["by name", task, split, limit])
        if asked not in self._problems:
            known = get_task(task)
            problems = list(known.problems(split, data, limit))
            few = problems[:_COUNTED]
            prompts = self._mean_tokens(["\n".join(str(turn["content"]) for turn in one.prompt) for one in few])
            answers = self._mean_tokens([one.gold for one in few])
            digest = problems_digest(problems, known.rules)
            self._problems[asked] = ProblemSet(digest, len(problems), prompts, answers)
        return self._problems[asked].digest

    def content_keys(self, *sources: str | Path | None) -> list[str]:
        """Digests of the local files and folders among some sources, so that changed content is noticed."""
        paths = [Path(source) for source in sources if source is not None]
        for path in paths:
            if path not in self._contents and path.exists():
                files = sorted(file for file in (path, *path.rglob("*")) if file.is_file())
                self._contents[path] = digest_of([[str(file.relative_to(path)), file_digest(file)] for file in files])
        return [self._contents[path] for path in paths if path in self._contents]

    def problem_set(self, task: str, split: str, limit: int | None, data: Path | None) -> "ProblemSet":
        """Number and size of problems whose digest is known by now; none where keys are taken from names."""
        return self._problems.get((task, split, limit, data), ProblemSet("", 0, 0.0, 0.0))

    def _mean_tokens(self, texts: Sequence[str]) -> float:
        """Mean number of tokens of some texts; 0 without any."""
        lengths = [len(ids) for ids in self._tokenizer(list(texts))["input_ids"]] if texts else []
        return sum(lengths) / max(1, len(lengths))

    @cached_property
    def _tokenizer(self) -> "PreTrainedTokenizerBase":
        from tokensieve.models import load_tokenizer

        return load_tokenizer(self.settings.model)


def is_at_hand(settings: ModelSettings) -> bool:
    """True if a model can be read without the Hub: the embedded one, a local path, or a copy in the Hub's cache."""
    from tokensieve.models.fetch import POCKET

    if settings.model == POCKET or Path(settings.model).expanduser().exists():
        return True
    if settings.model.startswith((".", "/", "~")) or settings.model.count("/") != 1:
        return True  # nothing that the Hub could have: reading it says what is wrong
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(settings.model, "config.json", revision=settings.revision), str)
