"""How other people write the same functions: loops for comprehensions, names, comments, spacing, tabs, line ends."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tokensieve.tasks.pocket.programs import SEQUENCES, Program
from tokensieve.tasks.pocket.steps import Shape, Step

_LISTS = (
    "res",
    "result",
    "out",
    "lst",
    "tmp",
    "new_list",
    "ans",
    "acc",
    "r",
    "L",
    "myList",
    "output",
    "kept",
    "a1",
    "ret",
    "data",
)
_ITEMS = ("i", "el", "item", "n", "val", "num", "elem", "t", "e", "cur", "obj", "thing", "y", "p", "it", "q")
_TOTALS = ("total", "cnt", "count", "s1", "tot", "c", "sum_", "counter", "flag", "found", "answer", "z", "k1", "value")
_ODD_LISTS = (
    "foo", "theList", "xx", "aa", "newlst", "l2", "final", "goodOnes", "vals_", "stuff", "bucket", "resultat", "RES",
    "list_of_things", "newArr", "step1", "nums2", "my_res", "o", "m2",
)  # fmt: skip
_ODD_ITEMS = ("zz", "number", "a_value", "u", "g", "h", "entry", "ii", "one", "curVal", "this", "X", "xi", "_x", "el_")
_ODD_TOTALS = ("TOTAL", "summe", "s_", "how_many", "endResult", "nr", "rtn", "Ans", "f", "tally_", "running", "hits")
_REMARKS = ("# {}", "# step {n}: {}", "#{}", "## {}", "# TODO check: {}", "# now {}")
_OPERATORS = re.compile(r" (==|!=|<=|>=|<|>|\+|-|\*\*|\*|//|%) ")


@dataclass(frozen=True, slots=True)
class Hand:
    """One person's habits.

    Attributes:
        indent: one level of indentation.
        newline: line end.
        loops: chance that a step is written as a loop.
        while_loops: whether such a loop counts with an index.
        names: chance that a name of the person's own is used for a result.
        remarks: chance of a comment before a step.
        tight: whether operators stand without spaces.
        parens: chance of needless parentheses around a condition or a result.
        double_quotes: whether text is in double quotes.
        docstring: whether the function begins by saying what it does.
        gaps: chance of an empty line between steps.
        odd: chance that a name of the person's own is of a kind that pretraining does not hold.
    """

    indent: str = "    "
    newline: str = "\n"
    loops: float = 0.8
    while_loops: bool = False
    names: float = 0.8
    remarks: float = 0.0
    tight: bool = False
    parens: float = 0.0
    double_quotes: bool = False
    docstring: bool = False
    gaps: float = 0.0
    odd: float = 0.0


def familiar_hand(rng: Random) -> Hand:
    """A hand as pretraining holds at a low rate: loops, other names, some comments."""
    return Hand(
        indent=rng.choice(("    ", "    ", "  ", "\t")),
        newline="\r\n" if rng.random() < 0.15 else "\n",
        loops=rng.choice((0.5, 0.9)),
        while_loops=rng.random() < 0.1,
        names=rng.choice((0.0, 0.5, 0.9)),
        remarks=rng.choice((0.0, 0.0, 0.4)),
        tight=rng.random() < 0.25,
        parens=rng.choice((0.0, 0.0, 0.3)),
        double_quotes=rng.random() < 0.4,
        docstring=rng.random() < 0.1,
        gaps=rng.choice((0.0, 0.0, 0.3)),
    )


def any_hand(rng: Random) -> Hand:
    """A hand out of a crowd whose habits go further than those of :func:`familiar_hand`."""
    return Hand(
        indent=rng.choice(("    ", "  ", "\t", "\t", "   ")),
        newline="\r\n" if rng.random() < 0.4 else "\n",
        loops=rng.choice((0.7, 1.0)),
        while_loops=rng.random() < 0.2,
        names=rng.choice((0.7, 1.0)),
        remarks=rng.choice((0.0, 0.3, 0.6)),
        tight=rng.random() < 0.4,
        parens=rng.choice((0.0, 0.4, 0.8)),
        double_quotes=rng.random() < 0.6,
        docstring=rng.random() < 0.15,
        gaps=rng.choice((0.0, 0.2, 0.4)),
        odd=rng.choice((0.3, 0.7)),
    )


def by_hand(program: Program, hand: Hand, rng: Random) -> str:
    """The function as this person writes it; it computes the same."""
    body: list[str] = []
    if hand.docstring:
        quotes = rng.choice(('"""', "'''"))
        body.append(f"{quotes}{program.steps[-1].asked}{quotes}")
    name = SEQUENCES[program.takes]
    taken = {name, "k", "x", "w", "c", "d", "b", "a"}
    for index, step in enumerate(program.steps):
        last = index == len(program.steps) - 1
        if index and rng.random() < hand.gaps:
            body.append("")
        if rng.random() < hand.remarks:
            remark = rng.choice(_REMARKS)
            body.append(remark.replace("{n}", str(index + 1)).replace("{}", _short(step.asked, rng)))
        result = _result_name(rng, hand, step.gives, taken)
        lines, name = _step(rng, hand, step, name, result, taken)
        body += lines
        if last:
            body.append(_returned(rng, hand, name))
    lines = [f"def {program.name}({program.parameters}):", *(f"{hand.indent}{line}".rstrip() for line in body)]
    return hand.newline.join(line.replace("\t", hand.indent) for line in _quirks(hand, lines))


