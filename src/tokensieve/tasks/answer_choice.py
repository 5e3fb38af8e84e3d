"""The option that an answer to a multiple-choice question chooses: one, or none where it lists several."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tokensieve.tasks.answer_text import boxed, boxed_together, statements, without_markdown
from tokensieve.types import Outcome, Verdict

_JOIN: Final = (
    r"\s*(?:,\s*(?:and|or)\b|,?\s*\b(?:along|together) with\b|,|&|/|\+|\band/or\b|\band\b|\bor\b|\bnor\b|\bplus\b|"
    r"\bas well as\b)\s*(?:also\s+)?"
)
_KIND: Final = r"(?:(?:the\s+)?(?:option|choice|answer|letter|statement)s?\s+)?"
_NEGATION: Final = (
    r"\b(?i:not|[a-z]{2,6}n't|neither|rather than|instead of|unlike|except|than|eliminat(?:e[sd]?|ing)|"
    r"rul(?:e[sd]?|ing) out|exclud(?:e[sd]?|ing)|discard(?:s|ed|ing)?)\s+(?:be\s+)?"
)
_WRONG: Final = (
    r"(?:wrong|incorrect|not\b|n't|false|ruled out|eliminated|excluded|out\b|impossible|unlikely|too\b|less\b)"
)
_SINGULAR: Final = r"(?:is|was|seems(?: to be)?|appears(?: to be)?)"
_PLURAL: Final = r"(?:are|were|would be|must be|can be|could be|seem(?: to be)?|appear(?: to be)?)"
_STRESS: Final = r"(?:also |both |all |clearly |definitely |simply |therefore |thus |most likely |probably |the |a )*"
_CHOOSING: Final = re.compile(
    r"(?:\b(?:choose|chose|pick|select(?:ed)?|go(?:ing)? with|went with|opt for)\b"
    r"|\b(?:correct|right|best)\s+(?:option|choice|one|letter|response|statement)\s*(?:is\b|:)"
    r"|\b(?:option|choice|letter|solution|conclusion)\s*(?:is\b|:)"
    r"|(?:^|\b(?:I (?:think|believe|guess)|I(?:'d| would) say|so|therefore|thus|hence|it is|it's|must be|that's)\b)"
    r"[,:]?\s(?:(?:that )?it(?: is|'s| must be)\s)?(?=\S{1,6}(?:[.,;\n)]|\s+(?:because|since|as)\b|\s*$)))",
    re.IGNORECASE | re.MULTILINE,
)
_LEAD: Final = re.compile(
    r"(?:[\s*(\[\"'$:\u201c]|\b(?:definitely|clearly|probably|likely|most|simply|options?|choices?|answer|letters?|"
    r"number|the|is|indeed|both|either|but|rather|it's|it|thus|therefore|that|statement|correct|one)\b)*",
    re.IGNORECASE,
)
_GOOD: Final = re.compile(
    r"(?<!not )(?<!in)\b(?:correct|right answer|right choice|true|best answer)\b|[\u2713\u2714\u2705]", re.I
)
_BAD: Final = re.compile(rf"\b{_WRONG}|\b[A-Za-z]{{2,6}}n't\b|\bcannot\b|\bno\b|[\u2717\u2718\u274c]", re.IGNORECASE)
_LATEX_TEXT: Final = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s?\{([^{}]{0,200})\}")
_AFTER_A_LABEL: Final = (
    r"(?!\s+(?!(?:or|and|nor|is|are|was|because|since|as|but|with|would|should|must|seems|appears|cannot|can|does)\b)"
    r"[a-z])"
)
"""Words that follow a label; any other makes ``A`` an article and ``3`` a count."""


def choice(text: str, labels: Sequence[str], choices: Mapping[str, str] | None = None) -> str | None:
    r"""The label that a text chooses; None where it chooses none, or lists several.

    In this order: the label alone, the last ``\boxed{}``, the last "the answer is" and the like, options said to be
    correct, a list of options of which all others are said to be wrong, the label at the start, an option's own words,
    the one label in brackets, the one label that stands alone. Labels behind "not", or said to be wrong, do not count.

    Args:
        text: the answer.
        labels: of all options, in their order.
        choices: the options' words by label; None where they are not known.
    """
    words = choices or {}
    boxes = boxed_together(text) or boxed(text)
    plain = _plain(text)
    names = _Names(labels, words)
    alone = names.alone(plain)
    if alone is not None:
        return alone
    if names.nothing_else(plain):
        return None
    if boxes is not None:
        found = names.object(f"{_plain(boxes)} ")
        if found:
            return _only(found)
    plain = names.without_excluded(names.without_words(names.in_capitals(plain)))
    for said in (names.stated(plain), names.called_correct(plain), names.listed(plain), names.at_start(plain)):
        if said is not None:
            return _only(said)
    return names.in_own_words(plain) or names.mentioned(plain)


def check_choice(answer: str, gold: str, labels: Sequence[str], choices: Mapping[str, str] | None = None) -> Verdict:
    """Compare the chosen label with the gold one, however the answer names it; arguments as for ``choice``."""
    return verdict_on_choice(choice(answer, labels, choices), gold)


def verdict_on_choice(found: str | None, gold: str) -> Verdict:
    """The verdict on the label that was found in an answer; None is no choice, or several."""
    if found is None:
        return Verdict(Outcome.NO_ANSWER, reason="no choice, or no single one, in the answer")
    if found == gold.strip():
        return Verdict(Outcome.CORRECT, found)
    return Verdict(Outcome.WRONG, found, f"expected {gold.strip()}")


def _plain(text: str) -> str:
    """A text without Markdown, LaTeX's text commands and runs of white space."""
    plain = _LATEX_TEXT.sub(r"\1", without_markdown(text)).replace("\u2019", "'")
    return re.sub(r"\s{2,}", lambda run: "\n" if "\n" in run[0] else " ", plain)


