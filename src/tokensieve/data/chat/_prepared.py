"""A chat template made ready: what it writes around turns, learnt from a probe, and rows made by it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from tokensieve.data.chat._clock import TODAY, asks_for_the_date, with_stopped_clock
from tokensieve.data.chat._encode import Encoded, Encoder, make_encoder
from tokensieve.data.chat._render import RefusedRow, Rendered, Renderer, names_pattern, special_names
from tokensieve.data.chat._turns import Ends, Mismatch, Turn, by_markers, by_prefixes, reasoning_left_out
from tokensieve.data.tally import Tally
from tokensieve.errors import InputError
from tokensieve.types import JSON, Example, IntArray, Message, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOT_FOUND: Final = "the response cannot be found for certain"
_OWN_MARKERS: Final = "the template's generation markers"
_TRL_TEMPLATE: Final = "TRL's training template"
_PREFIXES: Final = "verified prefixes"
_TRL_TEXT: Final = "TRL's training template, whose text differs from the model's own"
_GENERATION: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template, ready to make rows of tokens.

    Attributes:
        renderer: the model's own template.
        encoder: text to ids.
        ends: the end-of-turn tokens and the assistant's header.
        end_ids: ids of the end-of-turn tokens.
        special_ids: ids of all special tokens, which only the template may write.
        special_names: pattern of their names.
        longest_token: characters in the longest token, by which a text is known to be over-long before it is encoded.
        held_date: the date (ISO) that stands for today's in what the template writes; empty where it asks for none.
    """

    renderer: Renderer
    encoder: Encoder
    ends: Ends
    end_ids: frozenset[int]
    special_ids: IntArray
    special_names: "re.Pattern[str]"
    longest_token: int
    held_date: str = ""

    def tokenise(
        self,
        example: Example,
        *,
        last_turn_only: bool = False,
        continue_last_turn: bool = False,
        tally: Tally | None = None,
        longest: int | None = None,
    ) -> Tokens:
        """One conversation's tokens and its response: each assistant turn's content and first end-of-turn token.

        The row begins with exactly the ids that ``prompt_ids`` gives for the turns before the last response: the text
        is encoded as a whole, and cut before that response where a token would lie over the border.
        Where the example was sampled its ids are kept as they are, and nothing follows them.

        Args:
            example: the conversation.
            last_turn_only: only the last assistant turn is response.
            continue_last_turn: the last assistant turn is unfinished: the row ends with its content.
            tally: is told in which way the responses were found.
            longest: refuse, before encoding, a text that has certainly more tokens than this.

        Raises:
            RefusedRow: the template refuses the conversation, its responses cannot be found for certain, or it is
                certainly over-long.
        """
        try:
            if example.sampled_ids is not None:
                return self._from_sample(example, example.sampled_ids, last_turn_only)
            if longest is not None:
                self._refuse_over_long(example, longest)
            whole, prompt, turns, way = self._locate(example, last_turn_only)
            if tally is not None:
                tally.note(f"response found by {way}")
                if self.held_date:
                    tally.note(f"today's date, which the chat template writes, held at {self.held_date}")
                assistant = [message for message in example.messages if message["role"] == "assistant"]
                if reasoning_left_out(whole, turns, assistant[-len(turns) :]):
                    tally.note("reasoning left out by the chat template")
            return self._row(example, whole, prompt, turns, continue_last_turn)
        except RefusedRow as refusal:
            raise RefusedRow(refusal.reason, refusal.problem, where=f"row {example.id}", fix=refusal.fix) from None

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[JSON] = ()) -> IntArray:
        """Ids of the turns and the header of the assistant's turn that is to come.

        Raises:
            RefusedRow: the template refuses the conversation.
        """
        return self.encoder.encode(self._prompt(messages, tools)).ids_T

    @cached_property
    def has_markers(self) -> bool:
        """Whether the model's own template marks what the model generates."""
        return bool(_GENERATION.search(self.renderer.template))

    @cached_property
    def training_renderer(self) -> Renderer | None:
        """TRL's variant of this template with generation markers; None where TRL has none."""
        from trl.chat_template_utils import get_training_chat_template

        try:
            template = get_training_chat_template(self.encoder.tokenizer)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if template is None:
            return None
        if self.held_date:
            template = with_stopped_clock(template, self.held_date)
        return Renderer(template, self.renderer.variables, self.renderer.guarded)

    def _refuse_over_long(self, example: Example, longest: int) -> None:
        """Raise before the work of encoding where the text is certainly too long, be it 50 MB.

        Assistant turns are not counted: some templates leave parts of theirs out.
        """
        characters = sum(len(m["content"] or "") for m in example.messages if m["role"] != "assistant")
        if characters > longest * self.longest_token:
            raise RefusedRow("over-long", f"{characters:,} characters cannot fit into {longest:,} tokens")

    # --- finding the response -----------------------------------------------------------------------------------

    def _locate(self, example: Example, last_turn_only: bool) -> tuple[Rendered, Rendered, list[Turn], str]:
        """The text, the prompt of its last response, its assistant turns, and the way in which they were found."""
        places = [i for i, message in enumerate(example.messages) if message["role"] == "assistant"]
        if last_turn_only:
            places = places[-1:]
        turns = [example.messages[i] for i in places]
        prompt = self._prompt(example.messages[: places[-1]], example.tools)
        whole = self.renderer.render(example.messages, example.tools, spans=self.has_markers)
        problems = []
        for way in self._ways(last_turn_only):
            if way == _OWN_MARKERS:
                found = by_markers(whole, prompt, turns, self.ends)
            elif way == _PREFIXES:
                prompts = [*(self._prompt(example.messages[:i], example.tools) for i in places[:-1]), prompt]
                found = by_prefixes(whole, prompts, turns, self.ends)
            else:
                marked = self._by_trl(example)
                if marked is None:
                    continue
                found = by_markers(marked, prompt, turns, self.ends)
                if way == _TRL_TEMPLATE and marked.text != whole.text:
                    found = Mismatch("it writes another text than the model's own template", whole.text, marked.text)
                elif way == _TRL_TEXT:
                    whole = marked
            if not isinstance(found, Mismatch):
                return whole, prompt, found, way
            problems.append(f"  by {way}: {found}")
        listed = "\n".join(problems)
        raise RefusedRow(
            NOT_FOUND,
            f"{NOT_FOUND} in what the chat template writes:\n{listed}",
            fix="--last-turn-only, or a chat template with {% generation %} markers",
        )

    def _by_trl(self, example: Example) -> Rendered | None:
        if self.training_renderer is None:
            return None
        return self.training_renderer.render(example.messages, example.tools, spans=True)

    def _ways(self, last_turn_only: bool) -> tuple[str, ...]:
        if last_turn_only:  # one verified prefix is proof enough, and marks of the other turns do not matter
            return (_PREFIXES,)
        return (_OWN_MARKERS, _PREFIXES) if self.has_markers else (_TRL_TEMPLATE, _PREFIXES, _TRL_TEXT)

    def _prompt(self, messages: Sequence[Message], tools: Sequence[JSON]) -> Rendered:
        return self.renderer.render(messages, tools, generation_prompt=True)

    # --- tokens -------------------------------------------------------------------------------------------------

    def _encode(self, whole: Rendered, prompt: Rendered) -> Encoded:
        """The whole, cut behind the prompt only where its ids would not begin with the prompt's."""
        encoded, asked = self.encoder.encode_all([(whole, ()), (prompt, ())])
        length = len(asked.ids_T)
        same = np.array_equal(encoded.ids_T[:length], asked.ids_T)
        if same and np.all(encoded.begin_T[length:] >= len(prompt.text)):
            return encoded
        return self.encoder.encode(whole, cut_at=[len(prompt.text)])

    def _row(
        self, example: Example, whole: Rendered, prompt: Rendered, turns: Sequence[Turn], open_end: bool
    ) -> Tokens:
        encoded = self._encode(whole, prompt)
        ids_T, begin_T = encoded.ids_T, encoded.begin_T
        self._check_written(whole, ids_T)
        in_response_T = np.zeros(len(ids_T), dtype=np.bool_)
        ends_turn_T = np.zeros(len(ids_T), dtype=np.bool_)
        for number, turn in enumerate(turns):
            in_response_T |= (begin_T >= turn.start) & (begin_T < turn.after)
            end = int(np.searchsorted(begin_T, turn.end, side="right")) - 1
            if int(ids_T[end]) not in self.end_ids:
                name = whole.text[turn.end : turn.after]
                raise RefusedRow(NOT_FOUND, f"the end-of-turn {name!r} is not one token of this tokenizer")
            ends_turn_T[end] = True
            if open_end and number == len(turns) - 1:
                ids_T, in_response_T, ends_turn_T = ids_T[:end], in_response_T[:end], ends_turn_T[:end]
        return Tokens(example.id, ids_T, in_response_T, ends_turn_T, example.task, example.origin)

    def _from_sample(self, example: Example, sampled_T: IntArray, last_turn_only: bool) -> Tokens:
        """The prompt's ids and, unchanged, those that were sampled; the response ends with their first end-of-turn."""
        last = max(i for i, message in enumerate(example.messages) if message["role"] == "assistant")
        history = example.messages[:last]
        prompt = self._prompt(history, example.tools)
        prompt_T = self.encoder.encode(prompt)
        ends = np.flatnonzero(np.isin(sampled_T, list(self.end_ids)))
        length = int(ends[0]) + 1 if len(ends) else len(sampled_T)
        response_T = np.concatenate([np.zeros(len(prompt_T.ids_T), np.bool_), np.arange(len(sampled_T)) < length])
        ends_turn_T = np.zeros(len(response_T), dtype=np.bool_)
        ends_turn_T[len(prompt_T.ids_T) + ends[:1]] = True
        if not last_turn_only and any(message["role"] == "assistant" for message in history):
            earlier = self.tokenise(Example(example.id, history, tools=example.tools))
            same = len(earlier) <= len(prompt_T.ids_T) and np.array_equal(earlier.ids_T, prompt_T.ids_T[: len(earlier)])
            if same:
                response_T[: len(earlier)] |= earlier.in_response_T
                ends_turn_T[: len(earlier)] |= earlier.ends_turn_T
        ids_T = np.concatenate([prompt_T.ids_T, sampled_T.astype(np.int32)])
        return Tokens(example.id, ids_T, response_T, ends_turn_T, example.task, example.origin)

    def _check_written(self, whole: Rendered, ids_T: IntArray) -> None:
        """Every special token of the row was written by the template: normalising tokenizers could make others."""
        written = sum(
            whole.is_written(match.start(), match.start() + len(match.group(1)))
            for match in self.special_names.finditer(whole.text)
        )
        got = int(np.isin(ids_T, self.special_ids).sum())
        if got > written:
            raise RefusedRow(
                "text that the tokenizer turns into a special token",
                f"the template writes {written} special tokens, the tokenizer makes {got}",
            )


