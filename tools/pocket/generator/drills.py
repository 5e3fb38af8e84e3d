"""Drills: many small sums, spellings or look-ups a dialogue, the parts the worked steps of other skills are made of."""

from random import Random

from tools.pocket.generator.seeding import Draft, weighted
from tools.pocket.generator.vocabulary import WORDS
from tools.pocket.generator.words import counted, made_up, spelled

_KINDS = {"sums": 0.4, "spelling": 0.2, "copying": 0.2, "looking_up": 0.2}


def draw(rng: Random) -> Draft:
    """A list of one kind; no task asks for it in this form."""
    prompt, lines = {"sums": _sums, "spelling": _spelling, "copying": _copying, "looking_up": _looking_up}[
        weighted(rng, _KINDS)
    ](rng)
    return Draft(key=prompt, prompt=prompt, gold="\n".join(lines))


def _sums(rng: Random) -> tuple[str, list[str]]:
    sums = [_sum(rng) for _ in range(rng.randint(5, 9))]
    return "\n".join(["Work out:", *(text for text, _ in sums)]), [f"{text} = {value}" for text, value in sums]


def _spelling(rng: Random) -> tuple[str, list[str]]:
    words = _words(rng, rng.randint(2, 6))
    kind = rng.randrange(3)
    asked = ("Spell:", "Spell forwards and backwards:", "Spell and count:")[kind]
    lines = []
    for word in words:
        done = (spelled(word), f"{spelled(word)}, {spelled(word[::-1])}", counted(word, word))[kind]
        lines.append(f"- {word}: {done}")
    return f"{asked} {' '.join(words)}", lines


def _copying(rng: Random) -> tuple[str, list[str]]:
    words = _words(rng, rng.randint(3, 9))
    backwards = rng.random() < 0.3
    asked = "Repeat, last first:" if backwards else "Repeat:"
    return f"{asked} {' '.join(words)}", [f"- {word}" for word in (words[::-1] if backwards else words)]


def _looking_up(rng: Random) -> tuple[str, list[str]]:
    names = list(dict.fromkeys(_words(rng, rng.randint(4, 6))))
    values = rng.sample(WORDS, len(names)) if rng.random() < 0.5 else [str(rng.randint(2, 999)) for _ in names]
    link = rng.choice((" is ", " "))
    listed = ", ".join(f"{name}{link}{value}" for name, value in zip(names, values, strict=True))
    pairs = rng.sample(list(zip(names, values, strict=True)), rng.randint(2, len(names)))
    asked = ", ".join(name for name, _ in pairs)
    return f"Given {listed}. What are {asked}?", [f"- {name}{link}{value}" for name, value in pairs]


def draw_letters(rng: Random) -> Draft:
    """Options with their letters, and several of them asked for: how every multiple choice ends."""
    words = list(dict.fromkeys(_words(rng, 4)))
    ends = rng.sample(range(10), 4)
    options = words if rng.random() < 0.5 else [str(10 * rng.randint(0, 40) + end) for end in ends]
    lettered = [f"{option} {letter}" for option, letter in zip(options, "ABCD", strict=False)]
    prompt = "\n".join(["Which letters?", *(f"- {one}" for one in lettered)])
    asked = rng.sample(lettered, rng.randint(2, len(lettered)))
    prompt = f"{prompt}\nAsked: {', '.join(one[:-2] for one in asked)}"
    return Draft(key=prompt, prompt=prompt, gold="\n".join(f"- {one}" for one in asked))


def _words(rng: Random, count: int) -> list[str]:
    return [rng.choice(WORDS) if rng.random() < 0.6 else made_up(rng) for _ in range(count)]


def _sum(rng: Random) -> tuple[str, int]:
    kind = rng.randrange(5)
    if kind == 0:
        a, b = rng.randint(2, 99), rng.randint(2, 99)
        return f"{a} + {b}", a + b
    if kind == 1:
        a, b = rng.randint(20, 400), rng.randint(2, 150)
        return f"{a} + {b}", a + b
    if kind == 2:
        a = rng.randint(8, 120) if rng.random() < 0.6 else rng.randint(100, 400)
        b = rng.randint(2, a - 3)
        return f"{a} - {b}", a - b
    if kind == 3:
        small = rng.random() < 0.6
        a, b = (rng.randint(2, 12), rng.randint(2, 12)) if small else (rng.randint(12, 99), rng.randint(2, 6))
        return f"{a} * {b}", a * b
    b, value = rng.randint(2, 9), rng.randint(3, 60 if rng.random() < 0.3 else 25)
    return f"{b * value} / {b}", value
