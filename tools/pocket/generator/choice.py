"""Multiple-choice questions that need a little computing or looking up."""

from collections.abc import Callable, Mapping
from random import Random

from tools.pocket.generator.seeding import Draft, part_of, weighted
from tools.pocket.generator.vocabulary import CITIES, COLOURS, DAYS, KINDS, PEOPLE, WORDS

from tokensieve.types import JSON

LETTERS = "ABCD"
_INITIALS = sorted({word[0] for word in WORDS})

_Asked = tuple[str, str, str, list[str]]
"""Question, worked line, right option, wrong options (or all of them)."""


def draw(rng: Random, kinds: Mapping[str, float] | None = None) -> Draft:
    """A question with four options; the response works it out and names the right one.

    A draft whose lettered form belongs to pretraining is not finished: the model may have seen it.
    """
    question, worked, right, options = _asked(rng, kinds)
    prompt = "\n".join([question, *(f"- {option}" for option in options)])
    facts = {"answer": right}

    def finish(_rng: Random) -> Mapping[str, JSON] | None:
        return {} if part_of(_lettered(question, options)) != "pretraining" else None

    return Draft(key=prompt, prompt=prompt, gold=f"- {worked}\nAnswer: {right}", facts=facts, finish=finish)


def draw_lettered(rng: Random) -> Draft:
    """The same with a letter behind each option and behind the answer: pretraining's first form.

    The letter was not learnt in 11 M tokens, nor in 5 M in which the response went through the options; that is why the
    task itself asks for the option.
    """
    question, worked, right, options = _asked(rng, None)
    prompt = _lettered(question, options)
    gold = f"- {worked}\nAnswer: {right} {LETTERS[options.index(right)]}"
    return Draft(key=prompt, prompt=prompt, gold=gold, facts={"answer": right})


def _lettered(question: str, options: list[str]) -> str:
    return "\n".join([question, *(f"- {option} {letter}" for option, letter in zip(options, LETTERS, strict=True))])


def _asked(rng: Random, kinds: Mapping[str, float] | None) -> _Asked:
    """A drawn question with its options in a drawn order."""
    kind = weighted(rng, kinds or KIND_WEIGHTS)
    question, worked, right, wrong = _KINDS[kind](rng)
    options = [right, *wrong[:3]]
    rng.shuffle(options)
    return question, worked, right, options


def _near(rng: Random, value: int, spread: int) -> list[str]:
    """Three other numbers not far from the value, none negative, the last digits all different."""
    others: list[int] = []
    while len(others) < 3:
        other = value + rng.choice((-1, 1)) * rng.randint(1, spread)
        if other >= 0 and all(other % 10 != taken % 10 for taken in (value, *others)):
            others.append(other)
    return [str(other) for other in others]


def _compute(rng: Random) -> _Asked:
    a, b, c = rng.randint(2, 30), rng.randint(2, 30), rng.randint(2, 5)
    if rng.random() < 0.5:
        value, text, worked = (a + b) * c, f"({a} + {b}) * {c}", f"{a} + {b} = {a + b}, {a + b} * {c} = {(a + b) * c}"
    else:
        value, text, worked = a * c + b, f"{a} * {c} + {b}", f"{a} * {c} = {a * c}, {a * c} + {b} = {a * c + b}"
    return f"What is {text}?", worked, str(value), _near(rng, value, 20)


def _extreme(rng: Random) -> _Asked:
    tens = rng.sample(range(1, 100), 4)
    numbers = [10 * ten + digit for ten, digit in zip(tens, rng.sample(range(10), 4), strict=True)]
    largest = rng.random() < 0.5
    right = (max if largest else min)(numbers)
    order = sorted(numbers, reverse=largest)
    sign = " > " if largest else " < "
    return (
        f"Which number is the {'largest' if largest else 'smallest'}?",
        sign.join(str(n) for n in order[:2]),
        str(right),
        [str(n) for n in numbers if n != right],
    )


def _lookup(rng: Random) -> _Asked:
    people = rng.sample(PEOPLE, 4)
    ages = rng.sample(range(10, 80), 4)
    cities = rng.sample(CITIES, 4)
    table = ". ".join(f"{p} is {a} and lives in {c}" for p, a, c in zip(people, ages, cities, strict=True))
    by_age = sorted(range(4), key=lambda n: ages[n])
    at = rng.randrange(4)
    form = rng.randrange(4)
    if form == 0:
        ask, worked, right = f"Where does {people[at]} live?", f"{people[at]} lives in {cities[at]}", cities[at]
        return f"Here {table}. {ask}", worked, right, [c for c in cities if c != right]
    if form == 1:
        ask, worked, right = f"Who lives in {cities[at]}?", f"{people[at]} lives in {cities[at]}", people[at]
        return f"Here {table}. {ask}", worked, right, [p for p in people if p != right]
    old = form == 2
    at = by_age[-1] if old else by_age[0]
    worked = f"the {'oldest' if old else 'youngest'} is {people[at]} with {ages[at]}"
    if rng.random() < 0.5:
        ask, right, options = f"Where does the {'oldest' if old else 'youngest'} live?", cities[at], cities
        worked += f", {people[at]} lives in {cities[at]}"
    else:
        ask, right, options = f"Who is the {'oldest' if old else 'youngest'}?", people[at], people
    return f"Here {table}. {ask}", worked, right, [o for o in options if o != right]