def prepare(tokenizer: "PreTrainedTokenizerBase", template_kwargs: Mapping[str, JSON] | None = None) -> ChatTemplate:
    """A tokenizer's chat template, probed once with a short conversation.

    Args:
        tokenizer: a fast tokenizer with a chat template.
        template_kwargs: further arguments of the template. A template that asks what day it is gets the date under
            ``today`` (ISO), or else the one that Llama 3's templates fall back to, so that a row has the same tokens
            tomorrow.

    Raises:
        InputError: there is no template, it leaves the assistant's turn out, it writes no end-of-turn token, or
            ``today`` is no date.
    """
    encoder = make_encoder(tokenizer)
    try:
        template = str(tokenizer.get_chat_template())
    except ValueError:
        raise InputError(
            "the tokenizer has no chat template",
            where=str(tokenizer.name_or_path),
            fix="--tokenizer with the instruct model's tokenizer, or set tokenizer.chat_template",
        ) from None
    kwargs = dict(template_kwargs or {})
    variables = {**tokenizer.special_tokens_map, **kwargs}
    held_date = str(kwargs.get("today", TODAY)) if asks_for_the_date(template) else ""
    if held_date:
        template = with_stopped_clock(template, held_date)
    bare = Renderer(template, variables)
    special, other = special_names(tokenizer)
    probe = _probe(bare, special | other, str(tokenizer.name_or_path))
    structure = {name for name in other if name in probe.user_turn}
    ends = special & {str(tokenizer.eos_token)} | probe.ends
    # A reasoning block's <think> is an ordinary added token that assistants write; others may not write it where the
    # template uses it in its headers.
    guarded = {role: names_pattern(special | structure | ends) for role in ("system", "user", "tool")}
    guarded["assistant"] = names_pattern(special | ends)
    return ChatTemplate(
        renderer=Renderer(template, variables, guarded),
        encoder=encoder,
        ends=Ends(names_pattern(ends), probe.header),
        end_ids=frozenset(int(tokenizer.convert_tokens_to_ids(name)) for name in ends),
        special_ids=np.asarray(sorted(tokenizer.convert_tokens_to_ids(name) for name in special), dtype=np.int32),
        special_names=names_pattern(special),
        longest_token=max(map(len, tokenizer.get_vocab())),
        held_date=held_date,
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    """What a template writes around plain turns."""

    header: str
    user_turn: str
    ends: frozenset[str]


def _probe(renderer: Renderer, names: set[str], where: str) -> _Probe:
    users, answers = ("Wherefore1", "Wherefore2"), ("Therefore1", "Therefore2")
    turns = [
        Message(role=role, content=text)
        for pair in zip(users, answers, strict=True)
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    try:
        whole = renderer.render(turns).text
        asked = renderer.render(turns[:1], generation_prompt=True).text
        unasked = renderer.render(turns[:1]).text
    except RefusedRow as error:
        raise InputError(f"the chat template refuses a plain conversation: {error.problem}", where=where) from None
    missing = [text for text in (*users, *answers) if text not in whole]
    if missing:
        role = "assistant" if missing[0] in answers else "user"
        raise InputError(
            f"the chat template leaves the {role}'s turn out",
            where=where,
            fix="use the tokenizer of the instruct model, or mend tokenizer.chat_template",
        )
    pattern = names_pattern(names)
    first_user = whole[: whole.index(users[0])]
    final = pattern.search(whole, whole.index(answers[1]))
    if final is None:
        raise InputError(
            "the chat template writes no end-of-turn token after the assistant's turn: a model trained so never stops",
            where=where,
            fix="add eos_token after the assistant's content in tokenizer.chat_template",
        )
    ends = {final.group(1)}
    middle = pattern.search(whole, whole.index(answers[0]))
    if middle is not None and middle.start() < whole.index(users[1]) and middle.group(1) not in first_user:
        ends.add(middle.group(1))
    shared = next(
        (i for i, (a, b) in enumerate(zip(asked, unasked, strict=False)) if a != b), min(len(asked), len(unasked))
    )
    return _Probe(header=asked[shared:], user_turn=asked, ends=frozenset(ends))
