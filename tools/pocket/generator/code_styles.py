"""Other code styles for the same functions: loops for comprehensions, names, comments, spacing, tabs, line ends."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tools.pocket.generator.programs import SEQUENCES, Program
from tools.pocket.generator.steps import Shape, Step

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
_UNSEEN_LISTS = (
    "foo", "theList", "xx", "aa", "newlst", "l2", "final", "goodOnes", "vals_", "stuff", "bucket", "resultat", "RES",
    "list_of_things", "newArr", "step1", "nums2", "my_res", "o", "m2",
)  # fmt: skip
_UNSEEN_ITEMS = (
    "zz",
    "number",
    "a_value",
    "u",
    "g",
    "h",
    "entry",
    "ii",
    "one",
    "curVal",
    "this",
    "X",
    "xi",
    "_x",
    "el_",
)
_UNSEEN_TOTALS = ("TOTAL", "summe", "s_", "how_many", "endResult", "nr", "rtn", "Ans", "f", "tally_", "running", "hits")
_COMMENTS = ("# {}", "# step {n}: {}", "#{}", "## {}", "# TODO check: {}", "# now {}")
_OPERATORS = re.compile(r" (==|!=|<=|>=|<|>|\+|-|\*\*|\*|//|%) ")


@dataclass(frozen=True, slots=True)
class CodeStyle:
    """One author's code style.

    Attributes:
        indent: one level of indentation.
        newline: line end.
        loops: chance that a step is written as a loop.
        while_loops: whether such a loop counts with an index.
        names: chance that a result has a name of the author's own.
        comments: chance of a comment before a step.
        tight: whether operators stand without spaces.
        parentheses: chance of needless parentheses around a condition or a result.
        double_quotes: whether text is in double quotes.
        docstring: whether the function begins by saying what it does.
        blank_lines: chance of an empty line between steps.
        unseen_names: chance that such a name is one that pretraining does not hold.
    """

    indent: str = "    "
    newline: str = "\n"
    loops: float = 0.8
    while_loops: bool = False
    names: float = 0.8
    comments: float = 0.0
    tight: bool = False
    parentheses: float = 0.0
    double_quotes: bool = False
    docstring: bool = False
    blank_lines: float = 0.0
    unseen_names: float = 0.0


def familiar_style(rng: Random) -> CodeStyle:
    """A style of the minority of pretraining answers: loops, other names, some comments."""
    return CodeStyle(
        indent=rng.choice(("    ", "    ", "  ", "\t")),
        newline="\r\n" if rng.random() < 0.15 else "\n",
        loops=rng.choice((0.5, 0.9)),
        while_loops=rng.random() < 0.1,
        names=rng.choice((0.0, 0.5, 0.9)),
        comments=rng.choice((0.0, 0.0, 0.4)),
        tight=rng.random() < 0.25,
        parentheses=rng.choice((0.0, 0.0, 0.3)),
        double_quotes=rng.random() < 0.4,
        docstring=rng.random() < 0.1,
        blank_lines=rng.choice((0.0, 0.0, 0.3)),
    )


def any_style(rng: Random) -> CodeStyle:
    """A style of the fine-tuning target; it deviates further than :func:`familiar_style`."""
    return CodeStyle(
        indent=rng.choice(("    ", "  ", "\t", "\t", "   ")),
        newline="\r\n" if rng.random() < 0.4 else "\n",
        loops=rng.choice((0.7, 1.0)),
        while_loops=rng.random() < 0.2,
        names=rng.choice((0.7, 1.0)),
        comments=rng.choice((0.0, 0.3, 0.6)),
        tight=rng.random() < 0.4,
        parentheses=rng.choice((0.0, 0.4, 0.8)),
        double_quotes=rng.random() < 0.6,
        docstring=rng.random() < 0.15,
        blank_lines=rng.choice((0.0, 0.2, 0.4)),
        unseen_names=rng.choice((0.3, 0.7)),
    )


def write_in_style(program: Program, style: CodeStyle, rng: Random) -> str:
    """The program's function in this style; it computes the same."""
    body: list[str] = []
    if style.docstring:
        quotes = rng.choice(('"""', "'''"))
        body.append(f"{quotes}{program.steps[-1].wording}{quotes}")
    name = SEQUENCES[program.takes]
    taken = {name, "k", "x", "w", "c", "d", "b", "a"}
    for index, step in enumerate(program.steps):
        last = index == len(program.steps) - 1
        if index and rng.random() < style.blank_lines:
            body.append("")
        if rng.random() < style.comments:
            comment = rng.choice(_COMMENTS)
            body.append(comment.replace("{n}", str(index + 1)).replace("{}", _short(step.wording, rng)))
        result = _result_name(rng, style, step.gives, taken)
        lines, name = _step(rng, style, step, name, result, taken)
        body += lines
        if last:
            body.append(_returned(rng, style, name))
    lines = [f"def {program.name}({program.parameters}):", *(f"{style.indent}{line}".rstrip() for line in body)]
    return style.newline.join(line.replace("\t", style.indent) for line in _spacing(style, lines))


def _short(asked: str, rng: Random) -> str:
    words = asked.split()
    return " ".join(words[: rng.randint(2, max(2, len(words)))])


def _result_name(rng: Random, style: CodeStyle, gives: Shape, taken: set[str]) -> str:
    if gives not in SEQUENCES:
        return _fresh(rng, _UNSEEN_TOTALS if _draws_unseen_name(rng, style) else _TOTALS, taken)
    if rng.random() < style.names:
        return _fresh(rng, _UNSEEN_LISTS if _draws_unseen_name(rng, style) else _LISTS, taken)
    return SEQUENCES[gives]


