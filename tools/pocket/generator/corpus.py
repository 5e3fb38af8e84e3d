"""Pretraining dialogues of pocket, an endless seeded stream; none shares a key with a task's splits."""

from collections.abc import Iterator, Mapping
from random import Random

from tools.pocket.generator import arithmetic, choice, drills, rephrase, sql, words
from tools.pocket.generator.code_styles import familiar_style, write_in_style
from tools.pocket.generator.programs import compose, describe, reference_code
from tools.pocket.generator.seeding import Draft, part_of, seeded, weighted

from tokensieve.types import Message

MIXTURE = {
    "python": 0.2, "arithmetic": 0.2, "sql": 0.12, "lettered_choice": 0.17, "words": 0.16,
    "lettered_rephrase": 0.05, "drills": 0.1,
}  # fmt: skip
"""Share of dialogues by skill."""
EARLY_MIXTURE = {"drills": 0.7, "words": 0.15, "lettered_choice": 0.15}
"""The same for the beginning of pretraining: a model that can copy from its prompt learns the rest faster."""
LATER_MIXTURE = {
    "python": 0.14, "arithmetic": 0.2, "sql": 0.09, "lettered_choice": 0.2, "words": 0.18,
    "lettered_rephrase": 0.05, "drills": 0.06, "letters": 0.08,
}  # fmt: skip
"""The same for what comes after: Python and SQL are learnt early."""
LAST_MIXTURE = {
    "python": 0.12, "arithmetic": 0.24, "sql": 0.08, "choice": 0.2, "words": 0.22, "rephrase": 0.08, "drills": 0.06,
}  # fmt: skip
"""The same for the end: choices without letters, more sums and words."""
FOREIGN_SHARE = 0.18
"""Share of the Python answers that are in another style, so that the model knows them and finds them unlikely."""
_DEPTHS = {1: 0.15, 2: 0.25, 3: 0.3, 4: 0.2, 5: 0.1}
_STEPS = {1: 0.3, 2: 0.25, 3: 0.25, 4: 0.15, 5: 0.05}
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
            return arithmetic.draw(rng, weighted(rng, _STEPS))
        case "sql":
            return sql.draw(rng, manner=True)
        case "choice":
            return choice.draw(rng)
        case "lettered_choice":
            return choice.draw_lettered(rng)
        case "words":
            return words.draw(rng, rng.randint(2, 6))
        case "drills":
            return drills.draw(rng)
        case "letters":
            return drills.draw_letters(rng)
        case "lettered_rephrase":
            return rephrase.draw(rng, choice.draw_lettered)
        case _:
            return rephrase.draw(rng)


def _python(rng: Random) -> Draft:
    program = compose(rng, weighted(rng, _DEPTHS))
    foreign = rng.random() < FOREIGN_SHARE
    gold = write_in_style(program, familiar_style(rng), rng) if foreign else reference_code(program)
    return Draft("; ".join(step.code for step in program.steps), describe(program, rng), gold)
