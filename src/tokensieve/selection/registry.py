"""``POLICIES``, and reading a policy from its text."""

import difflib
import re
from typing import Final

from tokensieve.errors import InputError
from tokensieve.selection.combine import Combined, Keep, OfScorer, UserFunction
from tokensieve.selection.controls import Lowest, Random
from tokensieve.selection.policy import Policy
from tokensieve.selection.thresholds import NllBudget, Plain, Share, Stm
from tokensieve.selection.token_classes import KeepOfClass, OfClass
from tokensieve.selection.two_models import Dpf, Rho1, StmDpf
from tokensieve.selection.weights import (
    Flow,
    FrozenDft,
    FrozenEaft,
    FrozenInfoSft,
    FrozenProfit,
    FrozenTalr,
    Soft,
)

POLICIES: Final[dict[str, type[Policy]]] = {
    "plain": Plain,
    "stm": Stm,
    "share": Share,
    "nll_budget": NllBudget,
    "soft": Soft,
    "random": Random,
    "lowest": Lowest,
    "dpf": Dpf,
    "stm_dpf": StmDpf,
    "rho1": Rho1,
    "flow": Flow,
    "frozen:dft": FrozenDft,
    "frozen:eaft": FrozenEaft,
    "frozen:profit": FrozenProfit,
    "frozen:infosft": FrozenInfoSft,
    "frozen:talr": FrozenTalr,
    "class": OfClass,
    "keep": Keep,
    "keep:class": KeepOfClass,
}
"""Every policy by its name; a name and what stands behind a colon is how a policy is written."""

_BUILT: Final = (Combined, OfScorer, UserFunction)
"""Ways to write a policy that have no name of their own."""
_OF_SCORER: Final = re.compile(r".+@[\w.-]+", re.DOTALL)
_FUNCTION: Final = re.compile(r".+\.py:\w+", re.DOTALL)


def parse_policy(text: str) -> Policy:
    """Read a policy from its text, e.g. ``stm:2.5``, ``random:stm:2.5``, ``stm:10@larger & keep:first:4``.

    Nothing is imported or read: a user's own function is looked up when the policy is fitted.

    Raises:
        InputError: unknown name (the nearest one is named), a missing or impossible value.
    """
    terms = split_terms(text)
    policy = parse_term(terms[0]) if len(terms) == 1 else Combined.parse(text)
    return Combined.parse(text) if policy.traits.exempts else policy


def parse_term(text: str) -> Policy:
    """Read one term of a combination.

    Raises:
        InputError: as in ``parse_policy``.
    """
    text = text.strip()
    if _OF_SCORER.fullmatch(text) and not _in_parentheses(text):
        return OfScorer.parse(text)
    if _in_parentheses(text):
        return parse_policy(text[1:-1])
    name = max((name for name in POLICIES if f"{text}:".startswith(f"{name}:")), key=len, default=None)
    if name is None and _FUNCTION.fullmatch(text):
        return UserFunction.parse(text)
    if name is None:
        raise InputError(f"unknown policy {text!r}", where="policy", fix=_hint(text))
    return POLICIES[name].parse(text[len(name) :].removeprefix(":").strip())


def split_terms(text: str) -> list[str]:
    """The terms between the ``&`` that lie outside all parentheses.

    Raises:
        InputError: parentheses that do not match, or nothing on one side of an ``&``.
    """
    terms, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == "&" and depth == 0:
            terms.append("")
        else:
            terms[-1] += character
    if depth:
        raise InputError(f"parentheses do not match in {text!r}", where="policy", fix="random:(stm:10 & keep:first:4)")
    if len(terms) > 1 and not all(term.strip() for term in terms):
        raise InputError(
            f"expected a policy on both sides of &, got {text!r}", where="policy", fix="stm:10 & share:0.1"
        )
    return terms


def policy_lines() -> list[tuple[str, str]]:
    """Usage and documentation line of each policy, for help texts and docs."""
    classes: list[type[Policy]] = [*POLICIES.values(), *_BUILT]
    return [(policy.usage, (policy.__doc__ or "").partition("\n")[0]) for policy in classes]


def _in_parentheses(text: str) -> bool:
    """True if the first and the last character are parentheses that belong together."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return character == ")" and place == len(text) - 1
    return False


def _hint(text: str) -> str:
    names = [*POLICIES]
    name = text.partition(":")[0]
    near = difflib.get_close_matches(name if name != "frozen" else text, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(names)}, or FILE.py:NAME; e.g. stm:2.5"
