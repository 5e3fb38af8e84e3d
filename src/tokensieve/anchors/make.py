"""From a model and its training rows to a folder of anchors: candidates, pilot, drift, choice, distributions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

from tokensieve.anchors.candidates import Candidates, candidates_folder, find_candidates
from tokensieve.anchors.clusters import concentration
from tokensieve.config import AnchorSettings, LoraSettings, ModelSettings, TrainSettings, as_settings
from tokensieve.data.dataset import Rows, ShardRun, as_rows
from tokensieve.data.manifest import MANIFEST_NAME, Counts, Manifest, digest_of, package_versions
from tokensieve.drift import row_divergences, tuned_settings
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel, load_model, settings_of
from tokensieve.models.speed import Work, measure_speed
from tokensieve.pipeline import first
from tokensieve.scoring.response_states import top_log_probs
from tokensieve.training import train
from tokensieve.training.anchor_choice import CANDIDATES, Choice, choose
from tokensieve.types import Anchor, Progress, Selected, Tokens

Phase: TypeAlias = Literal["candidates", "pilot", "drift"]
PHASES: Final[Mapping[Phase, tuple[str, str]]] = {
    "candidates": ("draw anchor candidates", "turns or answers"),
    "pilot": ("train the pilot", "steps"),
    "drift": ("measure drift", "rows"),
}
"""What is done in each phase of a search, and the unit of its progress."""

_TURN_TOKENS: Final = 80
"""Tokens of a drawn turn where nothing is known of the model yet."""
_MODELS_READ: Final = 3
"""Passes over the candidates: the base's, the pilot's, and one for distributions."""

_SHARD_ROWS: Final = 128


class AnchorWatcher(Protocol):
    """Whoever is told how a search for anchors goes; the command line prints it."""

    def planned(self, seconds: Mapping[Phase, float]) -> None:
        """The phases that are to come, with a rough time for each; those done by an earlier call are left out."""

    def advanced(self, phase: Phase, done: int, total: int) -> None:
        """Work inside a phase: drawn turns or prompts, steps of the pilot, rows measured."""


class Silent:
    """A watcher that says nothing."""

    def planned(self, seconds: Mapping[Phase, float]) -> None:
        """Nothing."""

    def advanced(self, phase: Phase, done: int, total: int) -> None:
        """Nothing."""


def make_anchors(
    rows: Rows[Selected] | str | Path | None,
    model: LoadedModel | ModelSettings | str | Path,
    settings: AnchorSettings | Mapping[str, object] | None = None,
    out: str | Path = "anchors",
    *,
    work: Path | None = None,
    watcher: AnchorWatcher | None = None,
) -> Rows[Anchor]:
    """Choose the rows on which a model in training should be held to its base.

    A short pilot is trained on the first training rows; the candidates on which it has drifted most from the base, in
    forward KL per token, become anchors, and some are drawn at random beside them. The base's distribution at every
    response token of an anchor is stored (top k entries), so that training needs no second model in memory.

    Args:
        rows: training rows as ``select`` has made them; None where ``settings.pilot.adapter`` names a finished run.
        model: the base.
        settings: candidates, pilot and choice.
        out: folder of the result; with ``settings.refreshable`` all candidates lie in a folder inside it.
        work: folder in which candidates and pilot are kept, so that a killed call goes on and another one with the same
            base, rows and settings uses them again; None is a hidden folder beside ``out``.
        watcher: told what is to come, and how far it is.

    Returns:
        The anchors in the order of the candidates. The manifest's counts begin at what was drawn; its facts hold the
        mean drift of candidates and anchors and the clusters of prompts: share among candidates and anchors, drift,
        examples.

    Raises:
        InputError: no training rows and no pilot, or as in drawing, training and measuring.
        EnvironmentProblem: no memory or disk space.
    """
    settings = as_settings(AnchorSettings, settings, "settings")
    source = _source_of_pilot(rows, settings)
    out, watcher = Path(out), watcher or Silent()
    base_settings = settings_of(model)
    base = load_model(base_settings)
    draft = Manifest(
        stage="anchors",
        settings=settings.model_dump(mode="json"),
        inputs={} if isinstance(source, Path) else {"rows": source.manifest.digest},
        model=base.identity,
        versions=dict(package_versions()),
        seed=settings.seed,
    )
    work = work or out.parent / f".{out.name}.anchors"
    with ShardRun[Anchor](out, draft) as run:
        if run.finished is not None:
            return run.finished
        pilot = source if isinstance(source, Path) else _pilot_folder(source, base, settings, work)
        watcher.planned(_planned(source, base, settings, work, pilot))
        candidates = find_candidates(base, settings, work, _told(watcher, "candidates"))
        if isinstance(source, Rows):
            train_pilot(source, base, base_settings, settings, work, _told(watcher, "pilot"))
        watcher.advanced("drift", 0, len(candidates.rows))
        found = row_divergences(candidates.rows, base, tuned_settings(str(pilot), base_settings))
        drifts = [row.mean_kl for row in found]
        choices = choose(drifts, settings.count, settings.random_share, settings.seed)
        if settings.refreshable:
            _keep_candidates(candidates, drifts, choices, base, settings, draft, out / CANDIDATES)
        run.make(
            (choices[start : start + _SHARD_ROWS] for start in range(0, len(choices), _SHARD_ROWS)),
            lambda shard: _anchors(candidates.rows, drifts, shard, base, settings),
        )
        watcher.advanced("drift", len(candidates.rows), len(candidates.rows))
        left = len(candidates.rows) - len(choices)
        counts = Counts(
            rows_in=candidates.drawn, rows_out=len(choices), dropped={**candidates.dropped, "not chosen": left}
        )
        return run.finish(counts, concentration(candidates.rows, drifts, choices, base.tokenizer, settings.seed))


def _source_of_pilot(rows: Rows[Selected] | str | Path | None, settings: AnchorSettings) -> Rows[Selected] | Path:
    """The finished run that is the pilot, or the rows that it is trained on.

    Raises:
        InputError: neither is given.
    """
    if settings.pilot.adapter is not None:
        return settings.pilot.adapter
    if rows is None:
        raise InputError(
            "expected training rows for the pilot", fix="give the folder of select, or --pilot.adapter RUN"
        )
    return as_rows(Selected, rows)


def _told(watcher: AnchorWatcher, phase: Phase) -> Progress:
    return lambda done, total: watcher.advanced(phase, done, total)


def train_pilot(
    rows: Rows[Selected],
    loaded: LoadedModel,
    base: ModelSettings,
    settings: AnchorSettings,
    work: Path,
    progress: Progress | None = None,
) -> Path:
    """Train the pilot, a short run on the first training rows; returns its folder inside ``work``.

    Args:
        rows: training rows.
        loaded: the base, loaded.
        base: settings of the base.
        settings: hold the pilot's.
        work: folder of pilots, named by what they were made of; one that is there already is taken.
        progress: called with the steps done and those in all.
    """
    folder = _pilot_folder(rows, loaded, settings, work)
    return train(first(rows, settings.pilot.rows), base, _pilot_settings(settings), folder, progress).folder


def _planned(
    source: Rows[Selected] | Path, base: LoadedModel, settings: AnchorSettings, work: Path, pilot: Path
) -> Mapping[Phase, float]:
    """Seconds of the phases that no earlier call has done."""
    done = {"pilot"} if (pilot / MANIFEST_NAME).is_file() else set()
    if any(candidates_folder(base, settings, work).glob(f"**/rows/{MANIFEST_NAME}")):
        done.add("candidates")
    seconds = estimate_seconds(settings, base, None if isinstance(source, Path) else source)
    return {phase: needed for phase, needed in seconds.items() if needed and phase not in done}


def _keep_candidates(
    candidates: Candidates,
    drifts: Sequence[float],
    choices: Sequence[Choice],
    base: LoadedModel,
    settings: AnchorSettings,
    draft: Manifest,
    out: Path,
) -> None:
    """All candidates with their distributions, for a choice that is made again while training."""
    at_random = {choice.index for choice in choices if choice.at_random}
    every = [Choice(index, index in at_random) for index in range(len(candidates.rows))]
    with ShardRun[Anchor](out, draft) as run:
        if run.finished is None:
            run.make(
                (every[start : start + _SHARD_ROWS] for start in range(0, len(every), _SHARD_ROWS)),
                lambda shard: _anchors(candidates.rows, drifts, shard, base, settings),
            )
            run.finish(Counts(rows_in=len(every), rows_out=len(every)))


def _pilot_settings(settings: AnchorSettings) -> TrainSettings:
    pilot = settings.pilot
    return TrainSettings(
        method=pilot.method,
        learning_rate=pilot.learning_rate,
        epochs=1,
        batch_size=pilot.batch_size,
        warmup_steps=0,
        seed=settings.seed,
        lora=LoraSettings(),
    )


def _pilot_folder(rows: Rows[Selected], base: LoadedModel, settings: AnchorSettings, work: Path) -> Path:
    """Folder of a short run on the first training rows, named after all that decides it."""
    run = {
        "base": base.identity.model_dump(mode="json"),
        "rows": first(rows, settings.pilot.rows).manifest.digest,
        "settings": _pilot_settings(settings).model_dump(mode="json"),
    }
    return work / f"pilot-{digest_of(run)[:12]}"


def _anchors(
    candidates: Sequence[Tokens],
    drifts: Sequence[float],
    choices: Sequence[Choice],
    base: LoadedModel,
    settings: AnchorSettings,
) -> list[Anchor]:
    chosen = [candidates[choice.index] for choice in choices]
    return [
        Anchor(row, ids_NK, log_p_NK, drifts[choice.index], choice.at_random)
        for row, choice, (ids_NK, log_p_NK) in zip(
            chosen, choices, top_log_probs(chosen, base, settings.top_k), strict=True
        )
    ]


def estimate_seconds(
    settings: AnchorSettings, base: LoadedModel, pilot_rows: Rows[Selected] | None
) -> Mapping[Phase, float]:
    """Seconds of each phase on this machine, from the sizes alone.

    Args:
        settings: candidates and pilot.
        base: the model.
        pilot_rows: training rows of the pilot; None where a finished run takes its place.
    """
    speed = measure_speed(base)
    pilot = 0 if pilot_rows is None else sum(len(one.tokens) for one in first(pilot_rows, settings.pilot.rows))
    return {phase: speed.seconds(work) for phase, work in work_of(settings, pilot).items()}


def work_of(settings: AnchorSettings, pilot_tokens: int) -> Mapping[Phase, Work]:
    """Work of each phase, roughly.

    Args:
        settings: candidates and pilot.
        pilot_tokens: of the pilot's rows; 0 where a finished run takes its place.
    """
    turn = min(_TURN_TOKENS, settings.max_new_tokens)
    turns = {"dialogues": 2, "answers": settings.n, "rows": 0, "text": 0}[settings.source]
    row = settings.max_new_tokens if settings.source == "text" else 2 * turn
    return {
        "candidates": Work(drawn=settings.candidates * turns * turn),
        "pilot": Work(trained=pilot_tokens),
        "drift": Work(read=settings.candidates * row * _MODELS_READ),
    }
