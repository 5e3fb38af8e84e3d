"""Generation end to end with scripted answers: both phases, resumption, what is kept and what is counted out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from tests.toy_tasks import DyingSampler, number_of, says, toy_task

from tokensieve.config import AnswererSettings, GenerateSettings, ManySettings
from tokensieve.data.dataset import Rows, open_rows
from tokensieve.errors import InputError
from tokensieve.generation import generate, read_yields
from tokensieve.generation.arms import ARMS, Arm, is_leftover, rephrase_prompt
from tokensieve.generation.perplexity import conditional_nll, unconditional_nll
from tokensieve.models import LoadedModel
from tokensieve.sampling import Request, Sampler, ScriptedSampler
from tokensieve.tasks import TASKS, Task
from tokensieve.types import Example, Message, Origin, Problem, Sample

END = 2


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "toy", toy_task("toy"))


@pytest.fixture(scope="module")
def base(tiny_model: Callable[..., LoadedModel]) -> LoadedModel:
    return tiny_model()


def scripted(base: LoadedModel, answers: Callable[[int, int], str], nll: dict[str, float] | None = None) -> Sampler:
    """Answers by the problem's number and the answer's; all have an nll unless a dictionary says otherwise."""

    def answer(request: Request, index: int) -> str:
        return answers(number_of(request.id), index)

    return ScriptedSampler(answer, base.tokenizer, nll, end=END)


def settings(n: int = 3, **changes: object) -> GenerateSettings:
    made = GenerateSettings(sampling=ManySettings(n=n, temperature=0.7))
    return made.model_copy(update=changes)


def text_of(example: Example) -> str:
    return cast(str, example.messages[-1]["content"])


def test_the_correct_answer_of_lowest_perplexity_is_kept_with_its_sampled_ids(
    base: LoadedModel, tmp_path: Path
) -> None:
    texts = ["a{}", "b{}", "wrong"]
    nll = {text.format(n): value for n in range(6) for text, value in zip(texts, (0.4, 0.3, 0.1), strict=True)}
    sampler = scripted(base, lambda n, i: texts[i].format(n), nll)
    made = list(generate("toy", base, settings(), tmp_path / "out", sampler=sampler))
    assert [text_of(example) for example in made] == [f"b{n}" for n in range(6)]
    assert all(example.origin is Origin.SELF_OUTPUT for example in made)
    for example in made:
        assert example.sampled_ids is not None
        expected = base.tokenizer(text_of(example), add_special_tokens=False)["input_ids"]
        assert example.sampled_ids.tolist() == [*expected, END]


def test_prompts_without_a_correct_answer_are_counted_out_or_fall_back(base: LoadedModel, tmp_path: Path) -> None:
    sampler = scripted(base, lambda n, i: str(n) if n % 2 else "9")
    dropped = generate("toy", base, settings(choose="first"), tmp_path / "a", sampler=sampler)
    assert [example.id for example in dropped] == ["toy/train/1", "toy/train/3", "toy/train/5"]
    assert dropped.manifest.counts.dropped == {"no correct answer": 3}
    assert dropped.manifest.counts.rows_in == 6
    assert "toy/train/2" in dropped.manifest.counts.dropped_ids["no correct answer"]
    filled = list(
        generate("toy", base, settings(choose="first", none_correct="ground-truth"), tmp_path / "b", sampler=sampler)
    )
    assert [example.origin for example in filled[:2]] == [Origin.GROUND_TRUTH, Origin.SELF_OUTPUT]
    assert text_of(filled[0]) == "0"
    assert filled[0].sampled_ids is None


def test_a_cut_off_answer_is_never_training_data(base: LoadedModel, tmp_path: Path) -> None:
    sampler = scripted(base, lambda n, i: f"{n}…" if i else "nothing")
    made = generate("toy", base, settings(choose="first"), tmp_path / "out", sampler=sampler)
    assert list(made) == []
    yields = read_yields(tmp_path / "out")
    assert all((y.drawn, y.cut_off, y.no_answer, y.correct, y.chosen) == (3, 2, 1, 0, None) for y in yields)
    assert {y.cut_off_correct for y in yields} == {2}
    assert made.manifest.counts.dropped == {"every correct answer was cut off by the length limit": 6}


def test_a_correct_answer_that_was_cut_off_does_not_end_the_drawing(base: LoadedModel, tmp_path: Path) -> None:
    sampler = DyingSampler(scripted(base, lambda n, i: f"{n}…" if i < 2 else str(n)))
    made = generate("toy", base, settings(4, stop_at=1, choose="first"), tmp_path / "out", sampler=sampler)
    assert [text_of(example) for example in made] == [str(n) for n in range(6)]
    assert {y.drawn for y in read_yields(tmp_path / "out")} == {3}


def test_yields_tell_what_each_prompt_gave(base: LoadedModel, tmp_path: Path) -> None:
    sampler = scripted(base, lambda n, i: [str(n), "9", "none"][i], {str(n): 0.25 for n in range(6)})
    made = generate("toy", base, settings(), tmp_path / "out", sampler=sampler)
    first = read_yields(tmp_path / "out")[0]
    assert (first.id, first.drawn, first.correct, first.wrong, first.no_answer) == ("toy/train/0", 3, 1, 1, 1)
    assert (first.chosen, first.nll) == (0, 0.25)
    assert made.manifest.facts["correct_answers"] == 6
    assert made.manifest.facts["answers"] == 18


@pytest.mark.parametrize("killed_after", [0, 7, 17])
def test_a_killed_run_goes_on_with_the_same_result(base: LoadedModel, tmp_path: Path, killed_after: int) -> None:
    def answers() -> Sampler:
        return scripted(base, lambda n, i: [f"a {n}", str(n), "9"][(n + i) % 3])

    rules = settings(choose="random")
    undisturbed = generate("toy", base, rules, tmp_path / "whole", sampler=answers())
    with pytest.raises(KeyboardInterrupt):
        generate("toy", base, rules, tmp_path / "out", sampler=DyingSampler(answers(), killed_after))
    second = DyingSampler(answers())
    resumed = generate("toy", base, rules, tmp_path / "out", sampler=second)
    assert [(e.id, text_of(e)) for e in resumed] == [(e.id, text_of(e)) for e in undisturbed]
    assert resumed.manifest.digest == undisturbed.manifest.digest
    third = DyingSampler(answers())
    generate("toy", base, rules, tmp_path / "out", sampler=third)
    assert third.answered == []


def test_answers_drawn_before_a_kill_are_not_drawn_again(
    base: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokensieve.generation.sample_and_check.SHARD_PROMPTS", 2)
    answers = scripted(base, lambda n, i: str(n))
    with pytest.raises(KeyboardInterrupt):
        generate("toy", base, settings(choose="first"), tmp_path / "out", sampler=DyingSampler(answers, 8))
    second = DyingSampler(answers)
    generate("toy", base, settings(choose="first"), tmp_path / "out", sampler=second)
    assert {problem for problem, _ in second.answered} == {f"toy/train/{n}" for n in range(2, 6)}


def test_drawing_stops_at_enough_correct_answers(base: LoadedModel, tmp_path: Path) -> None:
    sampler = DyingSampler(scripted(base, lambda n, i: str(n) if i >= n else "9"))
    generate("toy", base, settings(8, stop_at=1, choose="first"), tmp_path / "out", sampler=sampler)
    drawn = {y.id: y.drawn for y in read_yields(tmp_path / "out")}
    # rounds of 1, 2, 4 and the last one of 8
    assert list(drawn.values()) == [1, 3, 3, 7, 7, 7]
    assert len(set(sampler.answered)) == len(sampler.answered) == sum(drawn.values())


def test_a_mix_keeps_wrong_answers_for_ablations(base: LoadedModel, tmp_path: Path) -> None:
    sampler = scripted(base, lambda n, i: str(n) if i else "9")
    made = generate("toy", base, settings(2, choose="first", correct_share=0.5), tmp_path / "half", sampler=sampler)
    assert sum(text_of(example) == "9" for example in made) == 3
    assert made.manifest.facts["wrong_rows"] == 3
    none = generate("toy", base, settings(2, choose="first", correct_share=0.0), tmp_path / "none", sampler=sampler)
    assert {text_of(example) for example in none} == {"9"}


def test_answers_without_an_nll_are_scored_by_the_model_itself(base: LoadedModel, tmp_path: Path) -> None:
    sampler = scripted(base, lambda n, i: [f"{n}", f"so it must be {n}"][i])
    for number, perplexity in enumerate(("conditional", "unconditional")):
        rules = settings(2, perplexity=perplexity)
        generate("toy", base, rules, tmp_path / str(number), sampler=sampler)
    conditional, unconditional = (read_yields(tmp_path / str(number)) for number in (0, 1))
    assert all(entry.nll is not None and entry.nll > 0 for entry in (*conditional, *unconditional))
    assert [entry.nll for entry in conditional] != [entry.nll for entry in unconditional]


def test_the_authors_rule_looks_at_the_text_alone(base: LoadedModel, tmp_path: Path) -> None:
    texts = ["{}", "so it is {}", "{}!", "{}."]
    sampler = scripted(base, lambda n, i: texts[i].format(n))
    made = list(generate("toy", base, settings(4, perplexity="unconditional"), tmp_path / "out", sampler=sampler))
    for number, example in enumerate(made):
        listed = [text.format(number) for text in texts]
        assert text_of(example) == listed[int(np.argmin(unconditional_nll(listed, base)))]


def test_a_larger_model_s_answers_keep_their_ids_where_both_read_alike(
    base: LoadedModel, tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    larger = tiny_model(seed=1, num_hidden_layers=3)
    larger.model.save_pretrained(tmp_path / "larger")
    larger.tokenizer.save_pretrained(tmp_path / "larger")
    rules = GenerateSettings(
        arm="larger-model",
        sampling=ManySettings(n=2, temperature=1.0, top_p=1.0),
        correct_share=0.0,
        answerer=AnswererSettings(model=str(tmp_path / "larger")),
    )
    made = generate(toy_task("toy", 24), base, rules, tmp_path / "out")
    assert len(made) > 0
    drawn = {s.text: s.ids for s in open_rows(tmp_path / "out" / "samples") if isinstance(s, Sample)}
    for example in made:
        assert example.origin is Origin.LARGER_MODEL
        assert example.sampled_ids is not None
        assert example.sampled_ids.tolist() == list(drawn[text_of(example)])
    # The choice goes by the model that will be trained, not by the one that answered.
    entry = next(entry for entry in read_yields(tmp_path / "out") if entry.chosen is not None)
    chosen = next(example for example in made if example.id == entry.id)
    assert entry.nll == pytest.approx(conditional_nll([chosen], base)[0], abs=1e-5)


def test_a_larger_model_s_answers_are_made_into_ids_again_where_it_reads_otherwise(
    base: LoadedModel, tmp_path: Path
) -> None:
    class Other(DyingSampler):
        identity = ScriptedSampler({}).identity.model_copy(update={"tokenizer_digest": "another"})

    sampler = cast(Sampler, Other(scripted(base, lambda n, i: str(n))))
    made = generate("toy", base, settings(arm="larger-model", choose="first"), tmp_path / "out", sampler=sampler)
    assert all(example.sampled_ids is None for example in made)
    assert made.manifest.facts["retokenised_rows"] == 6


def test_ids_that_go_on_behind_the_answer_s_end_are_not_taught(base: LoadedModel, tmp_path: Path) -> None:
    task = replace(toy_task("toy"), ended=lambda problem, text: text.split("\n")[0])
    sampler = scripted(base, lambda n, i: f"{n}\nand what nobody asked for")
    made = generate(task, base, settings(), tmp_path / "out", sampler=sampler)
    assert [text_of(example) for example in made] == [str(number) for number in range(6)]
    assert all(example.sampled_ids is None for example in made)
    assert made.manifest.facts["retokenised_rows"] == 6


def test_texts_of_a_server_lose_their_ids_and_are_counted(base: LoadedModel, tmp_path: Path) -> None:
    class Server(DyingSampler):
        def draw(self, *arguments: object) -> object:  # type: ignore[override]
            for sample in super().draw(*arguments):  # type: ignore[arg-type]
                yield Sample(sample.problem_id, sample.task, sample.index, sample.text, sample.ids, retokenised=True)

    sampler = Server(scripted(base, lambda n, i: str(n)))
    made = generate("toy", base, settings(choose="first"), tmp_path / "out", sampler=cast(Sampler, sampler))
    assert all(example.sampled_ids is None for example in made)
    assert made.manifest.facts["retokenised_rows"] == 6
    assert {entry.retokenised for entry in read_yields(tmp_path / "out")} == {3}
    assert made.manifest.facts["retokenised_rows_with_another_text"] == 0


def test_ids_that_the_text_would_not_give_again_are_kept_and_counted(base: LoadedModel, tmp_path: Path) -> None:
    class Odd(DyingSampler):
        def draw(self, *arguments: object) -> object:  # type: ignore[override]
            for sample in super().draw(*arguments):  # type: ignore[arg-type]
                yield Sample(sample.problem_id, sample.task, sample.index, sample.text, (7, *sample.ids))

    sampler = Odd(scripted(base, lambda n, i: str(n)))
    made = generate("toy", base, settings(choose="first"), tmp_path / "out", sampler=cast(Sampler, sampler))
    assert all(example.sampled_ids is not None and example.sampled_ids[0] == 7 for example in made)
    assert made.manifest.facts["sampled_rows_that_text_would_tokenise_otherwise"] == 6
    assert made.manifest.facts["retokenised_rows"] == 0


def test_rephrase_shows_the_reference_and_trains_on_the_plain_prompt(base: LoadedModel, tmp_path: Path) -> None:
    seen: list[Request] = []

    def answer(request: Request, index: int) -> str:
        seen.append(request)
        return str(number_of(request.id)) if index else f"Here is my answer: {number_of(request.id)}"

    sampler = ScriptedSampler(answer, base.tokenizer, end=END)
    made = list(generate("toy", base, settings(2, arm="rephrase"), tmp_path / "out", sampler=sampler))
    content = str(seen[0].messages[-1]["content"])
    assert "say 0" in content
    assert "### Reference answer\n0" in content
    assert made[0].messages == ({"role": "user", "content": "say 0"}, {"role": "assistant", "content": "0"})
    assert made[0].origin is Origin.REPHRASE
    assert read_yields(tmp_path / "out")[0].leftovers == 1


def test_a_task_may_bring_its_own_form_of_rephrasing() -> None:
    plain = toy_task("toy")
    task = Task(plain.name, plain.title, plain.splits, plain.load, plain.check, 16, lambda p, r: f"{p.id} | {r}")
    problem = next(task.load("train", None))
    assert rephrase_prompt(task, problem)[-1]["content"] == "toy/train/0 | 0"


@pytest.mark.parametrize(
    "text",
    [
        "Sure, here is my rephrased answer:\n4",
        "Here's a solution: 4",
        "Based on the reference answer, the result is 4",
        "In my own words: it is 4",
        "### Response\n4",
    ],
)
def test_talk_about_the_request_is_recognised(text: str) -> None:
    assert is_leftover(text)


@pytest.mark.parametrize(
    "text",
    ["The answer is 4.", "def reference_count(x):\n    return x", "She refers to Tom. 3 + 1 = 4\n#### 4", "# own\n4"],
)
def test_answers_are_not_taken_for_talk(text: str) -> None:
    assert not is_leftover(text)


def test_contradictions_are_refused(base: LoadedModel, tmp_path: Path) -> None:
    greedy = GenerateSettings(sampling=ManySettings(n=4, temperature=0.0))
    with pytest.raises(InputError, match="4 greedy answers"):
        generate("toy", base, greedy, tmp_path / "a", sampler=says(str))
    with pytest.raises(InputError, match="needs another model"):
        generate("toy", base, settings(arm="larger-model"), tmp_path / "b")
    with pytest.raises(InputError, match="the arm self-output is of the model itself"):
        generate("toy", base, settings(answerer=AnswererSettings(model="other")), tmp_path / "b")
    with pytest.raises(InputError, match="address"):
        generate("toy", base, settings(answerer=AnswererSettings(backend="server")), tmp_path / "c")


def test_another_run_s_folder_is_refused(base: LoadedModel, tmp_path: Path) -> None:
    sampler = scripted(base, lambda n, i: str(n))
    generate("toy", base, settings(choose="first"), tmp_path / "out", sampler=sampler)
    with pytest.raises(InputError, match="other settings"):
        generate("toy", base, settings(choose="shortest"), tmp_path / "out", sampler=sampler)


def test_the_phases_are_folders_of_their_own(base: LoadedModel, tmp_path: Path) -> None:
    sampler = scripted(base, lambda n, i: str(n))
    generate("toy", base, settings(choose="first"), tmp_path / "out", sampler=sampler)
    samples = cast("Rows[Sample]", open_rows(tmp_path / "out" / "samples"))
    checked = cast("Rows[Sample]", open_rows(tmp_path / "out" / "checked"))
    assert all(sample.verdict is None for sample in samples)
    assert all(sample.verdict is not None and sample.verdict.correct for sample in checked)
    assert len(samples) == len(checked) == 18
    assert np.array_equal([s.index for s in samples], [0, 1, 2] * 6)


def test_rephrase_draws_one_answer_a_prompt_and_self_output_thirty_two(base: LoadedModel, tmp_path: Path) -> None:
    for arm, drawn in (("rephrase", 1), ("self-output", 32)):
        rules = GenerateSettings(arm=arm, choose="first")
        sampler = scripted(base, lambda n, i: str(n))
        made = generate("toy", base, rules, tmp_path / arm, sampler=sampler, limit=2)
        assert {entry.drawn for entry in read_yields(tmp_path / arm)} == {drawn}
        assert cast("dict[str, object]", made.manifest.settings["sampling"])["n"] == drawn
        named = rules.model_copy(update={"sampling": ManySettings(n=drawn)})
        assert generate("toy", base, named, tmp_path / arm, sampler=sampler, limit=2).manifest == made.manifest


def test_a_new_arm_is_one_entry_of_the_registry(
    base: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shout(task: Task, problem: Problem) -> tuple[Message, ...]:
        return ({"role": "user", "content": f"{problem.prompt[-1]['content']}!"},)

    monkeypatch.setitem(
        ARMS, "shout", Arm(Origin.REPHRASE, "loud", 2, prompt=shout, usable=lambda text: "?" not in text)
    )
    seen: list[Request] = []

    def answer(request: Request, index: int) -> str:
        seen.append(request)
        return f"{number_of(request.id)}{'?' if index == 0 else ''}"

    sampler = ScriptedSampler(answer, base.tokenizer, {}, end=END)
    (made,) = generate("toy", base, {"arm": "shout", "choose": "first"}, tmp_path / "out", sampler=sampler, limit=1)
    assert seen[0].messages[-1]["content"] == "say 0!"
    assert (made.messages[0]["content"], text_of(made), made.origin) == ("say 0", "0", Origin.REPHRASE)


UNREAD: list[tuple[str, dict[str, object], str]] = [
    ("", {"arm": "self-dialogue", "choose": "first"}, "does not read choose"),
    ("", {"arm": "self-dialogue", "stop_at": 2, "correct_share": 0.5}, "does not read stop_at, correct_share"),
    ("", {"arm": "self-dialogue", "sampling": {"n": 4}}, r"does not read sampling\.n"),
    ("toy", {"arm": "self-dialogue"}, "reads no task, got task 'toy'"),
    ("toy", {"arm": "rephrase", "dialogue": {"turns": 2}}, "does not read dialogue"),
    ("toy", {"choose": "first", "perplexity": "unconditional"}, "unconditional perplexity is not read"),
    ("", {}, "expected the name of a task"),
    ("toy", {"arm": "self-talk"}, "no arm 'self-talk'"),
    ("toy", {"arms": "rephrase"}, r"settings\.arms"),
    ("toy", {"sampling": {"n": 0}}, r"settings\.sampling\.n: expected greater than or equal to 1|greater than 0"),
]


@pytest.mark.parametrize(("task", "given", "words"), UNREAD)
def test_nothing_that_the_settings_say_is_left_unread(
    base: LoadedModel, tmp_path: Path, task: str, given: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        generate(task, base, given, tmp_path / "out", sampler=says(str))


@pytest.mark.parametrize(
    ("task", "model", "given", "words"),
    [
        (7, "pocket", None, "expected a task or its name, got int"),
        ("toy", 7, None, "got int|expected a model"),
        ("toy", "pocket", 7, "expected GenerateSettings or a dict, got int"),
        ("tay", "pocket", None, "no task 'tay'"),
    ],
)
def test_plain_mistakes_in_python_are_refused_in_words(
    tmp_path: Path, task: object, model: object, given: object, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        generate(task, model, given, tmp_path / "out", sampler=says(str))  # type: ignore[arg-type]


def test_without_a_folder_the_rows_are_in_memory_and_an_arm_s_name_is_enough(base: LoadedModel) -> None:
    made = generate("toy", base, "rephrase", sampler=scripted(base, lambda n, i: str(n)))
    assert made.folder is None
    assert [text_of(example) for example in made] == [str(n) for n in range(6)]
