"""Steps of other runs: taken over whole, by key, with their origin told; nothing is taken twice or made up."""

import pydoc
from pathlib import Path

import pytest

from tokensieve.errors import InputError
from tokensieve.study.reuse import elsewhere, runs_in, take_over
from tokensieve.study.steps import Runner, Silent, Step, step_key
from tokensieve.types import Progress


def step(label: str, settings: int = 0) -> Step:
    def build(folder: Path, progress: Progress) -> None:
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "result").write_text(label)
        progress(1, 1)

    return Step("score", label, step_key("score", {"x": settings, "label": label}, ["input"]), build)


def made(root: Path, *steps: Step) -> Runner:
    runner = Runner(root, Silent())
    runner.run(steps)
    return runner


def taken(runner: Runner, steps: list[Step], *folders: Path) -> dict[str, int]:
    return dict(take_over(runner, elsewhere(runner, steps, runs_in(folders))))


def test_finished_steps_are_taken_and_say_where_they_came_from(tmp_path: Path) -> None:
    made(tmp_path / "runs" / "one", step("a"), step("b"))
    made(tmp_path / "runs" / "two", step("b"), step("c"))
    runner = Runner(tmp_path / "new", Silent())
    steps = [step("a"), step("b"), step("c"), step("d")]
    assert taken(runner, steps, tmp_path / "runs") == {"one": 2, "two": 1}
    records = [runner.record(one) for one in steps]
    assert [None if record is None else record.taken_from for record in records] == ["one", "one", "two", None]
    file = runner.folder(steps[0]) / "inner" / "result"
    assert file.read_text() == "a"
    assert file.samefile(tmp_path / "runs" / "one" / steps[0].folder_name / "inner" / "result"), "linked, not copied"
    assert taken(runner, steps, tmp_path / "runs") == {}, "what is there is not taken again"


def test_the_run_that_made_a_step_is_named_also_at_third_hand(tmp_path: Path) -> None:
    made(tmp_path / "one", step("a"))
    second, third = (Runner(tmp_path / name, Silent()) for name in ("two", "three"))
    taken(second, [step("a")], tmp_path / "one")
    assert taken(third, [step("a")], tmp_path / "two") == {"two": 1}
    record = third.record(step("a"))
    assert record is not None
    assert record.taken_from == "one"


def test_another_key_is_not_taken_and_a_half_made_step_gives_way(tmp_path: Path) -> None:
    other = made(tmp_path / "one", step("a", settings=1))
    lost = other.folder(step("b"))
    lost.mkdir()  # half done: it has no record
    runner = Runner(tmp_path / "new", Silent())
    assert taken(runner, [step("a"), step("b")], tmp_path / "one") == {}
    half = runner.folder(step("a", settings=1))
    (half / "inner").mkdir(parents=True)
    (half / "rest").touch()
    assert taken(runner, [step("a", settings=1)], tmp_path / "one") == {"one": 1}
    assert sorted(path.name for path in half.iterdir()) == ["inner"]


def test_a_disk_without_hard_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("os.link", refuse)
    made(tmp_path / "one", step("a"))
    runner = Runner(tmp_path / "new", Silent())
    assert taken(runner, [step("a")], tmp_path / "one") == {"one": 1}
    assert (runner.folder(step("a")) / "inner" / "result").stat().st_nlink == 1


def test_a_run_takes_nothing_from_itself(tmp_path: Path) -> None:
    runner = made(tmp_path / "one", step("a"))
    assert taken(runner, [step("a"), step("b")], tmp_path) == {}


def test_a_folder_that_is_not_there_is_refused_and_one_without_runs_gives_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        runs_in([tmp_path / "nowhere"])
    assert runs_in([tmp_path]) == ()


@pytest.mark.parametrize(
    "killed", ["shutil.copytree", "tokensieve.study.steps.Runner.write_record", "pathlib.Path.rename"]
)
@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
def test_a_kill_while_a_step_is_taken_over_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str, done: bool
) -> None:
    made(tmp_path / "one", step("a"))
    runner = Runner(tmp_path / "new", Silent())
    real = pydoc.locate(killed)
    assert callable(real)

    def die(*given: object, **named: object) -> None:
        if done:
            real(*given, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(killed, die)
        with pytest.raises(KeyboardInterrupt):
            taken(runner, [step("a")], tmp_path / "one")
    record = runner.record(step("a"))
    assert runner.folder(step("a")).exists() == (record is not None), "a folder without a record is of nobody"
    assert record is None or record.taken_from == "one"
    assert taken(runner, [step("a")], tmp_path / "one") == ({} if record else {"one": 1})
    record = runner.record(step("a"))
    assert record is not None
    assert record.taken_from == "one"
