"""What a token is made of: number, symbol, word, whitespace, line end."""

from tokensieve.analysis.results import TokenClass

_IN_NUMBERS = frozenset("0123456789.,")


def token_class(piece: str) -> TokenClass:
    r"""The class of a token's text.

    ``number`` holds digits and nothing but digits, points and commas; ``word`` holds a letter; ``line_end`` is
    whitespace with a line feed or carriage return in it, ``whitespace`` any other blank; all else is ``symbol``, the
    fragments of a character that several tokens share among it. Blanks around a number or word don't count. The empty
    text is ``special``: tokenizers decode their control tokens to it.
    """
    if not piece:
        return "special"
    core = piece.strip()
    if not core:
        return "line_end" if "\n" in piece or "\r" in piece else "whitespace"
    if any(character.isalpha() for character in core):
        return "word"
    if any(character.isdecimal() for character in core) and _IN_NUMBERS.issuperset(core):
        return "number"
    return "symbol"