def _draws_unseen_name(rng: Random, style: CodeStyle) -> bool:
    # A style without unseen_names names draws nothing here: what pretraining draws must not depend on this habit.
    return style.unseen_names > 0 and rng.random() < style.unseen_names


def _fresh(rng: Random, names: tuple[str, ...], taken: set[str]) -> str:
    name = rng.choice([name for name in names if name not in taken] or [f"v{len(taken)}"])
    taken.add(name)
    return name


def _step(rng: Random, style: CodeStyle, step: Step, name: str, result: str, taken: set[str]) -> tuple[list[str], str]:
    """The lines of one step, and the name (or expression) its result has."""
    items = _UNSEEN_ITEMS if _draws_unseen_name(rng, style) else _ITEMS
    item = rng.choice([item for item in items if item not in taken and item != result])
    inner = step.code.format(v=item)
    if step.kind in ("whole", "value"):
        return _whole(rng, step, name, result)
    if rng.random() >= style.loops:
        if step.kind == "filter":
            return [f"{result} = [{item} for {item} in {name} if {inner}]"], result
        if step.kind == "map":
            return [f"{result} = [{inner} for {item} in {name}]"], result
        fold = "sum" if step.kind in ("sum", "count") else step.kind
        return [f"{result} = {fold}([{inner} for {item} in {name}])"], result
    return _LOOPS[step.kind](rng, style, name, result, item, inner)


def _head(style: CodeStyle, name: str, item: str, inner: list[str]) -> list[str]:
    """A loop over the sequence around the inner lines."""
    if style.while_loops:
        index = "idx" if name != "idx" else "j"
        return [
            f"{index} = 0",
            f"while {index} < len({name}):",
            f"\t{item} = {name}[{index}]",
            *(f"\t{line}" for line in inner),
            f"\t{index} += 1",
        ]
    return [f"for {item} in {name}:", *(f"\t{line}" for line in inner)]


def _if(rng: Random, style: CodeStyle, condition: str) -> str:
    return f"if ({condition}):" if rng.random() < style.parentheses else f"if {condition}:"


_Lines = tuple[list[str], str]


def _filter_loop(rng: Random, style: CodeStyle, name: str, result: str, item: str, inner: str) -> _Lines:
    # The old list is read while the new one grows: where both have one name, the loop reads a copy's name.
    start, source = _guarded(name, result)
    lines = _head(style, source, item, [_if(rng, style, inner), f"\t{result}.append({item})"])
    return [*start, f"{result} = []", *lines], result


def _map_loop(rng: Random, style: CodeStyle, name: str, result: str, item: str, inner: str) -> _Lines:
    start, source = _guarded(name, result)
    append = rng.choice(("{0}.append({1})", "{0}.append({1})", "{0} += [{1}]")).format(result, inner)
    return [*start, f"{result} = []", *_head(style, source, item, [append])], result


def _guarded(name: str, result: str) -> tuple[list[str], str]:
    return ([f"old = {name}"], "old") if name == result else ([], name)


def _count_loop(rng: Random, style: CodeStyle, name: str, result: str, item: str, inner: str) -> _Lines:
    add = rng.choice((f"{result} += 1", f"{result} = {result} + 1"))
    return [f"{result} = 0", *_head(style, name, item, [_if(rng, style, inner), f"\t{add}"])], result


def _sum_loop(rng: Random, style: CodeStyle, name: str, result: str, item: str, inner: str) -> _Lines:
    add = rng.choice((f"{result} += {inner}", f"{result} = {result} + {inner}"))
    return [f"{result} = 0", *_head(style, name, item, [add])], result


def _any_loop(rng: Random, style: CodeStyle, name: str, result: str, item: str, inner: str) -> _Lines:
    return [f"{result} = False", *_head(style, name, item, [_if(rng, style, inner), f"\t{result} = True"])], result


def _all_loop(_rng: Random, style: CodeStyle, name: str, result: str, item: str, inner: str) -> _Lines:
    return [f"{result} = True", *_head(style, name, item, [f"if not ({inner}):", f"\t{result} = False"])], result


_LOOPS: dict[str, Callable[[Random, CodeStyle, str, str, str, str], _Lines]] = {
    "filter": _filter_loop,
    "map": _map_loop,
    "count": _count_loop,
    "sum": _sum_loop,
    "any": _any_loop,
    "all": _all_loop,
}


def _whole(rng: Random, step: Step, name: str, result: str) -> _Lines:
    expression = step.code.format(v=name)
    if step.code.startswith("sorted({v}") and step.kind == "whole" and step.code.endswith(")") and rng.random() < 0.5:
        options = step.code[len("sorted({v}") : -1].lstrip(", ")
        return [f"{result} = list({name})", f"{result}.sort({options})"], result
    if step.code == "{v}[::-1]" and step.takes != "text" and rng.random() < 0.5:
        return [f"{result} = list({name})", f"{result}.reverse()"], result
    if step.code == "len({v})" and rng.random() < 0.3:
        return [f"{result} = 0", f"for _ in {name}:", f"\t{result} += 1"], result
    return [f"{result} = {expression}"], result


def _returned(rng: Random, style: CodeStyle, name: str) -> str:
    return f"return({name})" if rng.random() < style.parentheses else f"return {name}"


def _spacing(style: CodeStyle, lines: list[str]) -> list[str]:
    """Spacing and quotes, outside comments and docstrings."""
    done = []
    for line in lines:
        if line.lstrip().startswith(("#", '"""', "'''")):
            done.append(line)
            continue
        pieces = line.split("'")
        if style.tight:
            pieces[::2] = [_OPERATORS.sub(r"\1", piece).replace(" = ", "=").replace(", ", ",") for piece in pieces[::2]]
        done.append(('"' if style.double_quotes else "'").join(pieces))
    return done
