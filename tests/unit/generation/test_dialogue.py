"""Self-dialogue: the user's header, what is kept, and what is counted out."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from tests.toy_tasks import DyingSampler

from tokensieve.config import AnswererSettings, DialogueSettings, GenerateSettings, ManySettings
from tokensieve.data.chat import prepare
from tokensieve.data.dataset import Rows, open_rows
from tokensieve.errors import InputError
from tokensieve.generation import generate
from tokensieve.generation.dialogue import is_degenerate
from tokensieve.models import LoadedModel
from tokensieve.sampling import Request, ScriptedSampler
from tokensieve.types import Origin, Sample

END = 2


@pytest.fixture(scope="module")
def base(tiny_model: Callable[..., LoadedModel]) -> LoadedModel:
    return tiny_model()


def speaker(base: LoadedModel, say: Callable[[int, str, int], str]) -> ScriptedSampler:
    """Says by the dialogue's number, the role and the turn."""

    def answer(request: Request, index: int) -> str:
        _, number, role, turn = request.id.split("/")
        return say(int(number), role, int(turn))

    return ScriptedSampler(answer, base.tokenizer, {}, end=END)


def rules(count: int = 5, **changes: object) -> GenerateSettings:
    dialogue = DialogueSettings(count=count).model_copy(update=changes)
    return GenerateSettings(
        arm="self-dialogue", sampling=ManySettings(n=1, temperature=0.7, top_p=0.9), dialogue=dialogue
    )


def test_the_header_is_what_the_template_puts_before_a_user_s_words(base: LoadedModel) -> None:
    assert base.tokenizer.decode(base.chat.user_header_ids(())) == "<|user|>\n"
    said = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    text = base.tokenizer.decode(base.chat.user_header_ids(said))  # type: ignore[arg-type]
    assert text == "<|user|>\na<|end|>\n<|assistant|>\nb<|end|><|user|>\n"


def test_a_template_that_hides_the_user_is_refused(base: LoadedModel) -> None:
    import copy

    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = "{% for message in messages %}x{% endfor %}"
    with pytest.raises(InputError, match="leaves the user's turn out"):
        prepare(tokenizer)


def test_a_server_cannot_begin_a_dialogue(base: LoadedModel, tmp_path: Path) -> None:
    server = AnswererSettings(backend="server", url="http://127.0.0.1:9", model="any")
    with pytest.raises(InputError, match="header of the user's turn"):
        generate("", base, rules().model_copy(update={"answerer": server}), tmp_path / "out")


def test_what_turns_in_circles_is_degenerate() -> None:
    assert is_degenerate([1, 2] * 20)
    assert is_degenerate([5] * 24)
    assert not is_degenerate([5] * 8)
    assert not is_degenerate(list(range(60)))
    assert not is_degenerate([])


def test_dialogues_are_kept_whole_and_others_counted_out(base: LoadedModel, tmp_path: Path) -> None:
    asked = {0: "what is 1?", 1: "What  is 1?", 2: "why…", 3: "  ", 4: "say it", 5: "loop"}
    answers = {0: "one", 1: "one again", 4: "well…", 5: "la " * 30}
    sampler = speaker(base, lambda n, role, turn: (asked if role == "user" else answers)[n])
    made = generate("", base, rules(6), tmp_path / "out", sampler=sampler)
    (example,) = list(made)
    assert example.id == "dialogue/0"
    assert [message["content"] for message in example.messages] == ["what is 1?", "one"]
    assert example.origin is Origin.SELF_DIALOGUE
    assert example.sampled_ids is not None
    assert example.sampled_ids[-1] == END
    assert made.manifest.counts.dropped == {"asked before": 1, "cut off": 2, "degenerate": 1, "empty": 1}
    assert made.manifest.counts.rows_in == 6
    samples = cast("Rows[Sample]", open_rows(tmp_path / "out" / "samples"))
    assert [s.index for s in samples if s.problem_id == "dialogue/0"] == [0, 1]


def test_several_turns_go_on_from_what_was_said(base: LoadedModel, tmp_path: Path) -> None:
    seen: list[Request] = []

    def say(request: Request, index: int) -> str:
        seen.append(request)
        return request.id.replace("/", " ")

    sampler = ScriptedSampler(say, base.tokenizer, {}, end=END)
    (example,) = list(generate("", base, rules(1, turns=2), tmp_path / "out", sampler=sampler))
    assert [message["role"] for message in example.messages] == ["user", "assistant", "user", "assistant"]
    last = seen[-1].messages
    assert [message["content"] for message in last] == [
        "dialogue 0 user 0",
        "dialogue 0 assistant 0",
        "dialogue 0 user 1",
    ]


