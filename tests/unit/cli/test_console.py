"""What long work says where the output is no terminal: how long it will take, soon; then a line now and then."""

from io import StringIO

import pytest
from rich.console import Console

from tokensieve.cli import console, main
from tokensieve.cli.console import Work, duration


class Clock:
    """Stands in for the time module: says the time it was set to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


def lines_of(
    clock: Clock, capsys: pytest.CaptureFixture[str], done_at: list[tuple[float, int]], total: int
) -> list[str]:
    with Work("score", "rows") as work:
        for seconds, done in done_at:
            clock.now = 100.0 + seconds
            work.advanced(done, total)
    return capsys.readouterr().err.splitlines()


def test_an_estimate_comes_after_two_seconds_and_then_a_line_every_ten(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(clock, capsys, [(float(second), 10 * second) for second in range(25)], 1000)
    assert lines == [
        "score: 20 of 1,000 rows, 10.0/s, about 1 min 38 s left",
        "score: 120 of 1,000 rows, 10.0/s, about 1 min 28 s left",
        "score: 220 of 1,000 rows, 10.0/s, about 1 min 18 s left",
    ]


def test_short_work_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(clock, capsys, [(0.0, 0), (2.5, 50), (5.0, 100)], 100) == []


def test_what_an_earlier_start_had_done_does_not_count_in_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(clock, capsys, [(0.0, 900), (4.0, 904)], 1000)
    assert lines == ["score: 904 of 1,000 rows, 1.0/s, about 1 min 36 s left"]


def test_work_without_a_known_end_counts(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(clock, capsys, [(0.0, 0), (4.0, 8)], 0) == ["score: 8 rows, 2.0/s"]


@pytest.mark.parametrize(("seconds", "text"), [(44.6, "45 s"), (185, "3 min 05 s"), (7_800, "2 h 10 min")])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_works_at_a_time_print_whole_lines_in_turn(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Work("train a", "steps") as first, Work("evaluate b", "answers") as second:
        for seconds in (0.0, 3.0):
            clock.now = 100.0 + seconds
            first.advanced(int(10 * seconds), 1000)
            second.advanced(int(5 * seconds), 1000)
    assert capsys.readouterr().err.splitlines() == [
        "train a: 30 of 1,000 steps, 10.0/s, about 1 min 37 s left",
        "evaluate b: 15 of 1,000 answers, 5.0/s, about 3 min 17 s left",
    ]


def test_works_at_a_time_have_a_bar_each_in_one_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=StringIO(), force_terminal=True, width=100, highlight=False)
    monkeypatch.setattr(console, "err", terminal)
    with Work("train a", "steps") as first:
        with Work("evaluate b", "answers") as second:
            first.advanced(3, 10)
            second.advanced(4, 10)
            display = console._bars._display
            assert display is not None
            assert [(task.description, task.completed) for task in display.tasks] == [("train a", 3), ("evaluate b", 4)]
        assert [task.description for task in display.tasks] == ["train a"]
        terminal.print("[1/2] evaluate b: 3 s")
    assert console._bars._display is None, "the terminal is given back with the last bar"
    assert "[1/2] evaluate b: 3 s" in terminal.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("words", [["repair", "tuned", "one more", "--out", "x"], ["store", "list", "one more"]])
def test_a_word_too_many_is_named_in_our_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "error: expected no such words here: one more" in capsys.readouterr().err
