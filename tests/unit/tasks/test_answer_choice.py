"""The option that an answer chooses: listing is not choosing."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.tasks.answer_choice import choice

LABELS = ("A", "B", "C", "D")
WORDS = {"A": "copper", "B": "Iron", "C": "tin", "D": "lead"}
CHOSEN: list[tuple[str, str | None]] = [
    ("C", "C"),
    (" (b) ", "B"),
    ("**C**", "C"),
    ("C. Planetary days will become shorter.", "C"),
    ("The answer is B.", "B"),
    ("The correct answer is (D), since A is too hot.", "D"),
    ("Answer: **A**", "A"),
    ("I think A is wrong. The answer is C", "C"),
    ("\\boxed{\\text{B}}", "B"),
    ("D) because of gravity", "D"),
    ("It must be choice B", "B"),
    ("Of all of these only [C] holds water", "C"),
    ("Maybe A, maybe B", None),
    ("a) copper\nb) iron\nc) tin\nd) lead", None),
    ("a) copper b) iron c) tin d) lead\nThe answer is c).", "C"),
    ("I would take option (b) here", "B"),
    ("A - copper\nB - iron\nC - tin\nD - lead", None),
    ("C \u2013 tin", "C"),
    ("A plus C", None),
    ("A, along with C", None),
    ("A together with C", None),
    ("A dog is a mammal", None),
    ("", None),
    ("Planets spin.", None),
    ("iron", "B"),
    ("Iron.", "B"),
    ("A. copper\nB. Iron\nC. tin\nD. lead", None),
    ("A. copper B. Iron C. tin D. lead", None),
    ("A) copper, B) Iron, C) tin, D) lead", None),
    ("Both A and B", None),
    ("Both A and B are correct.", None),
    ("A or C", None),
    ("A and B", None),
    ("A, B", None),
    ("A/B", None),
    ("not A but B", "B"),
    ("It is not A, it is B.", "B"),
    ("A, not B", "A"),
    ("The answer is A. Copper conducts best.\nB is wrong because iron rusts.", "A"),
    ("The answer is A and B", None),
    ("The answer is A or B.", None),
    ("The answer is either A or B", None),
    ("The correct answers are A and C.", None),
    ("Answer: A, B", None),
    ("The answer is not A but B.", "B"),
    ("The answer is not A. It is B.", "B"),
    ("A. copper\nB. Iron\nC. tin\nD. lead\n\nThe correct answer is C.", "C"),
    ("A. copper\nB. Iron\nC. tin\nD. lead\n\nAnswer: C. tin", "C"),
    ("C. tin\n\nA. copper is wrong because...\nB. Iron is incorrect.\nD. lead is not right.", "C"),
    ("A. copper - incorrect\nB. Iron - correct\nC. tin - incorrect\nD. lead - incorrect", "B"),
    ("Option A is incorrect because it melts. Option C is correct because it bends. Option D is incorrect.", "C"),
    ("A is wrong, B is wrong, D is wrong, so it is C.", "C"),
    ("Option A and option B are wrong; C is the answer.", "C"),
    ("The answer is iron.", "B"),
    ("The correct answer is: B) Iron", "B"),
    ("The answer is B. Wait, the answer is C.", "C"),
    ("I would choose B.", "B"),
    ("I'd go with option D because it is heavy.", "D"),
    ("So the answer is (C).", "C"),
    ("b) Iron", "B"),
    ("b", "B"),
    ("Answer: b", "B"),
    ("The answer is b.", "B"),
    ("None of the above", None),
    ("A. copper and C. tin", None),
    ("The answer is A. copper and C. tin", None),
    ("The answer is A (copper) and B (iron)", None),
    ("B is correct.", "B"),
    ("A is correct, and B is also correct.", None),
    ("The best answer is D", "D"),
    ("The right choice is D.", "D"),
    ("B because iron is magnetic", "B"),
    ("B - Iron", "B"),
    ("B: Iron", "B"),
    ("B\n\nIron is magnetic.", "B"),
    ("Let's see. A is too soft. C is too weak. D is too heavy. Therefore, B.", "B"),
    ("Copper is soft, so the answer is B, not A.", "B"),
    ("The answer is $\\boxed{B}$", "B"),
    ("\\boxed{A, B}", None),
    ("\\boxed{\\text{(B) Iron}}", "B"),
    ("\\boxed{\\textbf{(B)}}", "B"),
    ("**Answer:** B. Iron", "B"),
    ("**B. Iron**", "B"),
    ("### Answer\nB", "B"),
    ("The answer is: \n\nB. Iron", "B"),
    ("The correct answer is option B.", "B"),
    ("the answer would be C", "C"),
    ("Answer:B", "B"),
    ("A dog is a mammal. The answer is B", "B"),
    ("The answer is A because it is not hot.", "A"),
    ("A is not the answer. B is not the answer. C is.", "C"),
    ("I think the answer is B or C, but C is better, so the answer is C", "C"),
    ("I think it's D.", "D"),
    ("(A) copper\n(B) Iron\n(C) tin\n(D) lead", None),
    ("- A: copper\n- B: Iron\n- C: tin\n- D: lead", None),
    ("A\nB\nC\nD", None),
    ("A B C D", None),
    ("A. copper\n\nExplanation: copper conducts.", "A"),
    ("B. Iron\nC. tin", None),
    ("Answer: C\n\nA. copper\nB. Iron\nC. tin\nD. lead", "C"),
    ("The correct choice is C) tin", "C"),
    ("C is the correct answer.", "C"),
    ("Choice B", "B"),
    ("Option (B)", "B"),
    ("[B]", "B"),
    ("Final answer: B", "B"),
    ("Answer - B", "B"),
    ("A, B, C and D are all correct.", None),
    ("All of them", None),
    ("I do not know.", None),
    ("Either B or D.", None),
    ("C (tin)", "C"),
    ("A. copper (incorrect)\nB. Iron (incorrect)\nC. tin (correct)\nD. lead (incorrect)", "C"),
    ("A. copper: No.\nB. Iron: Yes, this is correct.\nC. tin: No.\nD. lead: No.", "B"),
    ("A ❌\nB ✅\nC ❌", None),
    ("A. ❌ copper\nB. ✅ Iron\nC. ❌ tin\nD. ❌ lead", "B"),
    ("Which metal is magnetic?\nA. copper\nB. Iron\nC. tin\nD. lead\nB. Iron", "B"),
    ("Sharks are fish (A). Dogs nurse. The answer is B", "B"),
    ("The answer is B. A is wrong because x. C is wrong because y.", "B"),
    ("A is the correct answer. B is wrong because copper...", "A"),
    ("The answer is A, and B is wrong", "A"),
    ("Answer: A (B is wrong)", "A"),
    ("The correct answer is B. Iron. Explanation: A. copper is not magnetic. C. tin is not.", "B"),
]


@pytest.mark.parametrize(("text", "label"), CHOSEN)
def test_the_label_that_is_chosen(text: str, label: str | None) -> None:
    assert choice(text, LABELS, WORDS) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("3", "3"),
        ("The answer is 3", "3"),
        ("3. tin", "3"),
        ("It takes 3 days", None),
        ("1. a\n2. b\n3. c\n4. d", None),
        ("The answer is 3) because of the 4 seasons", "3"),
    ],
)
def test_labels_that_are_digits(text: str, label: str | None) -> None:
    assert choice(text, ("1", "2", "3", "4")) == label


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("A", "changing the plants so they do not make pollen"),
        ("C", "are not conductors of electricity"),
        ("B", "there are too many variables."),
        ("C", "Women were excluded from the study."),
    ],
)
def test_a_not_among_an_options_words_excludes_nothing(label: str, words: str) -> None:
    for form in (f"{label}. {words}", f"The answer is {label}. {words}", f"**{label}) {words}**\n\nIt is so."):
        assert choice(form, LABELS) == label
        assert choice(form, LABELS, WORDS | {label: words}) == label
    assert choice(words, LABELS, WORDS | {label: words}) == label


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    choice(text, LABELS, WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 50000,
        "answer" + " " * 50000,
        " " * 50000 + "x",
        "A, " * 20000,
        "A is " * 10000,
        "not " * 20000,
        "A. x " * 10000,
        "the answer is " * 5000,
        "(" * 50000,
        "A " + "a" * 50000,
        "(A" * 20000,
        "so it is " * 5000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    choice(text, LABELS, WORDS)
    assert time.process_time() - started < 3
