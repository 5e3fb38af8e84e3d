"""Multi-step arithmetic stories with worked steps, ending in ``#### n``."""

from random import Random

from tools.pocket.generator.seeding import Draft
from tools.pocket.generator.vocabulary import CONTAINERS, PEOPLE, THINGS


def draw(rng: Random, steps: int) -> Draft:
    """A story of one opening and ``steps`` events; the response works each one out on a line of its own."""
    who, other = rng.sample(PEOPLE, 2)
    things = rng.choice(THINGS)
    have, opening, lines = _open(rng, who, things)
    sentences = [opening]
    for _ in range(steps):
        have, sentence, line = _event(rng, who, other, things, have)
        sentences.append(sentence)
        lines.append(line)
        if rng.random() < 0.12:
            sentences.append(_aside(rng, other, things))
    question = rng.choice(
        (
            f"How many {things} does {who} have now?",
            f"How many {things} are left with {who}?",
            f"How many {things} does that make for {who}?",
        )
    )
    prompt = f"{' '.join(sentences)} {question}"
    return Draft(key=prompt, prompt=prompt, gold="\n".join([*lines, f"#### {have}"]), facts={"answer": have})


def _open(rng: Random, who: str, things: str) -> tuple[int, str, list[str]]:
    """The opening: the number at first, its sentence, and its worked line where it needs one."""
    if rng.random() < 0.45:
        have = rng.randint(5, 90) if rng.random() < 0.8 else rng.randint(90, 200)
        return have, f"{who} has {have} {things}.", []
    boxes, each, container = rng.randint(3, 12), rng.randint(3, 12), rng.choice(CONTAINERS)
    have = boxes * each
    sentences = rng.choice(
        (
            f"{who} has {boxes} {container} with {each} {things} in each.",
            f"{who} keeps {each} {things} in each of {boxes} {container}.",
        )
    )
    return have, sentences, [f"{boxes} * {each} = {have}"]


def _event(rng: Random, who: str, other: str, things: str, have: int) -> tuple[int, str, str]:
    """One event: the number after it, its sentence and its worked line."""
    kinds = ["gain", "gain_groups"]
    if have > 12:
        kinds += ["lose", "lose", "lose_groups"]
    if have < 100:
        kinds.append("times")
    divisors = [d for d in range(2, 10) if have % d == 0 and 3 * d <= have <= 200]
    if divisors:
        kinds += ["share", "lose_part"]
    kind = rng.choice(kinds)
    if kind == "gain":
        n = rng.randint(3, 60) if rng.random() < 0.8 else rng.randint(60, 150)
        sentences = (
            f"{who} buys {n} more.",
            f"{other} gives {who} {n} {things}.",
            f"Then {n} more are found.",
            f"{who} gets another {n} as a gift.",
        )
        return have + n, rng.choice(sentences), f"{have} + {n} = {have + n}"
    if kind == "gain_groups":
        groups, each, container = rng.randint(2, 9), rng.randint(3, 12), rng.choice(CONTAINERS)
        total = groups * each
        line = f"{groups} * {each} = {total}, {have} + {total} = {have + total}"
        return have + total, f"{other} brings {groups} {container} of {each}.", line
    if kind == "lose":
        n = rng.randint(2, have - 3)
        sentences = (
            f"{who} sells {n} of them.",
            f"{who} gives {n} to {other}.",
            f"{n} of the {things} break.",
            f"{who} loses {n}.",
        )
        return have - n, rng.choice(sentences), f"{have} - {n} = {have - n}"
    if kind == "lose_groups":
        each = rng.randint(2, max(2, min(9, have // 4)))
        groups = rng.randint(2, max(2, min(9, (have - 1) // each)))
        total = groups * each
        line = f"{groups} * {each} = {total}, {have} - {total} = {have - total}"
        return have - total, f"{who} gives {each} {things} to each of {groups} friends.", line
    if kind == "times":
        n = rng.randint(2, 5)
        word = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}[n]
        return (
            have * n,
            f"A year later {who} has {word} as many.",
            f"{have} * {n} = {have * n}",
        )
    divisor = rng.choice(divisors)
    part = have // divisor
    if kind == "share":
        return part, f"{who} splits them into {divisor} equal piles and keeps only one.", f"{have} / {divisor} = {part}"
    name = {
        2: "Half",
        3: "A third",
        4: "A quarter",
        5: "A fifth",
        6: "A sixth",
        7: "A seventh",
        8: "An eighth",
        9: "A ninth",
    }
    line = f"{have} / {divisor} = {part}, {have} - {part} = {have - part}"
    return have - part, f"{name[divisor]} of them are sold.", line


def _aside(rng: Random, other: str, things: str) -> str:
    """A sentence with a number that changes nothing."""
    n = rng.randint(2, 60)
    return rng.choice(
        (f"{other} is {n} years old.", f"{other} has {n} {things} too.", f"It is {n} miles to the next town.")
    )
