"""Classes of tokens by their text, and the policies that train or keep tokens of some classes."""

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal, Self, TypeAlias, get_args

import numpy as np

from tokensieve.errors import InputError
from tokensieve.selection.policy import Candidates, Decision, TrainingSplit, Traits
from tokensieve.types import BoolArray, bools

TokenClass: TypeAlias = Literal[
    "number", "punctuation", "identifier", "word", "whitespace", "line_end", "special", "symbol"
]
"""Class of a token by its text; see ``token_class``."""
_IN_NUMBERS: Final = frozenset("0123456789.,")
_IN_IDENTIFIERS: Final = re.compile(r"[_\d]|[a-z][A-Z]")
_NOT: Final = "not:"


@dataclass(frozen=True, slots=True)
class Classes:
    """Classes of tokens, named or all but the named ones, and the tokens' texts.

    Attributes:
        names: the named classes, in the order of their definition.
        others: True for all classes but the named ones.
        piece: token id to text, empty for special tokens; None before a policy is fitted.
    """

    names: tuple[TokenClass, ...]
    others: bool = False
    piece: Callable[[int], str] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def parse(cls, argument: str, usage: str) -> Self:
        """The classes of ``[not:]CLASS[+CLASS]``.

        Raises:
            InputError: there is no such class.
        """
        names = [name.strip() for name in argument.removeprefix(_NOT).split("+")]
        known: tuple[TokenClass, ...] = get_args(TokenClass)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(
                f"expected classes of tokens joined by +, got {unknown[0]!r}; there are {', '.join(known)}",
                where="policy",
                fix=usage,
            )
        return cls(tuple(one for one in known if one in names), argument.startswith(_NOT))

    def of(self, split: TrainingSplit) -> Self:
        """The same classes with the texts of a split's tokens.

        Raises:
            InputError: nobody knows the texts.
        """
        if split.piece is None:
            raise InputError(
                "the policy reads the tokens' texts, and no tokenizer is at hand",
                where="policy",
                fix="select(…, tokenizer=TOKENIZER)",
            )
        return replace(self, piece=split.piece)

    def hold_P(self, row: Candidates) -> BoolArray:
        """True on the candidates [P] of these classes; end of turn is special whatever its text."""
        tokens, piece = row.scored.tokens, self.piece or str
        ids, place_P = np.unique(tokens.ids_T[row.pool_T], return_inverse=True)
        named = np.array([token_class(piece(token)) in self.names for token in ids.tolist()], dtype=np.bool_)
        named_P = np.where(tokens.ends_turn_T[row.pool_T], "special" in self.names, named[place_P])
        return bools(named_P != self.others)


@dataclass(frozen=True, slots=True)
class OfClass:
    """Train tokens of the named classes only, or with not: all but these; the classes are those of ``inspect``.

    Formula: a candidate is trained where its class is one of CLASS, or with ``not:`` where it is none of them. Classes
    are those of ``token_class``: number, punctuation, identifier, word, whitespace, line_end, special, symbol; end of
    turn is special. Reads the tokens' texts and no scores. Source: our own, to ask what each class teaches.
    """

    classes: Classes
    usage: ClassVar[str] = "class:[not:]CLASS[+CLASS]"
    traits: ClassVar[Traits] = Traits(token_texts=True)
    threshold_nats: ClassVar[float] = math.inf

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(Classes.parse(argument, cls.usage))

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``: takes the tokens' texts."""
        return replace(self, classes=self.classes.of(split))

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return Decision(self.classes.hold_P(row).astype(np.float64))


@dataclass(frozen=True, slots=True)
class KeepOfClass:
    """Keep tokens of the named classes, or with not: all but these, whatever the policies beside it leave out.

    Formula: the factor of these tokens is 1. Stands beside others only: ``stm:2.5 & keep:class:number`` leaves out
    unlikely tokens but for numbers. Source: our own, to ask which class of unlikely tokens costs skills.
    """

    kept: OfClass
    usage: ClassVar[str] = "keep:class:[not:]CLASS[+CLASS]"
    traits: ClassVar[Traits] = Traits(trains_all=True, exempts=True, token_texts=True)
    threshold_nats: ClassVar[float] = math.inf

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(OfClass(Classes.parse(argument, cls.usage)))

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        return replace(self, kept=self.kept.fit(split))

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``: 1 on the tokens that are kept, 0 on those that it has no say in."""
        return self.kept.select(row)


def token_class(piece: str) -> TokenClass:
    r"""The class of a token's text.

    ``number`` holds digits and nothing but digits, points and commas; ``identifier`` holds a letter, and besides an
    underscore, a digit, or a capital behind a small letter; ``word`` is any other text with a letter in it;
    ``punctuation`` is marks and operators only; ``line_end`` is whitespace with a line feed or carriage return in it,
    ``whitespace`` any other blank; all else is ``symbol``, the fragments of a character that several tokens share among
    it. Blanks around a token don't count. The empty text is ``special``: tokenizers decode their control tokens to it.
    A token is judged by its own text: the name ``total`` is a word here.
    """
    if not piece:
        return "special"
    core = piece.strip()
    if not core:
        return "line_end" if "\n" in piece or "\r" in piece else "whitespace"
    if any(character.isalpha() for character in core):
        return "identifier" if _IN_IDENTIFIERS.search(core) else "word"
    if any(character.isdecimal() for character in core) and _IN_NUMBERS.issuperset(core):
        return "number"
    return "punctuation" if all(_is_punctuation(character) for character in core) else "symbol"


def _is_punctuation(character: str) -> bool:
    """True for marks (Unicode's P categories) and for operators, currency signs and the like (Sm, Sc, Sk)."""
    category = unicodedata.category(character)
    return category[0] == "P" or category in ("Sm", "Sc", "Sk") or character.isspace()
