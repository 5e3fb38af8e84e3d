"""Checkers for the user's own tasks, by the kind of answer: text in, verdict out; nothing is run here."""

import json
import re
from collections.abc import Sequence

from tokensieve.tasks import answer_text
from tokensieve.tasks.answer_choice import choice
from tokensieve.tasks.answer_code import blocks
from tokensieve.tasks.answer_number import final_number, parse_number
from tokensieve.tasks.math_judge import Judged, equivalent
from tokensieve.types import JSON, Outcome, Verdict

_SENTENCE_END = re.compile(r"\.\s+(?=[A-Z])|,?\s+(?:since|because|where)\s")


def check_number(answer: str, gold: str, *, tolerance: float = 0.0) -> Verdict:
    """Compare the final number by value; ``tolerance`` is the largest absolute difference that counts as equal."""
    expected = parse_number(gold)
    if expected is None:
        return Verdict(Outcome.NOT_JUDGED, reason=f"the gold answer {gold!r} is not one number")
    found = final_number(answer)
    if found is None:
        return Verdict(Outcome.NO_ANSWER, reason="no number, or no single one, in the answer")
    number, rule = found
    if number.equals(expected, tolerance):
        return Verdict(Outcome.CORRECT, number.written, rule)
    return Verdict(Outcome.WRONG, number.written, f"{rule}: expected {gold}")


def check_letter(answer: str, gold: str, labels: Sequence[str]) -> Verdict:
    """Compare the chosen label, however the answer names it."""
    found = choice(answer, labels)
    if found is None:
        return Verdict(Outcome.NO_ANSWER, reason="no choice, or no single one, in the answer")
    if found == gold.strip():
        return Verdict(Outcome.CORRECT, found)
    return Verdict(Outcome.WRONG, found, f"expected {gold.strip()}")


def check_exact(answer: str, gold: str, *, ignore_case: bool = False) -> Verdict:
    """Compare whole texts, white space at both ends set aside."""
    found, expected = answer.strip(), gold.strip()
    if not found:
        return Verdict(Outcome.NO_ANSWER, reason="the answer is empty")
    equal = found.casefold() == expected.casefold() if ignore_case else found == expected
    if equal:
        return Verdict(Outcome.CORRECT, found)
    return Verdict(Outcome.WRONG, found, f"expected {expected}")


def check_regex(answer: str, gold: str | None, pattern: re.Pattern[str]) -> Verdict:
    """Take the pattern's last match (its first group where it has one) and compare it with the gold, if any."""
    matches = list(pattern.finditer(answer))
    if not matches:
        return Verdict(Outcome.NO_ANSWER, reason=f"nothing matches {pattern.pattern}")
    found = (matches[-1][1] if pattern.groups else matches[-1][0]) or ""
    if gold is None or found.strip() == gold.strip():
        return Verdict(Outcome.CORRECT, found)
    return Verdict(Outcome.WRONG, found, f"expected {gold.strip()}")


def check_math(answer: str, gold: str) -> Verdict:
    """Compare the final formula by value.

    That is what is named as the final answer behind the last box, else the last box, alone or with those right before
    it, else whatever math-verify takes for the answer.
    """
    answer, gold_text = answer_text.latex_of_signs(answer), answer_text.latex_of_signs(gold)
    found, said = answer_text.boxed(answer), answer_text.said_after_boxes(answer)
    if found is None and "\\boxed{" in answer:
        return Verdict(Outcome.CUT_OFF, reason="the last \\boxed{ is never closed")
    if found is None:
        said = _stated_formula(answer)
        if said is not None and answer_text.plain_math(said) == answer_text.plain_math(gold_text):
            return Verdict(Outcome.CORRECT, said, "the same text")
    if said is not None:
        judged = equivalent(gold_text, said)
        if judged.extracted is not None:
            return _math_verdict(judged, judged.extracted, gold)
    if found is not None and answer_text.plain_math(found) == answer_text.plain_math(gold_text):
        return Verdict(Outcome.CORRECT, found, "the same text")
    judged = equivalent(gold_text, answer if found is None else f"\\boxed{{{found}}}")
    together = answer_text.boxed_together(answer)
    if together is not None and not judged.equal:
        several = equivalent(gold_text, f"\\boxed{{{together}}}")
        if several.equal:
            return Verdict(Outcome.CORRECT, together, "the boxes together, the same value by math-verify")
    return _math_verdict(judged, found if found is not None else judged.extracted, gold)


def _stated_formula(answer: str) -> str | None:
    """The formula behind the last "the answer is", with delimiters where LaTeX has none; None where nothing is said."""
    said = answer_text.statements(answer)
    if not said:
        return None
    formula = _SENTENCE_END.split(said[-1], maxsplit=1)[0].strip()
    bare = "\\" in formula and not re.search(r"\$|\\[(\[]", formula)
    return f"${formula.rstrip('.')}$" if bare else formula


def _math_verdict(judged: Judged, extracted: str | None, gold: str) -> Verdict:
    if judged.problem:
        return Verdict(Outcome.NOT_JUDGED, extracted, judged.problem)
    if extracted is None:
        return Verdict(Outcome.NO_ANSWER, reason="no formula or number in the answer")
    if judged.equal:
        return Verdict(Outcome.CORRECT, extracted, "the same value by math-verify")
    return Verdict(Outcome.WRONG, extracted, f"expected {gold}")


def check_json(answer: str, gold: str) -> Verdict:
    """Compare as JSON values: the last fenced block, else the first value in the text; order of keys does not count."""
    fenced = blocks(answer)
    found = next((value for block in reversed(fenced) if (value := first_json(block.text)) is not None), None)
    found = first_json(answer) if found is None else found
    if found is None:
        if fenced and not fenced[-1].closed:
            return Verdict(Outcome.CUT_OFF, reason="the code block is never closed and does not parse")
        return Verdict(Outcome.NO_ANSWER, reason="no JSON object or array in the answer")
    written = json.dumps(found, ensure_ascii=False)
    try:
        expected = json.loads(gold)
    except json.JSONDecodeError as error:
        return Verdict(Outcome.NOT_JUDGED, written, f"the gold answer is no JSON: {error.msg}")
    if found == expected:
        return Verdict(Outcome.CORRECT, written)
    return Verdict(Outcome.WRONG, written, f"expected {gold}")


def first_json(text: str) -> JSON:
    """The first JSON object or array of a text; None where there is none."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[{\[]", text):
        try:
            value: JSON = decoder.raw_decode(text, match.start())[0]
        except (json.JSONDecodeError, RecursionError):
            continue
        return value
    return None
