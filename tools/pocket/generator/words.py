"""Word and string operations, worked out word by word."""

from collections.abc import Callable, Mapping
from random import Random

from tools.pocket.generator.seeding import Draft, split_words, weighted
from tools.pocket.generator.vocabulary import WORDS

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_SYLLABLES = split_words(
    "ba be bo da de di fa fi go gu ka ke ki la le lo ma mi mo na ne no pa po ra re ri sa se so ta te to va vi zu"
)
OPERATIONS = {
    "reverse": 2.0,
    "nth_reversed": 1.5,
    "capitals": 1.5,
    "replace": 1.5,
    "count_letter": 1.5,
    "vowels": 1.5,
    "letters": 1.0,
    "initials": 1.0,
    "lasts": 1.0,
    "neighbour": 1.0,
    "swap": 1.0,
    "having": 1.5,
    "longer": 1.0,
    "last_first": 0.7,
    "sort": 0.7,
}
"""The operations, and how often pretraining draws each."""


def draw(rng: Random, size: int, operations: Mapping[str, float] = OPERATIONS) -> Draft:
    """A problem over about ``size`` words.

    Every word and letter has a space before it, in the prompt as in the response: to a byte-level tokenizer a word at
    the start of a line is another word, and a model this small copies only what looks the same.
    """
    operation = weighted(rng, operations)
    words = rng.sample(WORDS, size)
    if rng.random() < 0.3:
        while len(set(words := [made_up(rng) for _ in range(size)])) < size:
            pass
    asked, steps, answer = _OPERATIONS[operation](rng, words)
    prompt = f"{asked} {' '.join(words)}"
    gold = "\n".join([*(f"- {step}" for step in steps), f"Answer: {answer}"])
    return Draft(key=prompt, prompt=prompt, gold=gold, facts={"answer": answer})


def made_up(rng: Random) -> str:
    """A word of two or three drawn syllables."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3)))


def spelled(word: str) -> str:
    """The word's letters with spaces between."""
    return " ".join(word)


def counted(word: str, letters: str, start: int = 0) -> str:
    """Each letter with how many of those that count there have been up to it: ``t0 r1 e1 e1`` for an r."""
    return " ".join(
        f"{letter}{start + sum(seen in letters for seen in word[: at + 1])}" for at, letter in enumerate(word)
    )


_Worked = tuple[str, list[str], str]
"""The question, the worked lines, the answer."""


def _reverse(rng: Random, words: list[str]) -> _Worked:
    del words[2 if rng.random() < 0.4 else 1 :]
    steps = [f"{word}: {spelled(word)}" for word in words]
    asked = rng.choice(("Spell backwards:", "Spell from the last letter to the first:"))
    return asked, steps, ", ".join(spelled(word[::-1]) for word in words)


def _nth_reversed(rng: Random, words: list[str]) -> _Worked:
    n = rng.randrange(len(words))
    asked = f"Spell the {_ORDINALS[n]} word backwards:"
    return asked, [f"{words[n]}: {spelled(words[n])}"], spelled(words[n][::-1])


def _capitals(rng: Random, words: list[str]) -> _Worked:
    n = rng.randrange(len(words))
    asked = f"Spell the {_ORDINALS[n]} word in capitals:"
    return asked, [f"{words[n]}: {spelled(words[n])}"], spelled(words[n].upper())


def _replace(rng: Random, words: list[str]) -> _Worked:
    del words[2 if rng.random() < 0.4 else 1 :]
    old, new = rng.sample("aeiou", 2)
    if old not in "".join(words):
        old = rng.choice([letter for letter in "".join(words) if letter != new])
    steps = [f"{word}: {spelled(word)}" for word in words]
    return f"Spell with {new} for {old}:", steps, ", ".join(spelled(word.replace(old, new)) for word in words)


def _count_letter(rng: Random, words: list[str]) -> _Worked:
    del words[3:]
    letter = rng.choice("".join(words))
    asked = rng.choice(("How many times does the letter {} occur in", "Count the letter {} in"))
    return f"{asked.format(letter)}:", *_running(words, letter)


def _vowels(rng: Random, words: list[str]) -> _Worked:
    del words[3:]
    return rng.choice(("How many vowels are in", "Count the vowels in")) + ":", *_running(words, "aeiou")


def _letters(_rng: Random, words: list[str]) -> _Worked:
    del words[3:]
    return "How many letters are in:", *_running(words, "".join(words))


def _running(words: list[str], letters: str) -> tuple[list[str], str]:
    """The lines of one count that goes on from word to word, and where it ends."""
    steps, total = [], 0
    for word in words:
        steps.append(f"{word}: {counted(word, letters, total)}")
        total += sum(letter in letters for letter in word)
    return steps, str(total)


def _initials(_rng: Random, words: list[str]) -> _Worked:
    return "Give each word's first letter:", [], ", ".join(f"{word} {word[0]}" for word in words)


def _lasts(_rng: Random, words: list[str]) -> _Worked:
    return "Give each word's last letter:", [], ", ".join(f"{word} {word[-1]}" for word in words)


def _neighbour(rng: Random, words: list[str]) -> _Worked:
    after = rng.random() < 0.6
    n = rng.randrange(len(words) - 1)
    one, other = (words[n], words[n + 1]) if after else (words[n + 1], words[n])
    return f"Which word stands {'after' if after else 'before'} {one} in:", [], other


def _swap(rng: Random, words: list[str]) -> _Worked:
    n = rng.randrange(len(words) - 1)
    swapped = [*words[:n], words[n + 1], words[n], *words[n + 2 :]]
    return f"Swap the {_ORDINALS[n]} and the {_ORDINALS[n + 1]} word:", [], " ".join(swapped)


def _having(rng: Random, words: list[str]) -> _Worked:
    del words[4:]
    letter = rng.choice(rng.choice(words))
    steps, found = [], 0
    for word in words:
        found += letter in word
        steps.append(f"{word}: {spelled(word)}; {found}")
    return f"How many of these words have the letter {letter}:", steps, str(found)


def _longer(rng: Random, words: list[str]) -> _Worked:
    del words[4:]
    most = rng.randint(3, 6)
    steps, found = [], 0
    for word in words:
        found += len(word) > most
        steps.append(f"{word}: {counted(word, word)}; {found}")
    return f"How many of these words have more than {most} letters:", steps, str(found)


def _last_first(_rng: Random, words: list[str]) -> _Worked:
    return "List the words from last to first:", [], " ".join(reversed(words))


def _sort(rng: Random, words: list[str]) -> _Worked:
    del words[4:]
    backwards = rng.random() < 0.3
    done = sorted(words, reverse=backwards)
    asked = "Sort from Z to A:" if backwards else rng.choice(("Sort alphabetically:", "Put in alphabetical order:"))
    letters = " ".join(sorted((word[0] for word in words), reverse=backwards))
    return asked, [" ".join(f"{word[0]} {word}" for word in words), letters], " ".join(done)


_OPERATIONS: dict[str, Callable[[Random, list[str]], _Worked]] = {
    "reverse": _reverse,
    "nth_reversed": _nth_reversed,
    "capitals": _capitals,
    "replace": _replace,
    "count_letter": _count_letter,
    "vowels": _vowels,
    "letters": _letters,
    "initials": _initials,
    "lasts": _lasts,
    "neighbour": _neighbour,
    "swap": _swap,
    "having": _having,
    "longer": _longer,
    "last_first": _last_first,
    "sort": _sort,
}
