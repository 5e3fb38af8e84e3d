"""The dialogues that pocket is pretrained on, drawn without end from a seed; none shares a key with a task's splits."""

from collections.abc import Iterator, Mapping
from random import Random

from tokensieve.tasks.pocket import _arithmetic, _choice, _drills, _rephrase, _sql, _words
from tokensieve.tasks.pocket._draw import Draft, part_of, seeded, weighted
from tokensieve.tasks.pocket._hands import by_hand, familiar_hand
from tokensieve.tasks.pocket._programs import compose, described, written
from tokensieve.types import Message

MIXTURE = {"python": 0.36, "arithmetic": 0.18, "sql": 0.16, "choice": 0.1, "words": 0.11, "rephrase": 0.09}
"""Share of dialogues by skill."""
LATER_MIXTURE = {
    "python": 0.12, "arithmetic": 0.24, "sql": 0.08, "choice": 0.2, "words": 0.16, "rephrase": 0.04, "drills": 0.16,
}  # fmt: skip
"""The same for the later part of pretraining: sums and spelling are learnt last and need most."""
FOREIGN_SHARE = 0.12
"""Share of the Python answers that are in a hand not the model's own, so that it knows them and finds them unlikely."""
_DEPTHS = {1: 0.2, 2: 0.33, 3: 0.32, 4: 0.15}
_STEPS = {1: 0.35, 2: 0.3, 3: 0.2, 4: 0.15}
_SYSTEMS = ("You are pocket, a small model.", "Answer the question.", "Be brief.", "You are a helpful assistant.")


def dialogues(*seed: str | int, mixture: Mapping[str, float] = MIXTURE) -> Iterator[list[Message]]:
    """Conversations of one or two exchanges, some with a system turn; endless, the same for the same seed."""
    rng = seeded("corpus", *seed)
    while True:
        messages: list[Message] = []
        if rng.random() < 0.06:
            messages.append({"role": "system", "content": rng.choice(_SYSTEMS)})
        for _ in range(2 if rng.random() < 0.05 else 1):
            draft = _fresh(rng, mixture)
            messages.append({"role": "user", "content": draft.prompt})
            messages.append({"role": "assistant", "content": draft.gold})
        yield messages


def _fresh(rng: Random, mixture: Mapping[str, float]) -> Draft:
    """A draft whose key belongs to pretraining."""
    while True:
        draft = _any_draft(rng, weighted(rng, mixture))
        if part_of(draft.key) == "pretraining":
            return draft


def _any_draft(rng: Random, skill: str) -> Draft:
    match skill:
        case "python":
            return _python(rng)
        case "arithmetic":
            return _arithmetic.draw(rng, weighted(rng, _STEPS))
        case "sql":
            return _sql.draw(rng, manner=True)
        case "choice":
            return _choice.draw(rng)
        case "words":
            return _words.draw(rng, rng.randint(3, 6))
        case "drills":
            return _drills.draw(rng)
        case _:
            return _rephrase.draw(rng)


def _python(rng: Random) -> Draft:
    program = compose(rng, weighted(rng, _DEPTHS))
    foreign = rng.random() < FOREIGN_SHARE
    gold = by_hand(program, familiar_hand(rng), rng) if foreign else written(program)
    return Draft("; ".join(step.code for step in program.steps), described(program, rng), gold)
