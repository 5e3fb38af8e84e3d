"""What workers say of their steps, and what the watcher hears of it."""

import multiprocessing
import warnings
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest

from tokensieve.config import StudySettings
from tokensieve.study import workers
from tokensieve.study.plan import Plan
from tokensieve.study.runner import prepare
from tokensieve.study.steps import Runner, Step
from tokensieve.study.workers import Advanced, Desk, News, Reporter, Told

STUDY = {
    "name": "n",
    "targets": [{"task": "pocket_words", "others": ["pocket_choice"]}],
    "arms": [{"name": "plain"}],
}


class Clock:
    """Stands in for the time module: says the time it was set to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Log:
    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def started(self, step: Step, number: int, total: int) -> None:
        self.events.append(("started", step.verb, number, total))

    def advanced(self, step: Step, done: int, total: int) -> None:
        self.events.append(("advanced", step.verb, done, total))

    def finished(self, step: Step, wall_s: float, *, cached: bool) -> None:
        self.events.append(("finished", step.verb))


@pytest.fixture
def news() -> "SimpleQueue[News]":
    return multiprocessing.get_context("spawn").SimpleQueue()


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return prepare(StudySettings.model_validate(STUDY), tmp_path_factory.mktemp("root")).plan


def test_the_watcher_hears_of_each_step_as_with_one_process(
    plan: Plan, news: "SimpleQueue[News]", tmp_path: Path
) -> None:
    run = plan.targets[0].arms[0].runs[0]
    first, second = run.train, run.evaluations["pocket_words"]
    runner = Runner(tmp_path, log := Log())
    desk = Desk(plan, runner, news, done=3)
    total = len(plan.steps())
    for one in (Advanced(first.key, 0, 0), Advanced(second.key, 4, 8), Advanced(first.key, 5, 9)):
        news.put(one)
    desk.read()
    runner.folder(first).mkdir()
    Runner(tmp_path, Log()).make(Step(first.verb, first.label, first.key, lambda folder, progress: None))
    desk.finish([first, second])
    news.put(Advanced(first.key, 9, 9))  # late: it is finished
    desk.read()
    desk.finish([first, second])
    assert log.events == [
        ("started", "train", 4, total),
        ("advanced", "train", 0, 0),
        ("started", "evaluate", 5, total),
        ("advanced", "evaluate", 4, 8),
        ("advanced", "train", 5, 9),
        ("finished", "train"),
    ]


def test_a_workers_warning_is_shown_by_the_parent(plan: Plan, news: "SimpleQueue[News]", tmp_path: Path) -> None:
    news.put(Told("something to know", UserWarning, "file.py", 3))
    with pytest.warns(UserWarning, match="something to know"):
        Desk(plan, Runner(tmp_path, Log()), news, done=0).read()


def test_a_worker_says_little(plan: Plan, news: "SimpleQueue[News]", monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(workers, "time", clock)
    reporter = Reporter(news)
    step = plan.steps()[0]
    for done in range(100):
        clock.now += 0.01
        reporter.advanced(step, done, 100)
    heard = []
    while not news.empty():
        heard.append(news.get())
    assert heard[0] == Advanced(step.key, 0, 100)
    assert 3 <= len(heard) <= 5


def test_a_warning_in_a_worker_goes_to_the_parent(news: "SimpleQueue[News]") -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = workers.passed_on(news)
        warnings.warn("heard", UserWarning, stacklevel=1)
    told = news.get()
    assert isinstance(told, Told)
    assert (told.text, told.category) == ("heard", UserWarning)
