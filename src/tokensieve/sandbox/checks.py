"""Compiling the checker's own parts so that the program under test cannot answer for them.

Tests run in the interpreter of the code that they test. Two cheap ways to pass every one of them are closed here: an
object that says of itself that it equals whatever it is compared with, and built-in functions put in place of Python's
own. What a determined program can still do is said in the package's docstring.
"""

import ast
import builtins
import operator
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

_Asked: TypeAlias = Callable[[Any, Any], object]

_QUESTIONS: Final[Mapping[str, _Asked]] = types.MappingProxyType(
    {
        "Eq": operator.eq,
        "NotEq": operator.ne,
        "Lt": operator.lt,
        "LtE": operator.le,
        "Gt": operator.gt,
        "GtE": operator.ge,
        "In": lambda item, holder: operator.contains(holder, item),
        "NotIn": lambda item, holder: not operator.contains(holder, item),
    }
)
"""Kinds of comparison by their names in ``ast``."""
_ANSWERED_BY: Final = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__contains__")
_LOOKED_AT: Final = 10_000
"""Items of a value that are looked at; comparing is not to cost more than computing."""

_COMPARE: Final = "\0compare"
_RESTORE: Final = "\0restore"
"""Constants that stand for functions until the code is compiled: a constant has no name that could be taken over."""


class SelfMade(AssertionError):
    """A comparison was decided by the program's own object."""


def compiled(part: str, file_name: str, *, own_equality: bool, restore_first: bool) -> types.CodeType:
    """A part of the checker as code.

    Args:
        part: its text.
        file_name: what stands for a file's name in tracebacks.
        own_equality: whether the program's objects may decide what they equal; else comparisons ask ``_compare``.
        restore_first: begin by putting Python's built-in functions back as they are now.

    Raises:
        SyntaxError: it is no Python, or as ``compile``.
    """
    tree = ast.parse(part, file_name)
    functions: dict[str, Callable[..., object]] = {_COMPARE: _compare}
    if not own_equality:
        tree = _Comparisons().visit(tree)
    if restore_first:
        functions[_RESTORE] = _restorer()
        future = sum(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
        tree.body.insert(future, ast.Expr(ast.Call(ast.Constant(_RESTORE), [], [])))
    with warnings.catch_warnings():
        # Of the constants, which are no functions as long as they are compiled.
        warnings.simplefilter("ignore")
        code = compile(ast.fix_missing_locations(tree), file_name, "exec", dont_inherit=True)
    return _with_functions(code, functions)


def _restorer() -> Callable[[], None]:
    now, kept, clear, update = vars(builtins), dict(vars(builtins)), dict.clear, dict.update

    def restore() -> None:
        clear(now)
        update(now, kept)

    return restore


class _Comparisons(ast.NodeTransformer):
    """Turns ``a == b`` into a call; chains and identity stay as they are."""

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        question = type(node.ops[0]).__name__
        if len(node.ops) != 1 or question not in _QUESTIONS:
            return node
        arguments: list[ast.expr] = [ast.Constant(question), node.left, node.comparators[0]]
        return ast.copy_location(ast.Call(ast.Constant(_COMPARE), arguments, []), node)


def _with_functions(code: types.CodeType, functions: dict[str, Callable[..., object]]) -> types.CodeType:
    def exchanged(constant: object) -> object:
        if isinstance(constant, types.CodeType):
            return _with_functions(constant, functions)
        return functions.get(constant, constant) if type(constant) is str else constant

    return code.replace(co_consts=tuple(exchanged(constant) for constant in code.co_consts))


def _is_librarys(rule: object) -> bool:
    """True for a method in C, or in Python code of a file; a program's own has no file."""
    if type(rule) is types.FunctionType:
        return rule.__code__.co_filename.startswith(("/", "<frozen "))
    return type(rule) in (types.WrapperDescriptorType, types.MethodDescriptorType, types.BuiltinFunctionType)


# What is called below is bound beforehand: the program can patch this module, too.


def _has_own_rule(kind: type, is_librarys: Callable[[object], bool] = _is_librarys) -> bool:
    """True for a class that has, or inherits, a comparison of the program's own."""
    names_of = type.__dict__["__dict__"].__get__
    for base in type.mro(kind) if kind is not type else ():
        rules = (names_of(base).get(name) for name in _ANSWERED_BY)
        if any(rule is not None and not is_librarys(rule) for rule in rules):
            return True
    return False


def _decides_itself(value: object, has_own_rule: Callable[[type], bool] = _has_own_rule) -> bool:
    """True for a value that compares, or holds one that does, by a rule of the program's own."""
    waiting, looked_at = [value], 0
    while waiting and looked_at < _LOOKED_AT:
        item = waiting.pop()
        looked_at += 1
        kind = type(item)
        if has_own_rule(kind):
            return True
        # By the holder's own methods, since a subclass may show something else.
        for holder in (list, tuple, set, frozenset):
            if issubclass(kind, holder):
                waiting.extend(holder.__iter__(item))  # type: ignore[arg-type]
        if issubclass(kind, dict):
            waiting.extend(dict.keys(item))  # type: ignore[arg-type]
            waiting.extend(dict.values(item))  # type: ignore[arg-type]
    return False


def _compare(
    question: str,
    left: object,
    right: object,
    questions: Mapping[str, _Asked] = _QUESTIONS,
    decides_itself: Callable[[object], bool] = _decides_itself,
) -> object:
    """Result of a comparison; refused where it is true because one side's own class says so.

    Objects of the program's on both sides are its own business.

    Raises:
        SelfMade: a value that decides by itself what it equals.
    """
    found = questions[question](left, right)
    # Not its truth, which is the test's to ask: an array of truths, for one, has none.
    if found is True and decides_itself(left) != decides_itself(right):
        raise SelfMade("the answer is an object that decides by itself what it equals")
    return found
