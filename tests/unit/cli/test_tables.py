"""What the commands say of generated data."""

import pytest

from tokensieve.cli.tables import print_yield


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