def _only(found: set[str]) -> str | None:
    return next(iter(found)) if len(found) == 1 else None


class _Names:
    """The ways of naming the options of one question.

    Every method takes a plain text and returns the labels that it finds, or None where its way of naming is not used.
    """

    def __init__(self, labels: Sequence[str], words: Mapping[str, str]) -> None:
        self.labels = labels
        self.words = {label: _folded(text) for label, text in words.items()}
        self.one = "|".join(re.escape(label) for label in labels)
        one = rf"[(\[\"']{{0,3}}(?:{self.one})(?![\w'])[)\]\"']{{0,3}}"
        # In a sentence: not "A)" or "A.", behind which an option's own words stand.
        spoken = rf"(?:[(\[](?:{self.one})[)\]]|[\"']?(?:{self.one})(?![\w')\].:])[\"']?)"
        self.spoken = f"{_KIND}{spoken}"
        self.all_spoken = rf"{_KIND}{spoken}(?:{_JOIN}{_KIND}{spoken})*"
        self.several = rf"{_KIND}{one}(?:{_JOIN}{_KIND}{one})*"
        self.between = rf"(?:(?!\b(?:is|are|was|not|because|since|{self.one})\b)[^.;,\n]){{0,80}}?"

    def alone(self, text: str) -> str | None:
        """A text that is a label and nothing else, in either case."""
        stripped = text.strip().strip("*_`()[].: \n\"'$\\")
        return next((label for label in self.labels if label.lower() == stripped.lower()), None)

    def nothing_else(self, text: str) -> bool:
        """True for a text that is several labels in a row."""
        return re.fullmatch(rf"(?:[\s(\[]*(?:{self.one})(?![\w'])[\s,.;:)\]-]*){{2,}}", text) is not None

    def in_capitals(self, text: str) -> str:
        """The text with capitals for small labels in brackets, and for those of a list's lines: ``a)``, ``(b)``."""
        small = "|".join(re.escape(label.lower()) for label in self.labels if label.isupper())
        if not small:
            return text
        listed = rf"(?:(?<=\s)|\A)[(\[]?(?:{small})[)\]](?=\W|\Z)|^\s*[-*\u2022]?\s?(?:{small})[.:](?=\s)"
        return re.sub(listed, lambda label: label[0].upper(), text, flags=re.MULTILINE)

    def without_words(self, text: str) -> str:
        """The text without the options' words behind their labels: a "not" among them excludes nothing."""
        for label, words in self.words.items():
            if words:
                flexible = r"\s+".join(map(re.escape, words.split()))
                named = rf"(?<![\w'])({re.escape(label)}[)\].:\]]{{0,2}}\s[-(\s]{{0,3}}(?:the |an? )?){flexible}(?!\w)"
                text = re.sub(named, "\\1\u2026", text, flags=re.IGNORECASE)
        return text

    def without_excluded(self, text: str) -> str:
        """The text without the labels that it says are not the answer."""
        text = re.sub(rf"{_NEGATION}{self.several}", " ", text)
        for named, verb in ((self.spoken, _SINGULAR), (self.all_spoken, _PLURAL)):
            wrong = rf"(?:{verb}\s+{_STRESS}{_WRONG}|\b[A-Za-z]{{2,6}}n't\b|cannot\b|(?:does|do|would|can) not\b)"
            text = re.sub(rf"(?<![\w']){named}{self.between}\s+{wrong}", " is wrong", text)
        return text

    def object(self, text: str) -> set[str]:
        """The labels that a text begins with, as behind "the answer is"; or the option whose words it begins with."""
        begin = _LEAD.match(text)
        rest = text[begin.end() :] if begin else text
        named = re.match(rf"{self.several}{_AFTER_A_LABEL}", rest)
        if named:
            further = re.findall(
                rf"(?:\band|\bor|&|,|/)\s+{_KIND}[(\[\"']{{0,3}}({self.one})(?:[)\].:]|\s\()", rest[named.end() :]
            )
            return {*self._in(named[0]), *further}
        small = re.match(rf"[(\[\"']?({self.one.lower()})(?:[)\].:\"']|\s*$)", rest.lower())
        if small and rest[: small.end()].strip("([\"')].: \n"):
            return {label for label in self.labels if label.lower() == small[1]}
        own = self._own_words(rest)
        return own or set(re.findall(rf"[(\[]({self.one})[)\]]", rest))

    def stated(self, text: str) -> set[str] | None:
        """The labels in the last statement of the answer: "the answer is", "I choose", "therefore"."""
        said = [labels for labels in map(self.object, statements(text)) if labels]
        if not said:
            places = (text[match.end() : match.end() + 200] for match in _CHOOSING.finditer(text))
            said = [labels for labels in (self.object(place.partition("\n")[0]) for place in places) if labels]
            said = said if not self._items(text) or (said and said[-1] != self._start(text)) else []
        return said[-1] if said else None

    def called_correct(self, text: str) -> set[str] | None:
        """The options that are said to be correct."""
        correct = rf"{self.between}\s+(?:{_SINGULAR}|{_PLURAL})\s+{_STRESS}(?:correct|right|true|best|answer)\b"
        found = {
            label
            for match in re.finditer(rf"(?<![\w'])({self.several})(?:[.:]|\s-)?{correct}", text)
            for label in self._in(match[1])
        }
        return found or None

    def listed(self, text: str) -> set[str] | None:
        """Of a list of options those that are not said to be wrong, or the one that is said to be correct."""
        items = self._items(text)
        if len({label for label, _ in items}) < 2:
            return None
        good = {label for label, body in items if _GOOD.search(body) and not _BAD.search(body)}
        if good:
            return good
        *before, (last, _) = items
        # The list of all options, and then one of them again.
        if sum(label == last for label, _ in before) == 1 and len({label for label, _ in before}) == len(before) > 1:
            return {last}
        places = [self.labels.index(label) for label, _ in items]
        # An option in front of the list of all of them is the answer, the list its explanation.
        if places[0] > places[1] or places[0] == places[1]:
            return self._start(text)
        return {label for label, body in items if not _BAD.search(body)}

    def at_start(self, text: str) -> set[str] | None:
        """The labels that the text begins with."""
        return self._start(text) or None

    def in_own_words(self, text: str) -> str | None:
        """The option whose words are the whole text, or its first sentence or line."""
        starts = (text, text.partition("\n")[0], re.split(r"[.!]\s", text, maxsplit=1)[0])
        for start in starts:
            said = {label for label, words in self.words.items() if words and words == _folded(start)}
            if len(said) == 1:
                return said.pop()
        return None

    def mentioned(self, text: str) -> str | None:
        """The one label in brackets, or the one that stands alone."""
        # "A dog" and "3 days" name no option, "B describes" does.
        clear = {label for label in self.labels if label.isalpha() and label not in ("A", "I")}
        careful = "|".join(re.escape(one) + ("" if one in clear else _AFTER_A_LABEL) for one in self.labels)
        for way in (rf"[(\[]({self.one})[)\]]", rf"(?<![\w'])({careful})(?![\w'])"):
            several = set(re.findall(way, text))
            if len(several) == 1:
                return str(several.pop())
        return None

    def _start(self, text: str) -> set[str]:
        stripped = text.lstrip("* _`\n")
        together = re.match(rf"{self.several}(?=\s*(?:[).:\]\n,;]|-|\u2013|\u2014|because\b|since\b|\Z))", stripped)
        if together:
            return self._in(together[0])
        joined = re.match(rf"{self.several}{_AFTER_A_LABEL}", stripped)
        if joined and len(self._in(joined[0])) > 1:
            return self._in(joined[0])
        small = re.match(rf"[(\[]?({self.one.lower()})[)\].:]", stripped)
        return {label for label in self.labels if small and label.lower() == small[1]}

    def _items(self, text: str) -> list[tuple[str, str]]:
        """Options of a list: label, and what stands behind it without the option's own words."""
        marks = list(
            re.finditer(rf"(?:(?<=\s)|\A)[-*\u2022(\[]?\s?({self.one})(?:[.):\]]|\s[-\u2013\u2014])(?=\s|$)", text)
        )
        ends = [*[mark.start() for mark in marks[1:]], len(text)][: len(marks)]
        return [
            (mark[1], self._beside_words(mark[1], text[mark.end() : end]))
            for mark, end in zip(marks, ends, strict=True)
        ]

    def _beside_words(self, label: str, body: str) -> str:
        folded, words = _folded(body), self.words.get(label, "")
        return folded.removeprefix(words) if words else folded

    def _own_words(self, text: str) -> set[str]:
        folded = _folded(text)
        found = {
            label
            for label, words in self.words.items()
            if words and folded.startswith(words) and not folded[len(words) : len(words) + 1].isalnum()
        }
        longest = max((len(self.words[label]) for label in found), default=0)
        return {label for label in found if len(self.words[label]) == longest}

    def _in(self, named: str) -> set[str]:
        return set(_each(rf"(?<![\w'])({self.one})(?![\w'])", named))


def _each(pattern: str, text: str) -> Iterator[str]:
    for match in re.finditer(pattern, text):
        yield match[1]


def _folded(text: str) -> str:
    """A text for comparison: lower case, one space, no full stop at the end, no article in front."""
    return re.sub(r"^(?:the|an?) ", "", " ".join(text.lower().split()).strip(" .*_\"'"))
