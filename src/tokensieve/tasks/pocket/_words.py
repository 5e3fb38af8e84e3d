"""Word and string operations with a worked spelling where letters move, and the checker of their ``Answer:`` line."""

import re
from random import Random

from tokensieve.tasks.pocket._draw import Draft, split_words, weighted
from tokensieve.tasks.pocket._vocabulary import WORDS
from tokensieve.types import Outcome, Problem, Verdict

_FINAL = re.compile(r"^Answer:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_SYLLABLES = split_words(
    "ba be bo da de di fa fi go gu ka ke ki la le lo ma mi mo na ne no pa po ra re ri sa se so ta te to va vi zu"
)
OPERATIONS = {
    "reverse": 3.0,
    "count_letter": 3.0,
    "nth_reversed": 3.0,
    "sort": 3.0,
    "sort_length": 2.0,
    "replace": 2.0,
    "drop": 2.0,
    "initials": 1.5,
    "lasts": 2.0,
    "reverse_order": 1.5,
    "upper_nth": 1.5,
    "vowels": 2.0,
    "lengths": 2.0,
    "between": 1.0,
}


def draw(rng: Random, size: int) -> Draft:
    """A problem over about ``size`` words."""
    operation = weighted(rng, OPERATIONS)
    words = rng.sample(WORDS, size) if rng.random() < 0.7 else [made_up(rng) for _ in range(size)]
    asked, steps, answer = _OPERATIONS[operation](rng, words)
    prompt = f"{asked}\n{' '.join(words)}"
    return Draft(key=prompt, prompt=prompt, gold="\n".join([*steps, f"Answer: {answer}"]), facts={"answer": answer})


def made_up(rng: Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3)))


def _spelled(word: str) -> str:
    return " ".join(word)


_Worked = tuple[str, list[str], str]


def _reverse(rng: Random, words: list[str]) -> _Worked:
    del words[2:]
    if rng.random() < 0.6:
        del words[1:]
    steps = [f"{_spelled(word)} -> {_spelled(word[::-1])}" for word in words]
    asked = rng.choice(("Write backwards:", "Reverse the letters of each word:"))
    return asked, steps, " ".join(word[::-1] for word in words)


def _count_letter(rng: Random, words: list[str]) -> _Worked:
    letter = rng.choice("".join(words))
    counts = [word.count(letter) for word in words]
    steps = [f"{_spelled(word)}: {count}" for word, count in zip(words, counts, strict=True)]
    asked = rng.choice(("How many times does the letter {} occur?", "Count the letter {} in these words:")).format(
        letter
    )
    return asked, steps, str(sum(counts))


def _vowels(rng: Random, words: list[str]) -> _Worked:
    counts = [sum(letter in "aeiou" for letter in word) for word in words]
    steps = [f"{_spelled(word)}: {count}" for word, count in zip(words, counts, strict=True)]
    return rng.choice(("How many vowels are there in all?", "Count the vowels:")), steps, str(sum(counts))


def _lengths(_rng: Random, words: list[str]) -> _Worked:
    steps = [f"{_spelled(word)}: {len(word)}" for word in words]
    return "How many letters has each word?", steps, " ".join(str(len(word)) for word in words)


def _nth_reversed(rng: Random, words: list[str]) -> _Worked:
    n = rng.randrange(len(words))
    asked = f"Write the {_ORDINALS[n]} word backwards:"
    return asked, [f"{words[n]}: {_spelled(words[n])} -> {_spelled(words[n][::-1])}"], words[n][::-1]


def _sort(rng: Random, words: list[str]) -> _Worked:
    backwards = rng.random() < 0.3
    asked = "Sort from Z to A:" if backwards else rng.choice(("Sort alphabetically:", "Put in alphabetical order:"))
    return asked, [], " ".join(sorted(words, reverse=backwards))


def _sort_length(_rng: Random, words: list[str]) -> _Worked:
    steps = [", ".join(f"{word} {len(word)}" for word in words)]
    return "Sort by length, ties in the order given:", steps, " ".join(sorted(words, key=len))


def _replace(rng: Random, words: list[str]) -> _Worked:
    old, new = rng.sample("aeiou", 2)
    return f"Replace every {old} by {new}:", [], " ".join(words).replace(old, new)


def _drop(rng: Random, words: list[str]) -> _Worked:
    letter = rng.choice(rng.choice(words))
    kept = [word for word in words if letter not in word]
    return f"Leave out the words with the letter {letter}:", [], " ".join(kept) or "none"


def _initials(_rng: Random, words: list[str]) -> _Worked:
    return "Join the first letters:", [], "".join(word[0] for word in words)


def _lasts(_rng: Random, words: list[str]) -> _Worked:
    return "Join the last letters:", [], "".join(word[-1] for word in words)


def _reverse_order(_rng: Random, words: list[str]) -> _Worked:
    return "List the words from last to first:", [], " ".join(reversed(words))


def _upper_nth(rng: Random, words: list[str]) -> _Worked:
    n = rng.randrange(len(words))
    done = [word.upper() if at == n else word for at, word in enumerate(words)]
    return f"Write the {_ORDINALS[n]} word in capitals:", [], " ".join(done)


def _between(rng: Random, words: list[str]) -> _Worked:
    n = rng.randrange(len(words) - 1)
    return (
        f"Swap the {_ORDINALS[n]} and the {_ORDINALS[n + 1]} word:",
        [],
        " ".join([*words[:n], words[n + 1], words[n], *words[n + 2 :]]),
    )


_OPERATIONS = {
    "reverse": _reverse,
    "count_letter": _count_letter,
    "nth_reversed": _nth_reversed,
    "sort": _sort,
    "sort_length": _sort_length,
    "replace": _replace,
    "drop": _drop,
    "initials": _initials,
    "lasts": _lasts,
    "reverse_order": _reverse_order,
    "upper_nth": _upper_nth,
    "vowels": _vowels,
    "lengths": _lengths,
    "between": _between,
}


def check(problem: Problem, answer: str) -> Verdict:
    """The text of the last ``Answer:`` line must equal the reference; spaces are folded, case counts."""
    found = _FINAL.findall(answer)
    if not found or not found[-1]:
        return Verdict(Outcome.NO_ANSWER, reason="no line of the form 'Answer: …'")
    given = " ".join(str(found[-1]).split())
    return Verdict(Outcome.CORRECT if given == problem.facts["answer"] else Outcome.WRONG, extracted=given)