def _short(asked: str, rng: Random) -> str:
    words = asked.split()
    return " ".join(words[: rng.randint(2, max(2, len(words)))])


def _result_name(rng: Random, hand: Hand, gives: Shape, taken: set[str]) -> str:
    if gives not in SEQUENCES:
        return _fresh(rng, _ODD_TOTALS if _is_odd(rng, hand) else _TOTALS, taken)
    if rng.random() < hand.names:
        return _fresh(rng, _ODD_LISTS if _is_odd(rng, hand) else _LISTS, taken)
    return SEQUENCES[gives]


def _is_odd(rng: Random, hand: Hand) -> bool:
    # A hand without odd names draws nothing here: what pretraining draws must not depend on this habit.
    return hand.odd > 0 and rng.random() < hand.odd


def _fresh(rng: Random, names: tuple[str, ...], taken: set[str]) -> str:
    name = rng.choice([name for name in names if name not in taken] or [f"v{len(taken)}"])
    taken.add(name)
    return name


def _step(rng: Random, hand: Hand, step: Step, name: str, result: str, taken: set[str]) -> tuple[list[str], str]:
    """The lines of one step, and the name (or expression) its result has."""
    items = _ODD_ITEMS if _is_odd(rng, hand) else _ITEMS
    item = rng.choice([item for item in items if item not in taken and item != result])
    inner = step.code.format(v=item)
    if step.way in ("whole", "value"):
        return _whole(rng, step, name, result)
    if rng.random() >= hand.loops:
        if step.way == "filter":
            return [f"{result} = [{item} for {item} in {name} if {inner}]"], result
        if step.way == "map":
            return [f"{result} = [{inner} for {item} in {name}]"], result
        fold = "sum" if step.way in ("sum", "count") else step.way
        return [f"{result} = {fold}([{inner} for {item} in {name}])"], result
    return _LOOPS[step.way](rng, hand, name, result, item, inner)


def _head(hand: Hand, name: str, item: str, inner: list[str]) -> list[str]:
    """A loop over the sequence around the inner lines."""
    if hand.while_loops:
        index = "idx" if name != "idx" else "j"
        return [
            f"{index} = 0",
            f"while {index} < len({name}):",
            f"\t{item} = {name}[{index}]",
            *(f"\t{line}" for line in inner),
            f"\t{index} += 1",
        ]
    return [f"for {item} in {name}:", *(f"\t{line}" for line in inner)]


