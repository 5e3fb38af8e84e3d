"""The 25 instructions of IFEval (Zhou et al. 2023) and whether a text follows them, from the published rules.

Two differences from the published code, which are stated where they lie: sentences and words in capitals are counted
without NLTK's models, and a letter that is no letter (``#``) is counted as it stands, where the code draws another one.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tokensieve.errors import EnvironmentProblem
from tokensieve.tasks.english_text import count_capital_words, count_sentences, count_words
from tokensieve.types import JSON

Arguments = Mapping[str, JSON]

_OPTIONS: Final = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS: Final = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
INSTALL: Final = 'pip install "tokensieve[ifeval]"'


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of instruction.

    Attributes:
        follows: whether a text follows the instruction with these arguments.
        needs: names of the arguments.
        detects_language: whether it needs ``langdetect``.
    """

    follows: Callable[[str, Arguments], bool]
    needs: tuple[str, ...] = ()
    detects_language: bool = False


def follows(instruction: str, text: str, arguments: Arguments) -> bool:
    """True where a text follows an instruction; an empty text follows none."""
    return bool(text.strip()) and RULES[instruction].follows(text, arguments)


def follows_loosely(instruction: str, text: str, arguments: Arguments) -> bool:
    """True where the text follows an instruction, as it is or without first line, last line or asterisks."""
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return any(follows(instruction, one, arguments) for part in cut for one in (part, part.replace("*", "")))


def _holds(count: int, arguments: Arguments, relation: str, threshold: str) -> bool:
    """True where a count is at least, or less than, the threshold, as the relation says."""
    limit = _integer(arguments, threshold)
    return count < limit if arguments[relation] == "less than" else count >= limit


def _integer(arguments: Arguments, name: str) -> int:
    value = arguments[name]
    return int(value) if isinstance(value, int | float | str) else 0


def _listed(arguments: Arguments, name: str) -> list[str]:
    value = arguments[name]
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _occurrences(word: str, text: str) -> int:
    return len(re.findall(re.escape(word), text, re.IGNORECASE))


def _keywords(text: str, arguments: Arguments) -> bool:
    return all(_occurrences(word, text) for word in _listed(arguments, "keywords"))


def _keyword_frequency(text: str, arguments: Arguments) -> bool:
    return _holds(_occurrences(str(arguments["keyword"]).strip(), text), arguments, "relation", "frequency")


def _no_forbidden_words(text: str, arguments: Arguments) -> bool:
    words = _listed(arguments, "forbidden_words")
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in words)


def _letter_frequency(text: str, arguments: Arguments) -> bool:
    count = text.lower().count(str(arguments["letter"]).lower())
    return _holds(count, arguments, "let_relation", "let_frequency")


def _sentences(text: str, arguments: Arguments) -> bool:
    return _holds(count_sentences(text), arguments, "relation", "num_sentences")


def _words(text: str, arguments: Arguments) -> bool:
    return _holds(count_words(text), arguments, "relation", "num_words")


def _capital_words(text: str, arguments: Arguments) -> bool:
    return _holds(count_capital_words(text), arguments, "capital_relation", "capital_frequency")


def _divided_paragraphs(text: str, arguments: Arguments) -> bool:
    """Paragraphs between ``***``; those at the two ends may be empty and then do not count."""
    first, *inner = (part.strip() for part in re.split(r"\s?\*\*\*\s?", text))
    last = inner.pop() if inner else None
    ends = [part for part in (first, last) if part]
    return all(inner) and len(inner) + len(ends) == _integer(arguments, "num_paragraphs")


def _paragraph_starts(text: str, arguments: Arguments) -> bool:
    """Number of paragraphs between empty lines, and the first word of one of them up to its first punctuation mark."""
    paragraphs = text.split("\n\n")
    count = sum(bool(part.strip()) for part in paragraphs)
    number = _integer(arguments, "nth_paragraph")
    if number > count or not (words := paragraphs[number - 1].split()):
        return False
    word = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'), maxsplit=1)[0]
    return count == _integer(arguments, "num_paragraphs") and word.lower() == str(arguments["first_word"]).lower()


def _placeholders(text: str, arguments: Arguments) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= _integer(arguments, "num_placeholders")


def _postscript(text: str, arguments: Arguments) -> bool:
    marker = str(arguments["postscript_marker"]).strip()
    return re.search(_POSTSCRIPTS.get(marker, re.escape(marker.lower())), text.lower()) is not None


def _bullets(text: str, arguments: Arguments) -> bool:
    """Lines that begin with a hyphen or with one asterisk."""
    starts = (r"^\s*\*[^*].*$", r"^\s*-.*$")
    found = sum(len(re.findall(start, text, re.MULTILINE)) for start in starts)
    return found == _integer(arguments, "num_bullets")


