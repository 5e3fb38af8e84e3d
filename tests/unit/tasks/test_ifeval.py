"""IFEval by rules of our own: each instruction, strict and loose; the four figures; rows that are refused."""

import json
from pathlib import Path

import pytest

from tokensieve.config import EvaluateSettings
from tokensieve.errors import InputError
from tokensieve.evaluation import evaluate, open_evaluation
from tokensieve.sampling import ScriptedSampler
from tokensieve.tasks import TASKS
from tokensieve.tasks.english_text import count_capital_words, count_sentences
from tokensieve.tasks.ifeval_rules import RULES, follows, follows_loosely
from tokensieve.tasks.judging import check_gold
from tokensieve.types import JSON, Outcome

CASES: list[tuple[str, dict[str, JSON], str, bool]] = [
    ("keywords:existence", {"keywords": ["Red", "sky"]}, "the SKY was red", True),
    ("keywords:existence", {"keywords": ["red", "sky"]}, "the sky", False),
    ("keywords:existence", {"keywords": ["C++"]}, "use c++", True),
    ("keywords:frequency", {"keyword": " ice ", "frequency": 2, "relation": "at least"}, "Ice, nice", True),
    ("keywords:frequency", {"keyword": "ice", "frequency": 2, "relation": "less than"}, "ice, nice", False),
    ("keywords:forbidden_words", {"forbidden_words": ["ice"]}, "a nice day", True),
    ("keywords:forbidden_words", {"forbidden_words": ["ice"]}, "ICE!", False),
    ("keywords:letter_frequency", {"letter": "A", "let_frequency": 3, "let_relation": "at least"}, "aAb a", True),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "less than"}, "## x", False),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One. Two.", True),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "Dr. Lee left.", True),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "one two", True),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one-two 3", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb\n***", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\n***\nb", False),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, "a", True),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        'one\n\n"then, two',
        True,
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        "one\n\nthen two\n\nthree",
        False,
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        "then",
        False,
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", True),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a\nb] [b]", False),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "x\np. s. y", True),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "PS: y", False),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S y", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n  - b", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "**bold**\n* a", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "- a\n- b", False),
    ("detectable_format:constrained_response", {}, "Well: My answer is maybe. ", True),
    ("detectable_format:constrained_response", {}, "yes", False),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "**", False),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "*a\nb*", False),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1 a Section2",
        True,
    ),
    ("detectable_format:multiple_sections", {"section_spliter": "Part", "num_sections": 2}, "Part one", False),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', True),
    ("detectable_format:json_format", {}, 'Here: {"a": 1}', False),
    ("detectable_format:json_format", {}, "[" * 20000, False),
    ("detectable_format:title", {}, "<<a title>> text", True),
    ("detectable_format:title", {}, "<< >> <<a\nb>>", False),
    ("combination:two_responses", {}, "a\n******\nb", True),
    ("combination:two_responses", {}, "a******a", False),
    ("combination:two_responses", {}, "a******b******c", False),
    ("combination:two_responses", {}, "******a******b", True),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it. "}, " say it. Done", True),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "I say it.", False),
    ("startend:end_checker", {"end_phrase": "The end."}, 'So: "the END."', True),
    ("startend:end_checker", {"end_phrase": "The end."}, "The end. Bye", False),
    ("startend:quotation", {}, ' "all of it" ', True),
    ("startend:quotation", {}, '"', False),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "I AM here", True),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}, "I AM", False),
    ("change_case:english_capital", {}, "Not capitals", False),
    ("change_case:english_lowercase", {}, "Not lower", False),
    ("punctuation:no_comma", {}, "none here", True),
    ("punctuation:no_comma", {}, "one, here", False),
]


@pytest.mark.parametrize(("instruction", "arguments", "text", "followed"), CASES)
def test_instructions(instruction: str, arguments: dict[str, JSON], text: str, followed: bool) -> None:
    assert set(arguments) == set(RULES[instruction].needs)
    assert follows(instruction, text, arguments) is followed


def test_every_instruction_has_a_case() -> None:
    assert {case[0] for case in CASES} | {"language:response_language"} == set(RULES)
    assert len(RULES) == 25


@pytest.mark.parametrize(
    ("instruction", "language", "text", "followed"),
    [
        ("language:response_language", "de", "Das ist ein deutscher Satz über das Wetter von gestern.", True),
        ("language:response_language", "fr", "This is an English sentence about the weather.", False),
        ("language:response_language", "de", "12345", True),
        ("change_case:english_capital", "", "THIS IS AN ENGLISH SENTENCE ABOUT THE WEATHER.", True),
        ("change_case:english_lowercase", "", "this is an english sentence about the weather.", True),
        ("change_case:english_lowercase", "", "das ist ein deutscher satz über das wetter von gestern.", False),
    ],
)
def test_languages(instruction: str, language: str, text: str, followed: bool) -> None:
    pytest.importorskip("langdetect", reason="langdetect is not installed (extra ifeval)")
    assert follows(instruction, text, {"language": language} if language else {}) is followed


