"""Drills: many small sums or spellings a dialogue, the parts that the worked steps of other skills are made of."""

from random import Random

from tokensieve.tasks.pocket._draw import Draft
from tokensieve.tasks.pocket._vocabulary import WORDS
from tokensieve.tasks.pocket._words import made_up


def draw(rng: Random) -> Draft:
    """A list of sums or of words to spell; no task asks for it in this form."""
    if rng.random() < 0.7:
        sums = [_sum(rng) for _ in range(rng.randint(5, 9))]
        asked, lines = [text for text, _ in sums], [f"{text} = {value}" for text, value in sums]
        prompt = "\n".join(["Work out:", *asked])
    else:
        words = [rng.choice(WORDS) if rng.random() < 0.7 else made_up(rng) for _ in range(rng.randint(3, 6))]
        backwards = rng.random() < 0.5
        ends = [f" -> {' '.join(word[::-1])}" if backwards else f": {len(word)}" for word in words]
        lines = [" ".join(word) + end for word, end in zip(words, ends, strict=True)]
        prompt = f"{'Spell backwards' if backwards else 'Spell and count'}:\n{' '.join(words)}"
    return Draft(key=prompt, prompt=prompt, gold="\n".join(lines))


def _sum(rng: Random) -> tuple[str, int]:
    kind = rng.randrange(5)
    if kind == 0:
        a, b = rng.randint(2, 99), rng.randint(2, 99)
        return f"{a} + {b}", a + b
    if kind == 1:
        a, b = rng.randint(20, 400), rng.randint(2, 150)
        return f"{a} + {b}", a + b
    if kind == 2:
        a = rng.randint(8, 120) if rng.random() < 0.6 else rng.randint(100, 500)
        b = rng.randint(2, a - 3)
        return f"{a} - {b}", a - b
    if kind == 3:
        a, b = (
            (rng.randint(2, 19), rng.randint(2, 12)) if rng.random() < 0.6 else (rng.randint(12, 99), rng.randint(2, 6))
        )
        return f"{a} * {b}", a * b
    b, value = rng.randint(2, 9), rng.randint(3, 60)
    return f"{b * value} / {b}", value