def _if(rng: Random, hand: Hand, condition: str) -> str:
    return f"if ({condition}):" if rng.random() < hand.parens else f"if {condition}:"


_Lines = tuple[list[str], str]


def _filter_loop(rng: Random, hand: Hand, name: str, result: str, item: str, inner: str) -> _Lines:
    # The old list is read while the new one grows: where both have one name, the loop reads a copy's name.
    start, source = _guarded(name, result)
    lines = _head(hand, source, item, [_if(rng, hand, inner), f"\t{result}.append({item})"])
    return [*start, f"{result} = []", *lines], result


def _map_loop(rng: Random, hand: Hand, name: str, result: str, item: str, inner: str) -> _Lines:
    start, source = _guarded(name, result)
    append = rng.choice(("{0}.append({1})", "{0}.append({1})", "{0} += [{1}]")).format(result, inner)
    return [*start, f"{result} = []", *_head(hand, source, item, [append])], result


def _guarded(name: str, result: str) -> tuple[list[str], str]:
    return ([f"old = {name}"], "old") if name == result else ([], name)


def _count_loop(rng: Random, hand: Hand, name: str, result: str, item: str, inner: str) -> _Lines:
    add = rng.choice((f"{result} += 1", f"{result} = {result} + 1"))
    return [f"{result} = 0", *_head(hand, name, item, [_if(rng, hand, inner), f"\t{add}"])], result


def _sum_loop(rng: Random, hand: Hand, name: str, result: str, item: str, inner: str) -> _Lines:
    add = rng.choice((f"{result} += {inner}", f"{result} = {result} + {inner}"))
    return [f"{result} = 0", *_head(hand, name, item, [add])], result


def _any_loop(rng: Random, hand: Hand, name: str, result: str, item: str, inner: str) -> _Lines:
    return [f"{result} = False", *_head(hand, name, item, [_if(rng, hand, inner), f"\t{result} = True"])], result


def _all_loop(_rng: Random, hand: Hand, name: str, result: str, item: str, inner: str) -> _Lines:
    return [f"{result} = True", *_head(hand, name, item, [f"if not ({inner}):", f"\t{result} = False"])], result


_LOOPS: dict[str, Callable[[Random, Hand, str, str, str, str], _Lines]] = {
    "filter": _filter_loop,
    "map": _map_loop,
    "count": _count_loop,
    "sum": _sum_loop,
    "any": _any_loop,
    "all": _all_loop,
}


def _whole(rng: Random, step: Step, name: str, result: str) -> _Lines:
    expression = step.code.format(v=name)
    if step.code.startswith("sorted({v}") and step.way == "whole" and step.code.endswith(")") and rng.random() < 0.5:
        options = step.code[len("sorted({v}") : -1].lstrip(", ")
        return [f"{result} = list({name})", f"{result}.sort({options})"], result
    if step.code == "{v}[::-1]" and step.takes != "text" and rng.random() < 0.5:
        return [f"{result} = list({name})", f"{result}.reverse()"], result
    if step.code == "len({v})" and rng.random() < 0.3:
        return [f"{result} = 0", f"for _ in {name}:", f"\t{result} += 1"], result
    return [f"{result} = {expression}"], result


def _returned(rng: Random, hand: Hand, name: str) -> str:
    return f"return({name})" if rng.random() < hand.parens else f"return {name}"


def _quirks(hand: Hand, lines: list[str]) -> list[str]:
    """Spacing and quotes, outside comments and docstrings."""
    done = []
    for line in lines:
        if line.lstrip().startswith(("#", '"""', "'''")):
            done.append(line)
            continue
        pieces = line.split("'")
        if hand.tight:
            pieces[::2] = [_OPERATORS.sub(r"\1", piece).replace(" = ", "=").replace(", ", ",") for piece in pieces[::2]]
        done.append(('"' if hand.double_quotes else "'").join(pieces))
    return done