@pytest.mark.parametrize("instruction", sorted(RULES))
def test_an_empty_text_follows_nothing(instruction: str) -> None:
    assert not follows(instruction, " \n", {})


@pytest.mark.parametrize(
    ("text", "loosely"),
    [
        ("Sure, here you are:\nno comma", True),
        ("no comma\nGlad to help, bye", True),
        ("Sure, here:\nno comma\nBye, you", True),
        ("in the, middle", False),
        ("Sure, two\nlines, both", False),
    ],
)
def test_the_loose_rule_forgives_the_first_and_the_last_line(text: str, loosely: bool) -> None:
    assert not follows("punctuation:no_comma", text, {})
    assert follows_loosely("punctuation:no_comma", text, {}) is loosely


def test_the_loose_rule_forgives_asterisks() -> None:
    arguments: dict[str, JSON] = {"end_phrase": "the end."}
    assert not follows("startend:end_checker", "**The end.**", arguments)
    assert follows_loosely("startend:end_checker", "**The end.**", arguments)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One", 1),
        ("One. Two! Three?", 3),
        ("He paid Mr. Smith 3.50 dollars.", 1),
        ("In the U.S. The rest follows.", 2),
        ("Really?! Yes.", 2),
        ('He said "Go." Then he left.', 2),
        ("Wait... what? No.", 2),
        ("J. K. Rowling wrote it.", 1),
        ("A (see p. 5) test. Done.", 2),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert count_sentences(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("I'M HERE", 3),
        ("(USA) and NASA, ok", 2),
        ("A-B 12 A1", 2),
        ("CANNOT", 2),
        ("**BOLD** Text", 1),
        ("1,000 $5", 0),
    ],
)
def test_words_in_capitals(text: str, count: int) -> None:
    assert count_capital_words(text) == count


ROW: dict[str, JSON] = {
    "key": 7,
    "prompt": "Write without commas, in two words.",
    "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
    "kwargs": [{"num_words": None}, {"num_words": 3, "relation": "less than", "keyword": None}],
}


def folder_of(tmp_path: Path, *rows: dict[str, JSON]) -> Path:
    (tmp_path / "input_data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_an_evaluation_has_the_four_official_figures(tmp_path: Path) -> None:
    data = folder_of(tmp_path, ROW, {**ROW, "key": 8}, {**ROW, "key": 9})
    answers = {"ifeval/test/7": ["two words"], "ifeval/test/8": ["a, b\ntwo words"], "ifeval/test/9": ["a, b, c, d"]}
    settings = EvaluateSettings(tasks=("ifeval", "ifeval:loose"), data=data)
    for result in (
        evaluate(ScriptedSampler(answers), settings),
        evaluate(ScriptedSampler(answers), settings, tmp_path / "out"),
        open_evaluation(tmp_path / "out"),
    ):
        assert result.accuracies() == pytest.approx({"ifeval": 1 / 3, "ifeval:loose": 2 / 3})
        expected = {
            "prompt_strict": 1 / 3,
            "instruction_strict": 2 / 6,
            "prompt_loose": 2 / 3,
            "instruction_loose": 4 / 6,
        }
        assert result.figures == {name: pytest.approx(expected) for name in ("ifeval", "ifeval:loose")}


def test_a_verdict_names_what_was_not_followed(tmp_path: Path) -> None:
    (problem,) = TASKS["ifeval"].problems("test", folder_of(tmp_path, ROW))
    verdict = TASKS["ifeval"].check(problem, "a, b")
    assert verdict.outcome is Outcome.WRONG
    assert verdict.reason == "1 of 2 instructions followed; not punctuation:no_comma"
    assert TASKS["ifeval"].check(problem, "<think>a, b, c, d</think>two words").correct
    assert TASKS["ifeval"].check(problem, "").outcome is Outcome.NO_ANSWER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kwargs": [{}]}, "expected a list of 2 objects"),
        (
            {"instruction_id_list": ["punctuation:no_dots", "punctuation:no_comma"]},
            "unknown instruction 'punctuation:no",
        ),
        ({"kwargs": [{}, {"num_words": 3}]}, "needs relation"),
        ({"key": "seven"}, "whole number in 'key'"),
    ],
)
def test_malformed_rows_are_refused(tmp_path: Path, change: dict[str, JSON], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(TASKS["ifeval"].problems("test", folder_of(tmp_path, {**ROW, **change})))


def test_there_are_no_references_to_check(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no reference answer"):
        check_gold(TASKS["ifeval"], folder_of(tmp_path, ROW), splits=["test"])


def test_the_published_prompts_are_read(shared_data: Path) -> None:
    pytest.importorskip("langdetect", reason="langdetect is not installed (extra ifeval)")
    problems = list(TASKS["ifeval"].problems("test", shared_data))
    assert len(problems) == 541
    assert len({problem.id for problem in problems}) == 541
