"""Whether our judge of MATH finds what math-verify's own tests say: pairs of gold and answer with a verdict.

    pip download --no-deps --no-binary :all: math-verify==0.9.0 && tar xf math_verify-0.9.0.tar.gz
    python benchmarks/math_agreement.py math_verify-0.9.0/tests [--show]

Nothing of those files is run: their tables of ``gold, pred, expected`` are read as literals. Tests with other arguments
(a precision, another strictness) ask for another judge and are left out.
"""

import argparse
import ast
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from machine import describe_run

from tokensieve.tasks.answer_text import boxed
from tokensieve.tasks.math import check_math

_WANTED = ["gold", "pred", "expected"]


def pairs(folder: Path) -> Iterator[tuple[str, str, bool]]:
    """Gold, answer, and whether the authors hold them for equal."""
    for path in sorted(folder.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.parametrize"):
                continue
            try:
                names, table = (ast.literal_eval(argument) for argument in node.args[:2])
            except ValueError:  # a table that is computed
                continue
            if isinstance(names, str) and re.split(r"\s*,\s*", names) == _WANTED:
                yield from ((gold, answer, bool(expected)) for gold, answer, expected in table)


def formula(gold: str) -> str:
    """A gold answer as our benchmark files hold it: the formula without its delimiters."""
    inner = boxed(gold) or gold.strip()
    return inner.strip("$").strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", action="store_true", help="print the pairs that are judged otherwise")
    arguments = parser.parse_args()
    print(describe_run())
    listed = list(pairs(arguments.folder))
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda pair: check_math(pair[1], formula(pair[0])), listed))
    others = [(pair, verdict) for pair, verdict in zip(listed, verdicts, strict=True) if verdict.correct is not pair[2]]
    print(f"{len(listed) - len(others)} of {len(listed)} pairs are judged alike")
    lenient = sum(verdict.correct for _, verdict in others)
    print(
        f"of the others {lenient} are right for us and wrong for math-verify's tests, {len(others) - lenient} reversed"
    )
    if arguments.show:
        for (gold, answer, expected), verdict in others:
            print(f"{'equal' if expected else 'not equal'}: {gold!r} and {answer!r}; ours: {verdict}")


if __name__ == "__main__":
    main()
