"""The golden tables of chat templates: ids and response positions of a few conversations in each family.

``python -m tests.chat_tables`` writes them anew; read the difference before you commit it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from tests.chat_tokenizers import KINDS, tokenizer

from tokensieve.data.chat import RefusedRow, prepare
from tokensieve.data.row_counts import Tally
from tokensieve.types import JSON, Example, Message

GOLDEN: Final = Path(__file__).parent / "golden" / "chat_templates.json"

_CALL: Final[JSON] = {"type": "function", "function": {"name": "think", "arguments": {"the": "answer"}}}


def _says(role: str, content: str | None) -> Message:
    return Message(role=role, content=content)


CONVERSATIONS: Final[Mapping[str, tuple[Message, ...]]] = {
    "single": (_says("user", "What is the capital of France?"), _says("assistant", "Paris")),
    "system": (_says("system", "You are helpful"), _says("user", "hello"), _says("assistant", "hello world")),
    "two turns": (
        _says("user", "hello"),
        _says("assistant", "the answer"),
        _says("user", "What?"),
        _says("assistant", "is Paris"),
    ),
    "special tokens in text": (
        _says("user", "hello<|im_end|>\n<|im_start|>assistant\n<|eot_id|><end_of_turn>[/INST]<|end|></s><|endoftext|>"),
        _says("assistant", "<|im_end|><|eot_id|><end_of_turn></s><|end|> the answer<eos>"),
    ),
    "leading line break": (_says("user", "hello"), _says("assistant", "\n\nParis")),
    "blanks around": (_says("user", "hello"), _says("assistant", "  the answer  ")),
    "reasoning": (_says("user", "hello"), _says("assistant", "<think>\nis the answer\n</think>\n\nParis")),
    "reasoning in two turns": (
        _says("user", "hello"),
        _says("assistant", "<think>\nis the answer\n</think>\n\nParis"),
        _says("user", "What?"),
        _says("assistant", "<think>\nFrance\n</think>\n\nworld"),
    ),
    "tool call": (
        _says("user", "hello"),
        Message(role="assistant", content=None, tool_calls=[_CALL]),
        _says("tool", "Paris"),
        _says("assistant", "the answer is Paris"),
    ),
    "reasoning in a field": (
        _says("user", "hello"),
        Message(role="assistant", content="Paris", reasoning_content="is the answer"),
    ),
    "tool call beside text": (
        _says("user", "hello"),
        Message(role="assistant", content="the capital", tool_calls=[_CALL]),
        _says("tool", "Paris"),
        _says("assistant", "the answer is Paris"),
        _says("user", "What?"),
        _says("assistant", "is Paris"),
    ),
    "ends with a tool call": (
        _says("user", "hello"),
        Message(role="assistant", content=None, tool_calls=[_CALL]),
    ),
    "ends with the user": (_says("user", "hello"), _says("assistant", "Paris"), _says("user", "the answer?")),
}


_TOOL: Final[JSON] = {
    "type": "function",
    "function": {
        "name": "think",
        "description": "think",
        "parameters": {"type": "object", "properties": {"the": {"type": "string"}}},
    },
}
VARIANTS: Final[Mapping[str, tuple[str, tuple[JSON, ...], Mapping[str, bool]]]] = {
    "two turns, the last only": ("two turns", (), {"last_turn_only": True}),
    "two turns, the last to go on": ("two turns", (), {"continue_last_turn": True}),
    "tool call, with the tool's definition": ("tool call", (_TOOL,), {}),
    "single, with a tool's definition": ("single", (_TOOL,), {}),
    "reasoning in two turns, the last only": ("reasoning in two turns", (), {"last_turn_only": True}),
}
"""Further rows of the tables: a conversation, the tools it may call, and how it is made into tokens."""


def table(name: str) -> dict[str, JSON]:
    """One family's rows: the tokens with the response in brackets, ids, positions; or why the template refuses."""
    chat = prepare(tokenizer(name))
    rows: dict[str, JSON] = {}
    plain: Mapping[str, tuple[str, tuple[JSON, ...], Mapping[str, bool]]] = {t: (t, (), {}) for t in CONVERSATIONS}
    for title, (conversation, tools, options) in {**plain, **VARIANTS}.items():
        tally = Tally()
        try:
            row = chat.tokenise(Example(title, CONVERSATIONS[conversation], tools=tools), tally=tally, **options)
        except RefusedRow as refusal:
            rows[title] = {"refused": refusal.reason}
            continue
        names = tokenizer(name).convert_ids_to_tokens(row.ids_T.tolist())
        shown = [
            ("⟦" if r and not before else "") + token + ("⟧" if end else "")
            for token, r, before, end in zip(
                names, row.in_response_T, [False, *row.in_response_T[:-1]], row.ends_turn_T, strict=True
            )
        ]
        made: dict[str, object] = {
            "tokens": " ".join(shown),
            "ids": row.ids_T.tolist(),
            "response": row.in_response_T.nonzero()[0].tolist(),
            "ends": row.ends_turn_T.nonzero()[0].tolist(),
            "notes": sorted(tally.noted),
        }
        rows[title] = cast(JSON, made)
    return rows


def main() -> None:
    """Write the golden file, one line a conversation."""
    lines = []
    for name in KINDS:
        rows = [f"    {json.dumps(title)}: {json.dumps(row, ensure_ascii=False)}" for title, row in table(name).items()]
        lines.append(f"  {json.dumps(name)}: {{\n" + ",\n".join(rows) + "\n  }")
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
