"""Classes of tokens by their text."""

import pytest

from tokensieve.selection.token_classes import TokenClass, token_class


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        ("42", "number"),
        (" 3.5", "number"),
        ("1,000", "number"),
        (".", "punctuation"),
        (" +=", "punctuation"),
        ("`", "punctuation"),
        ("$5", "symbol"),
        ("\ufffd", "symbol"),
        ("😀", "symbol"),
        ("x1", "identifier"),
        (" get_name", "identifier"),
        ("getName", "identifier"),
        ("Name", "word"),
        ("don't", "word"),
        (" Äpfel", "word"),
        ("字", "word"),
        ("  ", "whitespace"),
        ("\t", "whitespace"),
        ("\r\n", "line_end"),
        ("\n    ", "line_end"),
        ("", "special"),
    ],
)
def test_token_classes(piece: str, expected: TokenClass) -> None:
    assert token_class(piece) == expected
