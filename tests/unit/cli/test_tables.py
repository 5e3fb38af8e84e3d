"""Tables and sentences of the commands."""

import pytest
from rich.console import Console

from tokensieve.cli import tables
from tokensieve.cli.tables import print_yield
from tokensieve.comparison.render import HEADERS


def test_answers_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    print_yield(
        {
            "answers": 64,
            "correct_answers": 40,
            "cut_off_answers": 3,
            "correct_cut_off_answers": 2,
            "prompts_with_a_correct_answer": 2,
            "wrong_rows": 0,
        }
    )
    assert capsys.readouterr().out == (
        "answers: 64 drawn, 40 correct, 3 cut off (2 of them correct as far as they go, none is kept); "
        "2 prompts have a correct one\n"
    )


def test_checks_of_dialogues_are_told_where_there_were_any(capsys: pytest.CaptureFixture[str]) -> None:
    print_yield({"noted": {"answers correct": 2, "answers not_judged": 10}})
    print_yield({"noted": {}})
    assert capsys.readouterr().out == "answers correct: 2, answers not_judged: 10\n"


NAME = "a rather long name of an arm or a task, as people give them"
TABLES = {
    "study": (
        ("arm", "rows", "left out", "target", "TI (95 %)", "BWT (95 %)"),
        ("1,234", "12.5 %", "100.0 %", "-100.0 % (-100 … -100)", "-100.0 % (-100 … -100)"),
    ),
    "accuracies": (
        ("task", "answers", "correct", "95 % interval", "wrong", "no answer", "cut off"),
        ("12,000", "100.0 %", "99.9 … 100.0", "12,000", "12,000", "1,200, 120 right"),
    ),
    "comparison": (
        HEADERS,
        ("12,000", "100.0 %", "100.0 %", "-12.3 (-20.1…-4.0)", "<0.001", "123", "123", "12.3"),
    ),
    "anchors": (("prompts like", "candidates", "anchors", "drift (nats/token)"), ("1,234", "1,234", "0.1234")),
    "drift": (
        ("rows of", "rows", "tokens", "KL (nats/token)", "95 % interval", "nll change", "perplexity"),
        ("1,234", "123,456", "1.23e-05", "1.23e-05 … 4.56e-05", "-1.23e-05", "12.3 → 4.5"),
    ),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_number_of_a_table_breaks_over_two_lines(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    headers, cells = TABLES[name]
    monkeypatch.setattr(tables, "out", Console(width=width, soft_wrap=True, highlight=False, markup=False))
    table = tables.table_of(*headers)
    table.add_row(NAME, *cells)
    table.add_row("b", *cells)
    tables.print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    with_numbers = [line for line in lines if cells[0] in line]
    assert len(with_numbers) == 2
    assert all(cell in line for line in with_numbers for cell in cells)
    assert NAME.replace(" ", "") in "".join(line[: len(NAME)].split("  ")[0] for line in lines).replace(" ", "")


def test_a_table_wider_than_the_terminal_loses_no_digit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "out", Console(width=30, soft_wrap=True, highlight=False, markup=False))
    headers, cells = TABLES["study"]
    table = tables.table_of(*headers)
    table.add_row(NAME, *cells)
    tables.print_table(table)
    printed = capsys.readouterr().out
    assert all(cell in printed for cell in cells)
