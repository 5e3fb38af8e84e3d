"""Protected tokens: which tokens of published vocabularies delimit tool calls and reasoning, and who trains them."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from tokensieve.config import SelectSettings
from tokensieve.selection import fit, select_tokens, structure_ids
from tokensieve.types import Scored, Scores, Tokens, bools, ints

# Names of special tokens as models publish them.
TOOL_CALLS = (
    "<tool_call>", "</tool_call>", "<|tool_call|>", "<|/tool_call|>", "<|tool_call>", "<tool_call|>", "[TOOL_CALLS]",
    "[ARGS]", "[CALL_ID]", "<|python_tag|>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<|tool_calls_section_begin|>", "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>", "<start_function_call>", "<end_function_call>", "<|call|>", "<|constrain|>",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
)  # fmt: skip
REASONING = (
    "<think>", "</think>", "[THINK]", "[/THINK]", "<seed:think>", "</seed:think>", "<|channel|>", "<|message|>",
    "<|START_THINKING|>", "<|END_THINKING|>", "◁think▷", "◁/think▷", "<|begin_of_thought|>", "<|channel>", "<channel|>",
    "<|think|>", "<thinking>", "</thinking>",
)  # fmt: skip
NEITHER = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>",
    "<tool_response>", "</tool_response>", "[AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[INST]", "[/INST]", "<s>", "</s>",
    "<|eot_id|>", "<|eom_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|user|>", "<|assistant|>",
    "<|vision_start|>", "<|fim_prefix|>", "<|reserved_special_token_0|>", "<unused0>", "<image>", "<|start|>",
    "<|end|>",
)  # fmt: skip


def test_structural_tokens_are_found_by_their_names_in_published_vocabularies() -> None:
    vocabulary = {name: index for index, name in enumerate((*TOOL_CALLS, *REASONING, *NEITHER))}
    names = {index: name for name, index in vocabulary.items()}
    found = {kind: {names[token] for token in tokens} for kind, tokens in structure_ids(vocabulary).items()}
    assert found == {"tool_calls": set(TOOL_CALLS), "reasoning": set(REASONING)}


def row() -> Scored:
    """Prompt 1, then a response <think> a </think> <tool_call> b end, with ids 10 to 15, all of them unlikely."""
    tokens = Tokens("r", ints([11, 10, 11, 12, 13, 14, 15]), bools([False] + [True] * 6), bools([False] * 6 + [True]))
    return Scored(tokens, {"base": Scores(np.full(7, 5.0, dtype=np.float32))})


@pytest.mark.parametrize(
    ("given", "trained"),
    [
        ({}, [1, 3, 4, 6]),
        ({"protect": ("end_of_turn",)}, [6]),
        ({"protect": ("reasoning",)}, [1, 3]),
        ({"protect": ()}, []),
        ({"paper_exact": True}, []),
    ],
)
def test_settings_say_which_structural_tokens_are_trained(given: dict[str, object], trained: list[int]) -> None:
    rule = fit(
        SelectSettings.model_validate(given), lambda: [row()], structure={"tool_calls": [13], "reasoning": [10, 12]}
    )
    chosen = select_tokens(row(), rule)
    assert np.flatnonzero(chosen.train_T).tolist() == trained
    assert np.flatnonzero(rule.protected_T(row().tokens)).tolist() == trained


def test_protection_and_the_papers_rule_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="paper_exact protects no token"):
        SelectSettings(paper_exact=True, protect=("reasoning",))
    assert SelectSettings(paper_exact=True, protect=()).paper_exact
    assert fit(SelectSettings(policy="soft:2"), list).threshold_nats == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("cap", "policy", "expected"),
    [
        (None, "plain", None),
        (5.0, "plain", [0, 1, 1, 1, 1, 1, 1]),
        (1.25, "plain", [0, 0.25, 1, 0.25, 0.25, 1, 0.25]),
        (1.25, "stm:2.5", [0, 0.25, 0, 0.25, 0.25, 0, 0.25]),
    ],
)
def test_a_cap_bounds_the_loss_of_protected_tokens_alone(
    cap: float | None, policy: str, expected: list[float] | None
) -> None:
    settings = SelectSettings(policy=policy, protect_cap=cap)
    rule = fit(settings, lambda: [row()], structure={"tool_calls": [13], "reasoning": [10, 12]})
    chosen = select_tokens(row(), rule)
    assert rule.weighted == (cap is not None)
    assert (chosen.weight_T is None) == (expected is None)
    if expected is not None and chosen.weight_T is not None and cap is not None:
        assert chosen.weight_T.tolist() == expected
        protected_T = rule.protected_T(row().tokens)
        assert (chosen.weight_T * row().nll_T())[protected_T].max() <= cap


@pytest.mark.parametrize("given", [{"paper_exact": True}, {"protect": ()}])
def test_a_cap_without_protected_tokens_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="protect_cap has no effect"):
        SelectSettings.model_validate({"protect_cap": 2.0, **given})


def test_a_selection_without_a_cap_keeps_the_key_that_it_had_before_there_were_caps() -> None:
    assert "protect_cap" not in SelectSettings().for_key()
    assert SelectSettings(protect_cap=2.0).for_key()["protect_cap"] == 2.0