def _sequence(rng: Random) -> _Asked:
    start, step = rng.randint(1, 60), rng.randint(2, 15) * rng.choice((1, 1, -1))
    if step < 0:
        start += -step * 5
    if rng.random() < 0.25:
        start, ratio = rng.randint(1, 9), rng.randint(2, 3)
        terms = [start * ratio**n for n in range(5)]
        worked = f"times {ratio}: {terms[3]} * {ratio} = {terms[4]}"
    else:
        terms = [start + step * n for n in range(5)]
        word, sign = ("plus", "+") if step > 0 else ("minus", "-")
        worked = f"{word} {abs(step)}: {terms[3]} {sign} {abs(step)} = {terms[4]}"
    shown = ", ".join(str(t) for t in terms[:4])
    return f"Which number comes next: {shown}?", worked, str(terms[4]), _near(rng, terms[4], 12)


def _kind(rng: Random) -> _Asked:
    kind, other = rng.sample(sorted(KINDS), 2)
    if rng.random() < 0.5:
        right = rng.choice(KINDS[kind])
        return (
            f"Which of these is a kind of {kind}?",
            f"{right} is a kind of {kind}",
            right,
            rng.sample(KINDS[other], 3),
        )
    right = rng.choice(KINDS[other])
    return (
        f"Which of these is not a kind of {kind}?",
        f"{right} is a kind of {other}",
        right,
        rng.sample(KINDS[kind], 3),
    )


def _days(rng: Random) -> _Asked:
    at, ahead = rng.randrange(7), rng.randint(2, 20)
    back = rng.random() < 0.4
    rest = ahead % 7
    passed = [DAYS[(at - n if back else at + n) % 7] for n in range(rest + 1)]
    asked = (
        f"What day was it {ahead} days before a {DAYS[at]}?"
        if back
        else f"What day is it {ahead} days after a {DAYS[at]}?"
    )
    counted = ", ".join(f"{day} {n}" for n, day in enumerate(passed))
    worked = f"{ahead} days are {ahead // 7} weeks and {rest}: {counted}"
    return asked, worked, passed[-1], rng.sample([day for day in DAYS if day != passed[-1]], 3)


def _alphabet(rng: Random) -> _Asked:
    words = [rng.choice([word for word in WORDS if word[0] == letter]) for letter in rng.sample(_INITIALS, 4)]
    first = rng.random() < 0.5
    right = (min if first else max)(words)
    initials = " ".join(sorted((word[0] for word in words), reverse=not first))
    return (
        f"Which word comes {'first' if first else 'last'} in the alphabet?",
        f"{initials}; {right}",
        right,
        [word for word in words if word != right],
    )


def _money(rng: Random) -> _Asked:
    n, price, paid = rng.randint(2, 9), rng.randint(2, 15), 0
    m, other = rng.randint(2, 9), rng.randint(2, 15)
    one, two = rng.sample(("cup", "pen", "lamp", "book", "plate", "ring"), 2)
    colour = rng.choice(COLOURS)
    total = n * price + m * other
    paid = total + rng.randint(1, 40)
    cost = f"A {colour} {one} costs {price} and a {two} costs {other}."
    ask = f"{cost} You buy {n} {one}s and {m} {two}s and pay with {paid}. What is the change?"
    parts = f"{n} * {price} = {n * price}, {m} * {other} = {m * other}"
    worked = f"{parts}, {n * price} + {m * other} = {total}, {paid} - {total} = {paid - total}"
    return ask, worked, str(paid - total), _near(rng, paid - total, 10)


_KINDS: dict[str, Callable[[Random], _Asked]] = {
    "compute": _compute,
    "extreme": _extreme,
    "lookup": _lookup,
    "sequence": _sequence,
    "kind": _kind,
    "days": _days,
    "alphabet": _alphabet,
    "money": _money,
}
KIND_WEIGHTS = {
    "compute": 2.0,
    "extreme": 1.0,
    "lookup": 2.5,
    "sequence": 1.5,
    "kind": 1.0,
    "days": 2.0,
    "alphabet": 1.5,
    "money": 2.5,
}
