"""Sentences and words of English text, counted by rules of our own that need no downloaded models.

They stand in for NLTK's Punkt and Treebank tokenizers, which IFEval's official checks use; how often they agree is in
docs/benchmarks.md.
"""

import re
from typing import Final

_CLOSING: Final = "\"')]}"
_MARK = re.compile(r"""[.?!](?=[)";}\]*:@'({\[?!]|\s+\S)""")
"""A mark that may end a sentence: further punctuation follows, or white space and another word."""
_ABBREVIATION_LIST: Final = """
adm al apr assn aug ave bros capt cf cie co col conn corp ct dec dept dr esq est etc feb fla fri ft gen gov hon
inc jan jr kan lt ltd maj mass messrs mg mich minn mon mr mrs ms mt nev nov oct okla ore pa ph.d prof rep reps
rev sat sen sept sgt sr st sun tenn thurs tues u.k u.n u.s u.s.a va viz vs vt wash wed wis yr a.m p.m a.d b.c
d.c
"""
_ABBREVIATIONS: Final = frozenset(_ABBREVIATION_LIST.split())
_STARTER_LIST: Final = """
a after all also although an and another any as at because before both but by despite during each even every
finally first for from he her here his how however i if in instead is it its just let many meanwhile moreover
most my no not now of on once one or other our overall please she since so some such that the their then there
these they this those though to under unlike until we what when where whether which while who why will with
without yet you your
"""
_STARTERS: Final = frozenset(_STARTER_LIST.split())
"""Words that begin a sentence where they are capitalised behind an abbreviation."""
_CONTRACTION = re.compile(r"(?<=[a-z])('(?:s|m|d|ll|re|ve)|n't)\b|(?<=\bcan)(not)\b", re.IGNORECASE)
_PUNCTUATION = re.compile(r"""\.\.+|--|[\]\[(){}<>?!;@#$%&"“”‘’«»…]|``|''""")


def count_sentences(text: str) -> int:
    """Number of sentences in a text; 0 for one that is empty."""
    count, start = 0, 0
    for end in _ends(text):
        count += bool(text[start:end].strip().strip(_CLOSING).strip())
        start = end
    return count + bool(text[start:].strip().strip(_CLOSING).strip())


def count_words(text: str) -> int:
    """Number of runs of letters, digits and underscores."""
    return len(re.findall(r"\w+", text))


def count_capital_words(text: str) -> int:
    """Number of tokens whose letters are all capitals, with punctuation and contractions split off."""
    count = 0
    for word in _PUNCTUATION.sub(r" \g<0> ", _CONTRACTION.sub(r" \g<0>", text)).split():
        # A comma or colon between digits belongs to the number.
        parts = re.split(r"(?<=\D)[,:]|[,:](?=\D|$)", word)
        count += sum(part.isupper() for part in parts)
    return count


def _ends(text: str) -> list[int]:
    """Places behind the marks that end a sentence; of several marks in one word the last one decides."""
    found: list[int] = []
    last_word = -1
    for match in _MARK.finditer(text):
        word_start = max(text.rfind(space, 0, match.start()) for space in " \t\n\r") + 1
        if word_start == last_word and found and found[-1] > word_start:
            found.pop()
        if _ends_sentence(text, word_start, match.start()):
            found.append(match.end())
        last_word = word_start
    return found


def _ends_sentence(text: str, start: int, mark: int) -> bool:
    """True where the mark ends a sentence: a full stop does not behind an abbreviation, an initial or an ellipsis."""
    if text[mark] != ".":
        return True
    word = text[start:mark].lstrip("\"'([{*_").lower()
    following = text[mark + 1 :].lstrip().split(None, 1)
    after = following[0].lstrip("\"'([{*_") if following else ""
    starts = after[:1].isupper() and re.sub(r"\W.*", "", after.lower()) in _STARTERS
    if word.endswith("."):
        return after[:1].isupper()
    if len(word) == 1 and word.isalpha():
        return word == "i" or starts
    if word.isdecimal():
        return not after[:1].islower()
    # Punkt knows none of these as abbreviations: it ends the sentence there.
    dotted = word not in ("i.e", "e.g", "p.s") and re.fullmatch(r"(?:[a-z]\.)+[a-z]", word)
    return starts if dotted or word in _ABBREVIATIONS else True