def test_answers_above_the_perplexity_limit_are_counted_out(base: LoadedModel, tmp_path: Path) -> None:
    nll = {f"answer {n}": 0.1 * n for n in range(5)}
    sampler = ScriptedSampler(
        lambda request, _: f"{'question' if 'user' in request.id else 'answer'} {request.id.split('/')[1]}",
        base.tokenizer,
        nll,
        end=END,
    )
    made = generate("", base, rules(max_perplexity=1.25), tmp_path / "out", sampler=sampler)
    assert [example.id for example in made] == ["dialogue/0", "dialogue/1", "dialogue/2"]
    assert made.manifest.counts.dropped == {"answer above the perplexity limit": 2}


def test_prompts_above_their_perplexity_limit_are_counted_out(base: LoadedModel, tmp_path: Path) -> None:
    nll = {f"user {n}": 0.1 * n for n in range(5)}
    sampler = ScriptedSampler(
        lambda request, _: f"{request.id.split('/')[2]} {request.id.split('/')[1]}", base.tokenizer, nll, end=END
    )
    made = generate("", base, rules(max_prompt_perplexity=1.25), tmp_path / "out", sampler=sampler)
    assert [example.id for example in made] == ["dialogue/0", "dialogue/1", "dialogue/2"]
    assert made.manifest.counts.dropped == {"prompt above the perplexity limit": 2}


ASKED = {0: "double x\nassert double(2) == 4", 1: "Double x.\nassert double(3) == 6", 2: "say it"}
ANSWERED = {0: "def double(x):\n    return 2 * x", 1: "def double(x):\n    return x", 2: "it"}


@pytest.mark.parametrize(("unverified", "kept"), [("keep", [0, 2]), ("drop", [0])])
def test_answers_that_fail_the_tests_in_their_prompt_are_counted_out(
    base: LoadedModel, tmp_path: Path, unverified: str, kept: list[int]
) -> None:
    sampler = speaker(base, lambda n, role, turn: (ASKED if role == "user" else ANSWERED)[n])
    settings = rules(3, verify="shown-tests", unverified=unverified)
    made = generate("", base, settings, tmp_path / "out", sampler=sampler)
    assert [example.id for example in made] == [f"dialogue/{number}" for number in kept]
    assert made.manifest.counts.dropped["answer found wrong"] == 1
    assert made.manifest.facts["noted"] == {"answers correct": 1, "answers not_judged": 1, "answers wrong": 1}


def test_a_function_of_the_user_s_verifies_answers(
    base: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checks.py").write_text(
        "def echoes(row, answer):\n"
        "    number = row['prompt'].split()[1]\n"
        "    return None if number == '2' else answer == f'assistant {number}'\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    sampler = speaker(base, lambda n, role, turn: f"{role} {n}" if (role, n) != ("assistant", 1) else "wrong")
    made = generate("", base, rules(3, verify="checks.py:echoes"), tmp_path / "out", sampler=sampler)
    assert [example.id for example in made] == ["dialogue/0", "dialogue/2"]
    with (tmp_path / "checks.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    with pytest.raises(InputError, match="other inputs: verify"):
        generate("", base, rules(3, verify="checks.py:echoes"), tmp_path / "out", sampler=sampler)
    with pytest.raises(InputError, match=r"generate\.dialogue\.verify: .*no function 'absent'"):
        generate("", base, rules(3, verify="checks.py:absent"), tmp_path / "other", sampler=sampler)
    assert not (tmp_path / "other" / "samples").exists()


def test_dialogues_drawn_before_a_kill_are_not_drawn_again(
    base: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokensieve.generation.dialogue._SHARD_DIALOGUES", 2)
    sampler = speaker(base, lambda n, role, turn: f"{role} {n}")
    with pytest.raises(KeyboardInterrupt):
        generate("", base, rules(), tmp_path / "out", sampler=DyingSampler(sampler, 6))
    second = DyingSampler(sampler)
    made = generate("", base, rules(), tmp_path / "out", sampler=second)
    assert len(made) == 5
    assert not any(problem.startswith(("dialogue/0/", "dialogue/1/")) for problem, _ in second.answered)


def test_a_real_model_speaks_with_itself(base: LoadedModel, tmp_path: Path) -> None:
    settings = rules(3, prompt_tokens=8, answer_tokens=8)
    one = generate("", base, settings, tmp_path / "one")
    two = generate("", base, settings, tmp_path / "two", limit=3)
    turns = [[(s.index, s.text) for s in open_rows(tmp_path / n / "samples")] for n in ("one", "two")]  # type: ignore[union-attr]
    assert turns[0] == turns[1]
    assert one.manifest.digest == two.manifest.digest