def _one_of_the_options(text: str, _arguments: Arguments) -> bool:
    return any(option in text for option in _OPTIONS)


def _highlights(text: str, arguments: Arguments) -> bool:
    """Text between single asterisks and text between double ones, each counted by itself."""
    single = sum(bool(inner.strip()) for inner in re.findall(r"\*([^\n*]*)\*", text))
    double = sum(bool(inner.strip()) for inner in re.findall(r"\*\*([^\n*]*)\*\*", text))
    return single + double >= _integer(arguments, "num_highlights")


def _sections(text: str, arguments: Arguments) -> bool:
    marker = re.escape(str(arguments["section_spliter"]).strip())
    return len(re.findall(rf"{marker}\s?\d+", text)) >= _integer(arguments, "num_sections")


def _json(text: str, _arguments: Arguments) -> bool:
    """JSON and nothing else, but for one fence of three backticks around it."""
    inner = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        inner = inner.removeprefix(fence)
    try:
        json.loads(inner.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, _arguments: Arguments) -> bool:
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str, _arguments: Arguments) -> bool:
    parts = [part.strip() for part in text.split("******")]
    responses = [part for part in parts if part]
    return all(parts[1:-1]) and len(responses) == 2 and responses[0] != responses[1]


def _repeats_prompt(text: str, arguments: Arguments) -> bool:
    return text.strip().lower().startswith(str(arguments["prompt_to_repeat"]).strip().lower())


def _ends_with(text: str, arguments: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(str(arguments["end_phrase"]).strip().lower())


def _no_comma(text: str, _arguments: Arguments) -> bool:
    return "," not in text


def _quoted(text: str, _arguments: Arguments) -> bool:
    inner = text.strip()
    return len(inner) > 1 and inner[0] == inner[-1] == '"'


def _in_language(text: str, arguments: Arguments) -> bool:
    return _language(text) in (None, arguments["language"])


def _in_capitals(text: str, _arguments: Arguments) -> bool:
    return text.isupper() and _language(text) in (None, "en")


def _in_lower_case(text: str, _arguments: Arguments) -> bool:
    return text.islower() and _language(text) in (None, "en")


def _language(text: str) -> str | None:
    """The language's code; None where there is nothing to tell it by, which counts as followed."""
    try:
        from langdetect import DetectorFactory, LangDetectException, detect
    except ImportError as error:
        raise EnvironmentProblem("IFEval detects languages with langdetect", fix=INSTALL) from error
    # Without a seed the same text may be found to be of another language in the next run.
    DetectorFactory.seed = 0
    try:
        return str(detect(text))
    except LangDetectException:
        return None


RULES: Final[Mapping[str, Rule]] = {
    "keywords:existence": Rule(_keywords, ("keywords",)),
    "keywords:frequency": Rule(_keyword_frequency, ("keyword", "frequency", "relation")),
    "keywords:forbidden_words": Rule(_no_forbidden_words, ("forbidden_words",)),
    "keywords:letter_frequency": Rule(_letter_frequency, ("letter", "let_frequency", "let_relation")),
    "language:response_language": Rule(_in_language, ("language",), detects_language=True),
    "length_constraints:number_sentences": Rule(_sentences, ("num_sentences", "relation")),
    "length_constraints:number_paragraphs": Rule(_divided_paragraphs, ("num_paragraphs",)),
    "length_constraints:number_words": Rule(_words, ("num_words", "relation")),
    "length_constraints:nth_paragraph_first_word": Rule(
        _paragraph_starts, ("num_paragraphs", "nth_paragraph", "first_word")
    ),
    "detectable_content:number_placeholders": Rule(_placeholders, ("num_placeholders",)),
    "detectable_content:postscript": Rule(_postscript, ("postscript_marker",)),
    "detectable_format:number_bullet_lists": Rule(_bullets, ("num_bullets",)),
    "detectable_format:constrained_response": Rule(_one_of_the_options),
    "detectable_format:number_highlighted_sections": Rule(_highlights, ("num_highlights",)),
    "detectable_format:multiple_sections": Rule(_sections, ("section_spliter", "num_sections")),
    "detectable_format:json_format": Rule(_json),
    "detectable_format:title": Rule(_title),
    "combination:two_responses": Rule(_two_responses),
    "combination:repeat_prompt": Rule(_repeats_prompt, ("prompt_to_repeat",)),
    "startend:end_checker": Rule(_ends_with, ("end_phrase",)),
    "startend:quotation": Rule(_quoted),
    "change_case:capital_word_frequency": Rule(_capital_words, ("capital_frequency", "capital_relation")),
    "change_case:english_capital": Rule(_in_capitals, detects_language=True),
    "change_case:english_lowercase": Rule(_in_lower_case, detects_language=True),
    "punctuation:no_comma": Rule(_no_comma),
}
"""The instructions by the ids that the data set gives them."""
