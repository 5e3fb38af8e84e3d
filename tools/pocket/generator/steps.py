"""The steps that pocket's Python functions are composed of: the wordings of each and its code."""

from dataclasses import dataclass
from random import Random
from typing import Literal

Shape = Literal["ints", "words", "text", "int", "str", "bool"]
StepKind = Literal["filter", "map", "whole", "count", "sum", "any", "all", "value"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a function.

    Attributes:
        kind: ``filter`` and ``map`` work on each element; ``whole`` makes a sequence of a sequence; the others
            end the function: ``count``, ``sum``, ``any`` and ``all`` fold an element's expression, ``value`` is an
            expression of the sequence.
        wording: request in words; alternatives separated by `` | ``.
        code: the expression; ``{v}`` is the element or the sequence.
        takes: shape before.
        gives: shape after.
    """

    kind: StepKind
    wording: str
    code: str
    takes: Shape
    gives: Shape


_INT_TESTS = """
keep the even numbers | keep only even numbers # {v} % 2 == 0
keep the odd numbers | drop the even numbers # {v} % 2 == 1
keep the positive numbers | drop everything that is not positive # {v} > 0
keep the negative numbers | drop everything from 0 up # {v} < 0
keep the numbers above [a] | drop the numbers up to [a] # {v} > [a]
keep the numbers below [a] | drop the numbers from [a] up # {v} < [a]
keep the numbers that are at least [a] # {v} >= [a]
keep the numbers that are at most [a] # {v} <= [a]
keep the numbers above k | drop the numbers up to k # {v} > k
keep the numbers below k # {v} < k
keep the multiples of k # {v} % k == 0
keep the multiples of [a] | keep the numbers divisible by [a] # {v} % [a] == 0
drop the multiples of [a] | keep the numbers not divisible by [a] # {v} % [a] != 0
keep the numbers that leave [b] when divided by [a] # {v} % [a] == [b]
keep the numbers ending in [d] # abs({v}) % 10 == [d]
keep the numbers between [l] and [h] # [l] <= {v} <= [h]
drop the numbers between [l] and [h] # {v} < [l] or {v} > [h]
drop every [a] | keep everything but [a] # {v} != [a]
drop every k # {v} != k
keep the two-digit numbers # 10 <= abs({v}) <= 99
keep the one-digit numbers # abs({v}) < 10
keep the numbers with a square above [h] # {v} ** 2 > [h]
keep the even numbers above [a] # {v} % 2 == 0 and {v} > [a]
keep the odd numbers below [h] # {v} % 2 == 1 and {v} < [h]
keep the numbers that are negative or above [h] # {v} < 0 or {v} > [h]
keep the numbers that are even or a multiple of [a] # {v} % 2 == 0 or {v} % [a] == 0
keep the multiples of [a] that are not multiples of [e] # {v} % [a] == 0 and {v} % [e] != 0
keep the numbers with a digit sum above [a] # sum(int(d) for d in str(abs({v}))) > [a]
"""
_INT_MAPS = """
double each | multiply each by 2 # {v} * 2
triple each | multiply each by 3 # {v} * 3
multiply each by [a] # {v} * [a]
multiply each by k # {v} * k
add [a] to each | raise each by [a] # {v} + [a]
add k to each # {v} + k
subtract [a] from each | lower each by [a] # {v} - [a]
subtract each from [h] # [h] - {v}
square each | take the square of each # {v} ** 2
cube each # {v} ** 3
negate each | flip the sign of each # -{v}
take the absolute value of each | drop the signs # abs({v})
halve each, rounding down # {v} // 2
divide each by [a], rounding down # {v} // [a]
take each modulo [a] | take the remainder of each by [a] # {v} % [a]
take the last digit of each # abs({v}) % 10
cap each at [h] | lower those above [h] to [h] # min({v}, [h])
raise those below [l] to [l] # max({v}, [l])
replace the negative ones by 0 # max({v}, 0)
multiply each by [a] and add [b] # {v} * [a] + [b]
add [b] to each and multiply by [a] # ({v} + [b]) * [a]
multiply each by itself plus [b] # {v} * ({v} + [b])
take the distance of each from [a] # abs({v} - [a])
take the digit sum of each # sum(int(d) for d in str(abs({v})))
halve the even ones # {v} // 2 if {v} % 2 == 0 else {v}
double the odd ones # {v} * 2 if {v} % 2 == 1 else {v}
double those above [a] # {v} * 2 if {v} > [a] else {v}
"""
_ANY_WHOLES = """
reverse the list | turn the list around # {v}[::-1]
drop duplicates | keep the first of equal ones # list(dict.fromkeys({v}))
take the first [n] | keep only the first [n] # {v}[:[n]]
take the last [n] | keep only the last [n] # {v}[-[n]:]
skip the first [n] | drop the first [n] # {v}[[n]:]
drop the last [n] # {v}[:-[n]]
take every second one # {v}[::2]
take every second one from the second on # {v}[1::2]
take every third one # {v}[::3]
move the first [n] to the end # {v}[[n]:] + {v}[:[n]]
repeat the list twice # {v} * 2
append the list turned around # {v} + {v}[::-1]
drop the first and the last # {v}[1:-1]
"""
_INT_WHOLES = """
sort | sort from small to large # sorted({v})
sort from large to small | sort in falling order # sorted({v}, reverse=True)
sort by absolute value # sorted({v}, key=abs)
sort by the last digit # sorted({v}, key=lambda x: abs(x) % 10)
sort by the remainder by [a] # sorted({v}, key=lambda x: x % [a])
take the sums of neighbours # [a + b for a, b in zip({v}, {v}[1:])]
take the differences of neighbours # [b - a for a, b in zip({v}, {v}[1:])]
take the products of neighbours # [a * b for a, b in zip({v}, {v}[1:])]
take the larger of each two neighbours # [max(a, b) for a, b in zip({v}, {v}[1:])]
multiply each by its position | multiply each by its index # [i * x for i, x in enumerate({v})]
add to each its position # [i + x for i, x in enumerate({v})]
take the running sums # [sum({v}[: i + 1]) for i in range(len({v}))]
take the running maxima # [max({v}[: i + 1]) for i in range(len({v}))]
take the [n] largest # sorted({v}, reverse=True)[:[n]]
take the [n] smallest # sorted({v})[:[n]]
drop the smallest # sorted({v})[1:]
keep those larger than the one before # [b for a, b in zip({v}, {v}[1:]) if b > a]
keep those that occur once # [x for x in {v} if {v}.count(x) == 1]
keep those at least as large as the mean # [x for x in {v} if x * len({v}) >= sum({v})]
"""
_INT_VALUES = """
the sum | their sum # sum({v}) # int
how many there are | their number # len({v}) # int
the largest, 0 if there is none # max({v}, default=0) # int
the smallest, 0 if there is none # min({v}, default=0) # int
how many different ones there are # len(set({v})) # int
the largest minus the smallest, 0 if there is none # max({v}, default=0) - min({v}, default=0) # int
the mean rounded down, 0 if there is none # sum({v}) // len({v}) if {v} else 0 # int
the first, 0 if there is none # {v}[0] if {v} else 0 # int
the last, 0 if there is none # {v}[-1] if {v} else 0 # int
the second largest, 0 if there is none # sorted({v})[-2] if len({v}) > 1 else 0 # int
the middle one after sorting, 0 if there is none # sorted({v})[len({v}) // 2] if {v} else 0 # int
the alternating sum # sum({v}[::2]) - sum({v}[1::2]) # int
how often the largest occurs # {v}.count(max({v}, default=0)) # int
the position of the largest, -1 if there is none # {v}.index(max({v})) if {v} else -1 # int
whether they are in rising order # {v} == sorted({v}) # bool
whether all are different # len({v}) == len(set({v})) # bool
whether the list reads the same backwards # {v} == {v}[::-1] # bool
"""
_INT_FOLDS = """
the sum of the squares # sum # {v} ** 2
the sum of the absolute values # sum # abs({v})
the sum of the last digits # sum # abs({v}) % 10
how many are even # count # {v} % 2 == 0
how many are odd # count # {v} % 2 == 1
how many are above [a] # count # {v} > [a]
how many are negative # count # {v} < 0
how many are multiples of [a] # count # {v} % [a] == 0
whether all are positive # all # {v} > 0
whether all are below [h] # all # {v} < [h]
whether any is negative # any # {v} < 0
whether any is a multiple of [a] # any # {v} % [a] == 0
"""
_WORD_TESTS = """
keep the words longer than [n] | drop the words of up to [n] letters # len({v}) > [n]
keep the words shorter than [m] # len({v}) < [m]
keep the words longer than k # len({v}) > k
keep the words of [m] letters # len({v}) == [m]
keep the words of even length # len({v}) % 2 == 0
keep the words starting with [c] # {v}.startswith('[c]')
drop the words starting with [c] # not {v}.startswith('[c]')
keep the words ending in [c] # {v}.endswith('[c]')
keep the words with the letter [c] | keep the words that contain [c] # '[c]' in {v}
drop the words with the letter [c] # '[c]' not in {v}
keep the words starting with a vowel # {v}[0] in 'aeiou'
drop the words starting with a vowel # {v}[0] not in 'aeiou'
keep the words with two or more [c] # {v}.count('[c]') >= 2
keep the words whose first letter comes before [c] # {v}[0] < '[c]'
keep the words that start and end alike # {v}[0] == {v}[-1]
keep the words with [c] but not [f] # '[c]' in {v} and '[f]' not in {v}
keep the words with [c] or [f] # '[c]' in {v} or '[f]' in {v}
"""
_WORD_MAPS = """
put each in capitals | turn each to upper case # {v}.upper() # words
capitalise each | start each with a capital # {v}.capitalize() # words
write each backwards | reverse each word # {v}[::-1] # words
take the first letter of each # {v}[0] # words
take the last letter of each # {v}[-1] # words
take the first [n] letters of each # {v}[:[n]] # words
take the last [n] letters of each # {v}[-[n]:] # words
drop the first letter of each # {v}[1:] # words
drop the last letter of each # {v}[:-1] # words
write each twice # {v} * 2 # words
add [c] to the end of each # {v} + '[c]' # words
put [c] before each # '[c]' + {v} # words
replace [c] by [f] in each # {v}.replace('[c]', '[f]') # words
remove [c] from each # {v}.replace('[c]', '') # words
sort the letters of each # ''.join(sorted({v})) # words
move the first letter of each to the end # {v}[1:] + {v}[0] # words
put those longer than [m] in capitals # {v}.upper() if len({v}) > [m] else {v} # words
take the length of each | replace each by its length # len({v}) # ints
count the [c] in each # {v}.count('[c]') # ints
take the number of different letters of each # len(set({v})) # ints
count the vowels in each # sum(c in 'aeiou' for c in {v}) # ints
"""
_WORD_WHOLES = """
sort | sort alphabetically # sorted({v})
sort from z to a # sorted({v}, reverse=True)
sort by length # sorted({v}, key=len)
sort from long to short # sorted({v}, key=len, reverse=True)
sort by the last letter # sorted({v}, key=lambda w: w[-1])
join each with the next # [a + b for a, b in zip({v}, {v}[1:])]
put its position before each # [str(i) + w for i, w in enumerate({v})]
keep those longer than the one before # [b for a, b in zip({v}, {v}[1:]) if len(b) > len(a)]
"""
_WORD_VALUES = """
them joined by spaces # ' '.join({v}) # str
them joined by commas # ','.join({v}) # str
them joined by dashes # '-'.join({v}) # str
them joined without a gap # ''.join({v}) # str
how many there are # len({v}) # int
the longest, '' if there is none # max({v}, key=len, default='') # str
the shortest, '' if there is none # min({v}, key=len, default='') # str
the first in the alphabet, '' if there is none # min({v}, default='') # str
the last one, '' if there is none # {v}[-1] if {v} else '' # str
the first letters joined # ''.join(w[:1] for w in {v}) # str
the last letters joined # ''.join(w[-1:] for w in {v}) # str
how many different ones there are # len(set({v})) # int
the length of the longest, 0 if there is none # max((len(w) for w in {v}), default=0) # int
how often [c] occurs in all # ''.join({v}).count('[c]') # int
whether they are in alphabetical order # {v} == sorted({v}) # bool
"""
_WORD_FOLDS = """
the sum of the lengths # sum # len({v})
how many contain [c] # count # '[c]' in {v}
how many are longer than [n] # count # len({v}) > [n]
whether all are longer than [n] # all # len({v}) > [n]
whether any starts with [c] # any # {v}.startswith('[c]')
"""
_TEXT_WHOLES = """
split the text into words # {v}.split() # words
split the text at commas # {v}.split(',') # words
take the letters of the text # [c for c in {v} if c.isalpha()] # words
turn the text to capitals # {v}.upper() # text
replace [c] by [f] in the text # {v}.replace('[c]', '[f]') # text
remove every [c] from the text # {v}.replace('[c]', '') # text
reverse the text # {v}[::-1] # text
"""


def _table(text: str, kind: StepKind | None, takes: Shape, gives: Shape | None) -> tuple[Step, ...]:
    """The steps of one table; the third column is the kind of a fold or the shape where they differ by row."""
    steps = []
    for line in text.strip().splitlines():
        wording, *columns = (column.strip() for column in line.split(" # "))
        match columns:
            case [("sum" | "count" | "any" | "all") as fold, code]:
                shape: Shape = "int" if fold in ("sum", "count") else "bool"
                steps.append(Step(fold, wording, code, takes, shape))
            case [code, shape_name]:
                steps.append(Step(kind or "value", wording, code, takes, shape_name))  # type: ignore[arg-type]
            case [code]:
                steps.append(Step(kind or "value", wording, code, takes, gives or takes))
    return tuple(steps)


ON_INTS = {
    "filter": _table(_INT_TESTS, "filter", "ints", "ints"),
    "map": (*_table(_INT_MAPS, "map", "ints", "ints"), Step("map", "turn each into text", "str({v})", "ints", "words")),
    "whole": _table(_ANY_WHOLES, "whole", "ints", "ints") + _table(_INT_WHOLES, "whole", "ints", "ints"),
    "end": _table(_INT_VALUES, "value", "ints", None) + _table(_INT_FOLDS, None, "ints", None),
}
ON_WORDS = {
    "filter": _table(_WORD_TESTS, "filter", "words", "words"),
    "map": _table(_WORD_MAPS, "map", "words", None),
    "whole": _table(_ANY_WHOLES, "whole", "words", "words") + _table(_WORD_WHOLES, "whole", "words", "words"),
    "end": _table(_WORD_VALUES, "value", "words", None) + _table(_WORD_FOLDS, None, "words", None),
}
ON_TEXT = _table(_TEXT_WHOLES, "whole", "text", None)


def filled(rng: Random, step: Step) -> Step:
    """The step with one of its wordings and with numbers and letters for its places."""
    a = rng.randint(2, 12)
    low = rng.randint(-5, 9)
    values = {
        "[a]": a,
        "[b]": rng.randint(1, max(1, a - 1)),
        "[d]": rng.randint(0, 9),
        "[e]": rng.choice([n for n in range(2, 12) if n != a]),
        "[l]": low,
        "[h]": low + rng.randint(5, 30),
        "[n]": rng.randint(2, 4),
        "[m]": rng.randint(4, 7),
        "[c]": rng.choice("abcdeghiklmnoprstu"),
        "[f]": rng.choice("vwxyzfjq"),
    }
    wording = rng.choice([one.strip() for one in step.wording.split(" | ")])
    code = step.code
    for place, value in values.items():
        wording = wording.replace(place, str(value))
        code = code.replace(place, str(value))
    return Step(step.kind, wording, code, step.takes, step.gives)
