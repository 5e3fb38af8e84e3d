"""What a study starts from: its models, each loaded once, and its problems, with the digests that steps' keys hold."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tokensieve.config import ModelSettings, StudySettings
from tokensieve.data.manifest import digest_of
from tokensieve.study.steps import Step

if TYPE_CHECKING:
    from tokensieve.models import LoadedModel


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
        self._problems: dict[tuple[str, str, int | None, Path | None], str] = {}
        self._counts: dict[tuple[str, str, int | None, Path | None], int] = {}

    def base(self) -> "LoadedModel":
        """The model under study."""
        from tokensieve.models import load_model

        if self._base is None:
            self._base = load_model(self.settings.model)
        return self._base

    def after(self, train: Step) -> "LoadedModel":
        """The trained model; the last one stays loaded, since its evaluations follow each other."""
        from tokensieve.models import load_model

        if self._tuned is None or self._tuned[0] != train.key:
            self._tuned = None  # frees the one before
            self._tuned = (train.key, load_model(self.settings_after(train)))
        return self._tuned[1]

    def settings_after(self, train: Step) -> ModelSettings:
        """The settings that load a trained model."""
        from tokensieve.training import open_adapter

        return open_adapter(self.root / train.folder_name).on(self.settings.model)

    @property
    def train_data(self) -> Path | None:
        """Folder with local copies of the benchmarks whose training splits are learnt."""
        return self.settings.data.data or self.settings.evaluate.data

    @property
    def digests(self) -> dict[str, str]:
        """Digest of everything that the study starts from: the base model, and each set of problems."""
        problems = {
            f"{task}/{split}" + ("" if limit is None else f", the first {limit}"): digest
            for (task, split, limit, _), digest in self._problems.items()
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
            problems = list(get_task(task).problems(split, data, limit))
            self._problems[asked] = problems_digest(problems)
            self._counts[asked] = len(problems)
        return self._problems[asked]

    def problem_count(self, task: str, split: str, limit: int | None, data: Path | None) -> int:
        """Number of problems whose digest is known by now; 0 where keys are taken from names."""
        return self._counts.get((task, split, limit, data), 0)


def is_at_hand(settings: ModelSettings) -> bool:
    """True if a model can be read without the Hub: the embedded one, a local path, or a copy in the Hub's cache."""
    from tokensieve.models.fetch import POCKET

    if settings.model == POCKET or Path(settings.model).expanduser().exists():
        return True
    if settings.model.startswith((".", "/", "~")) or settings.model.count("/") != 1:
        return True  # nothing that the Hub could have: reading it says what is wrong
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(settings.model, "config.json", revision=settings.revision), str)
