"""The profile of a selection against numbers worked out by hand, and its page."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import ModelFactory

from tokensieve.analysis import token_class
from tokensieve.config import DataSettings, InspectSettings
from tokensieve.data.dataset import Rows, in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.errors import InputError
from tokensieve.inspection import Inspection, inspect_data
from tokensieve.inspection.advice import RULES, Facts, advise
from tokensieve.inspection.profile import compare_answers
from tokensieve.inspection.results import OwnAnswers
from tokensieve.inspection.survey import Survey, survey
from tokensieve.models import LoadedModel, ModelLike
from tokensieve.report import render_inspection, write_inspection
from tokensieve.selection.policy import Traits
from tokensieve.types import Example, Message, Origin, Scored, Scores, Selected, Tokens, bools, ints

LN = math.log
NAN = math.nan
PIECES = ["?", "get_name", " total", "(", "\n", "  ", "42", "<|end|>"]


def row(name: str, ids: list[int], perplexities: list[float], weights: list[float] | None = None) -> Selected:
    """A prompt token, then tokens of given perplexities under stm:2.5; the last ends the turn and is protected."""
    nll_T = np.asarray([NAN, *map(LN, perplexities)], dtype=np.float32)
    in_response_T = bools([False, *(True for _ in perplexities)])
    ends_T = np.arange(len(nll_T)) == len(nll_T) - 1
    origin = Origin.SELF_DIALOGUE if name.startswith("talk") else Origin.GROUND_TRUTH
    tokens = Tokens(name, ints([0, *ids]), in_response_T, ends_T, "sql", origin)
    train_T = in_response_T & ((nll_T <= LN(2.5)) | ends_T)
    weight_T = None if weights is None else np.asarray([0.0, *weights], dtype=np.float32)
    if weight_T is not None:
        train_T = weight_T > 0
    return Selected(Scored(tokens, {"base": Scores(nll_T)}), train_T, weight_T)


ROWS = [
    row("a", [1, 2, 3, 7], [100.0, 2.0, 4.0, 8.0]),
    row("b", [1, 4, 7], [10.0, 1.0, 1.0]),
    row("talk", [6, 7], [2.501, 1.0]),
]


def surveyed(rows: list[Selected], top: int = 10) -> Survey:
    return survey(
        lambda: iter(rows),
        scorer="base",
        thresholds=(2.5, 50.0),
        threshold_nats=LN(2.5),
        error_nats=1e-5,
        piece=PIECES.__getitem__,
        protected_T=lambda tokens: tokens.ends_turn_T,
        top=top,
    )


def test_classes_tokens_and_rows_are_those_worked_out_by_hand() -> None:
    found = surveyed(ROWS)
    classes = {one.token_class: (one.tokens, one.left_out, pytest.approx(one.nll_left_out)) for one in found.classes}
    assert classes == {
        "identifier": (2, 2, LN(1000)),
        "word": (1, 0, 0.0),
        "punctuation": (1, 1, LN(4)),
        "line_end": (1, 0, 0.0),
        "number": (1, 1, pytest.approx(LN(2.501), abs=1e-6)),
        "special": (3, 0, 0.0),
    }
    masked: list[tuple[object, ...]] = [(one.text, one.left_out, one.tokens, one.mean_nll) for one in found.most_masked]
    assert masked[0] == ("get_name", 2, 2, pytest.approx(LN(1000) / 2))
    assert [entry[0] for entry in masked] == ["get_name", "(", "42"]
    affected: list[tuple[object, ...]] = [
        (one.id, one.left_out, one.response_tokens, one.nll_left_out, one.nll_share) for one in found.most_affected
    ]
    assert affected == [
        ("a", 2, 4, pytest.approx(LN(400)), pytest.approx(LN(400) / LN(6400))),
        ("b", 1, 3, pytest.approx(LN(10)), pytest.approx(1.0)),
        ("talk", 1, 2, pytest.approx(LN(2.501), abs=1e-6), pytest.approx(1.0)),
    ]
    assert [one.id for one in surveyed(ROWS, top=1).most_affected] == ["a"]
    assert [one.text for one in surveyed(ROWS, top=1).most_masked] == ["get_name"]


def test_protected_and_near_tokens_are_those_worked_out_by_hand() -> None:
    found = surveyed(ROWS)
    assert found.protected.tokens == 3
    assert found.protected.share_of_kept_nll == pytest.approx(LN(8) / LN(16))
    assert {one.within_nats: one.tokens for one in found.near} == {1e-5: 0, 0.01: 1, 0.1: 1, 0.3: 2}


def test_sources_are_told_apart_and_add_up() -> None:
    found = surveyed(ROWS)
    assert [(one.source, one.profile.rows) for one in found.sources] == [
        ("ground_truth/sql", 2),
        ("self_dialogue/sql", 1),
    ]
    truth = found.sources[0].profile
    assert truth.nll_left_out == pytest.approx(LN(4000) / LN(64000))
    assert [one.tokens_pooled for one in truth.shares] == pytest.approx([4 / 7, 1 / 7])
    assert sum(one.profile.response_tokens for one in found.sources) == found.whole.response_tokens


def test_soft_weights_leave_out_their_part_of_the_nll() -> None:
    found = surveyed([row("a", [1, 2, 7], [math.e**2, math.e**4, 1.0], [0.5, 0.0, 1.0])])
    (affected,) = found.most_affected
    assert affected.left_out == 1
    assert affected.nll_left_out == pytest.approx(0.5 * 2 + 4)


def test_an_end_of_turn_that_is_left_out_is_listed() -> None:
    first = ROWS[0]
    unprotected = Selected(first.scored, first.train_T & ~first.tokens.ends_turn_T)
    assert ("(end of turn)", 1) in [(one.text, one.left_out) for one in surveyed([unprotected]).most_masked]


def test_own_answers_are_paired_by_id() -> None:
    answers = [row("a", [1, 7], [2.0, 2.0]).scored, row("z", [1, 7], [1.0, 1.0]).scored]
    found = compare_answers(ROWS, "base", answers, top=5)
    assert (found.rows, found.data_only, found.own_only) == (1, 2, 1)
    assert found.data_median == pytest.approx(6400 ** (1 / 4), rel=1e-6)
    assert found.own_median == pytest.approx(2.0)
    assert [pair.id for pair in found.furthest] == ["a"]


# --- advice ---------------------------------------------------------------------------------------------------------

LOG = Path(__file__).parents[3] / "docs" / "log.md"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.text[:30])
def test_every_advice_names_an_entry_of_the_log(rule: object) -> None:
    section, _, title = rule.entry.partition(" · ")  # type: ignore[attr-defined]
    sections = re.split(r"^## ", LOG.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert any(text.startswith(f"{section} ·") and f"**{title}" in text for text in sections)
    figures = re.findall(r"\d+(?:\.\d+)? %", rule.text)  # type: ignore[attr-defined]
    plain = " ".join(LOG.read_text(encoding="utf-8").split())
    assert all(figure.removesuffix(" %") in plain for figure in figures)


def test_advice_is_given_where_its_reason_is_there_and_only_there() -> None:
    def given(rows: list[Selected], traits: Traits | None = None, own: OwnAnswers | None = None) -> list[str]:
        return [piece.text.split(".")[0] for piece in advise(Facts(surveyed(rows), traits or Traits(), own))]

    calm = [row("calm", [1, 2, 3, 7], [1.0, 1.1, 1.0, 1.0])]
    near = compare_answers(calm, "base", [row("calm", [1, 7], [1.0, 1.0]).scored], top=1)
    far = compare_answers(ROWS, "base", [row("a", [1, 7], [2.0, 2.0]).scored], top=1)
    assert given(calm) == given(calm, own=near) == []
    assert given(ROWS[:1]) == [
        "Evaluate the base model on this task before you train",
        "Let tokensieve calibrate find out whether the lesson lies in those tokens",
        "Where the task is new, train all tokens and hold the model to its base on anchors (tokensieve anchors)",
    ]
    assert given(calm, Traits(control=True)) == ["Train a control for comparison only"]
    assert any("own checked answers" in text for text in given(ROWS, own=far))
    assert any("mixed-in dialogues" in text for text in given(ROWS))


# --- the whole way --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tiny_model: ModelFactory) -> LoadedModel:
    return tiny_model("LlamaConfig")


def messages(n: int) -> list[dict[str, object]]:
    return [
        {
            "id": f"row/{i}",
            "messages": [{"role": "user", "content": f"sum {i}?"}, {"role": "assistant", "content": f"it is <{i}>\n"}],
        }
        for i in range(n)
    ]


def profiled(data: object, model: "ModelLike | None", **settings: object) -> Inspection:
    found = inspect_data(data, model, InspectSettings.model_validate(settings))
    assert isinstance(found, Inspection)
    return found


def test_a_data_set_a_scored_folder_and_a_selection_have_one_profile(model: LoadedModel, tmp_path: Path) -> None:
    from tokensieve.pipeline import load, select
    from tokensieve.scoring import score

    direct = profiled(messages(5), model, policy="stm:20")
    scored = score(load(messages(5), model), model, out=tmp_path / "scored")
    selected = select(scored, "stm:20", tmp_path / "selected")
    once, twice = profiled(tmp_path / "scored", model, policy="stm:20"), profiled(tmp_path / "selected", model)
    of_transformers = profiled(tmp_path / "scored", (model.model, model.tokenizer), policy="stm:20")
    assert direct.profile == once.profile == twice.profile == of_transformers.profile
    assert direct.classes == once.classes == twice.classes
    facts = selected.manifest.facts
    assert twice.profile.trained_tokens == facts["trained_tokens"]
    assert twice.protected.tokens == facts["protected_tokens"]
    assert twice.protected.share_of_kept_nll == pytest.approx(facts["protected_share_of_kept_nll"])
    assert sum(one.left_out for one in twice.classes) == twice.profile.response_tokens - twice.profile.trained_tokens
    limited = inspect_data(tmp_path / "scored", model, read=DataSettings(limit=2))
    assert isinstance(limited, Inspection)
    assert limited.profile.rows == 2


def test_settings_without_effect_are_refused(model: LoadedModel, tmp_path: Path) -> None:
    from tokensieve.pipeline import load, select
    from tokensieve.scoring import score

    selected = select(score(load(messages(2), model), model), "stm:20", tmp_path / "selected")
    with pytest.raises(InputError, match="--policy has no effect"):
        profiled(selected, model, policy="plain")
    with pytest.raises(InputError, match="--labels has no effect"):
        profiled(selected, model, labels="shifted")
    with pytest.raises(InputError, match="--max-length has no effect"):
        inspect_data(selected, model, read=DataSettings(max_length=9))
    with pytest.raises(InputError, match="no model is given"):
        inspect_data(messages(2))
    with pytest.raises(InputError, match="holds no training data"):
        inspect_data(in_memory([], Manifest(stage="evaluated")), model)


def test_own_answers_of_a_folder_are_scored_and_set_beside_the_data(model: LoadedModel, tmp_path: Path) -> None:
    answers = [
        Example(f"row/{i}", (Message(role="user", content=f"sum {i}?"), Message(role="assistant", content="ok")))
        for i in range(2)
    ]
    rows: Rows[Example] = in_memory(answers, Manifest(stage="examples", model=model.identity))
    rows.save(tmp_path / "own")
    found = profiled(messages(3), model, own_answers=tmp_path / "own")
    assert found.own_answers is not None
    assert (found.own_answers.rows, found.own_answers.data_only, found.own_answers.own_only) == (2, 1, 0)


def test_the_page_opens_offline_and_escapes_what_it_shows(model: LoadedModel, tmp_path: Path) -> None:
    found = profiled(messages(4), model, policy="stm:1.5").model_copy(update={"source": "<script>alert(1)</script>"})
    page = render_inspection(found)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    for title in (
        "By source",
        "Over a threshold",
        "What is left out",
        "Tokens most often left out",
        "Rows most affected",
    ):
        assert title in page
    names = [path.name for path in write_inspection(found, tmp_path)]
    assert names == ["inspect.json", "inspect.html"]
    assert Inspection.model_validate(json.loads((tmp_path / "inspect.json").read_text())) == found


def test_classes_of_the_pieces_in_this_file() -> None:
    assert [token_class(piece) for piece in PIECES[1:7]] == [
        "identifier", "word", "punctuation", "line_end", "whitespace", "number",
    ]  # fmt: skip
