"""A chat template made ready, and rows of tokens made by it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tokensieve.data.chat.encode import Encoded, Encoder
from tokensieve.data.chat.locate import NOT_FOUND, NOTHING_TRAINED, Found, Locator, left_out
from tokensieve.data.chat.render import RefusedRow, Rendered
from tokensieve.data.chat.response_spans import Ends
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.types import JSON, BoolArray, Example, IntArray, Message, Tokens, is_trained

_USER_TEXT: Final = "TOKENSIEVE_USER_TURN"


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template, ready to make rows of tokens.

    Attributes:
        locator: the template itself, and where the responses lie in what it writes.
        encoder: text to ids.
        end_ids: ids of the end-of-turn tokens: those that training teaches and selection protects.
        stop_ids: ids of those among them at which a sampler stops; some also end a part within a turn.
        special_V: True at the ids of special tokens, which only the template may write.
        special_names: pattern of their names.
        longest_token: characters in the longest token, by which a text is known to be over-long before it is encoded.
        fixed_date: the date (ISO) that stands for today's in what the template writes; empty where it asks for none.
        vocabulary: number of ids that the model has embeddings for; None sets no limit.
    """

    locator: Locator
    encoder: Encoder
    end_ids: frozenset[int]
    stop_ids: frozenset[int]
    special_V: BoolArray
    special_names: "re.Pattern[str]"
    longest_token: int
    fixed_date: str = ""
    vocabulary: int | None = None

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

        A turn whose loss weight is 0 is context, not response.

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
        (row,) = self.tokenise_many(
            [example],
            last_turn_only=last_turn_only,
            continue_last_turn=continue_last_turn,
            tally=tally,
            longest=longest,
        )
        if isinstance(row, RefusedRow):
            raise row
        return row

    def tokenise_many(
        self,
        examples: Sequence[Example],
        *,
        last_turn_only: bool = False,
        continue_last_turn: bool = False,
        tally: Tally | None = None,
        longest: int | None = None,
    ) -> list[Tokens | RefusedRow]:
        """Conversations' tokens by one call of the tokenizer, whose start costs more than a short text.

        Each is what ``tokenise`` makes of it, or the refusal that it raises.
        """
        found = [self._found(example, last_turn_only, tally, longest) for example in examples]
        texts = [text for one in found if isinstance(one, Found) for text in (one.whole, one.prompt)]
        encoded = iter(self.encoder.encode_all([(text, ()) for text in texts]))
        rows: list[Tokens | RefusedRow] = []
        for one in found:
            if isinstance(one, Found):
                ids = self._encoded(one, next(encoded), next(encoded))
                rows.append(self._row(one, ids, continue_last_turn))
            else:
                rows.append(one)
        return rows

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[JSON] = ()) -> IntArray:
        """Token ids of a prompt, the header of the assistant's turn at its end: what a sampler continues.

        The tokens of a row made by ``tokenise`` begin with exactly these ids, up to its last response.

        Raises:
            RefusedRow: the template refuses the conversation, or a token has no embedding.
        """
        ids_T = self.encoder.encode(self.locator.prompt(messages, tools)).ids_T
        self._check_embedded(ids_T)
        return ids_T

    def text_ids(self, text: str) -> IntArray:
        """Token ids of a text by itself: no template, no special token at either end."""
        ids = self.encoder.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return np.asarray(ids, dtype=np.int32)

    @property
    def ends(self) -> Ends:
        """The end-of-turn tokens and the assistant's header."""
        return self.locator.ends

    @property
    def begin_id(self) -> int:
        """The id that a text without a prompt is put behind: begin of text, else end of text, else an end of turn."""
        tokenizer = self.encoder.tokenizer
        known = (tokenizer.bos_token_id, tokenizer.eos_token_id, min(self.stop_ids))
        return next(int(token) for token in known if token is not None)

    def user_header_ids(self, messages: Sequence[Message]) -> IntArray:
        """Token ids of a conversation so far with the header of the user's next turn.

        Raises:
            RefusedRow: the template refuses the conversation.
            InputError: the template does not show a user's turn as it is, so that its header cannot be told.
        """
        whole = self.locator.renderer.render([*messages, Message(role="user", content=_USER_TEXT)])
        head, found, _ = whole.text.partition(_USER_TEXT)
        if not found:
            raise InputError("the chat template does not show the user's text", fix="use a model with another template")
        return self.encoder.encode(whole.until(len(head))).ids_T

    def _refuse_over_long(self, example: Example, longest: int) -> None:
        """Raise before the work of encoding where the text is certainly too long, be it 50 MB.

        Assistant turns are not counted: some templates leave parts of theirs out.
        """
        characters = sum(len(m["content"] or "") for m in example.messages if m["role"] != "assistant")
        if characters > longest * self.longest_token:
            raise RefusedRow("over-long", f"{characters:,} characters cannot fit into {longest:,} tokens")

    # --- finding the response -----------------------------------------------------------------------------------

    def _found(
        self, example: Example, last_turn_only: bool, tally: Tally | None, longest: int | None
    ) -> Found | Tokens | RefusedRow:
        """The conversation's text with its responses; where it was sampled its row, which needs no search."""
        try:
            if example.sampled_ids is not None:
                return self._from_sample(example, example.sampled_ids, last_turn_only)
            if longest is not None:
                self._refuse_over_long(example, longest)
            found, way = self.locator.locate(example, last_turn_only)
        except RefusedRow as refusal:
            return refusal.of(example.id)
        if tally is not None:
            tally.note(f"response found by {way}")
            if self.fixed_date:
                tally.note(f"today's date, which the chat template writes, held at {self.fixed_date}")
            for what in left_out(found.whole, found.turns, found.messages, example, found.borders):
                tally.note(f"{what} left out by the chat template")
            if found.lacks_opener:
                tally.note("last response without the reasoning block that the prompt opens")
        return found

    # --- tokens -------------------------------------------------------------------------------------------------

    def _encoded(self, found: Found, whole: Encoded, prompt: Encoded) -> Encoded:
        """The whole, cut behind the prompt only where its ids would not begin with the prompt's."""
        length, border = len(prompt.ids_T), len(found.prompt.text)
        if np.array_equal(whole.ids_T[:length], prompt.ids_T) and np.all(whole.begin_T[length:] >= border):
            return whole
        return self.encoder.encode(found.whole, cut_at=[border])

    def _row(self, found: Found, encoded: Encoded, open_end: bool) -> Tokens | RefusedRow:
        example, whole = found.example, found.whole
        ids_T, begin_T = encoded.ids_T, encoded.begin_T
        try:
            self._check_written(whole, ids_T)
            self._check_embedded(ids_T)
        except RefusedRow as refusal:
            return refusal.of(example.id)
        in_response_T = np.zeros(len(ids_T), dtype=np.bool_)
        ends_turn_T = np.zeros(len(ids_T), dtype=np.bool_)
        weight_T = np.zeros(len(ids_T), dtype=np.float32)
        for number, turn in enumerate(found.turns):
            first, after = np.searchsorted(begin_T, [turn.start, turn.after])
            in_response_T[first:after] = True
            weight_T[first:after] = found.messages[number].get("weight", 1.0)
            end = int(np.searchsorted(begin_T, turn.end, side="right")) - 1
            if int(ids_T[end]) not in self.end_ids:
                name = whole.text[turn.end : turn.after]
                problem = f"the end-of-turn {name!r} is not one token of this tokenizer"
                return RefusedRow(NOT_FOUND, problem).of(example.id)
            ends_turn_T[end] = True
            if open_end and number == len(found.turns) - 1:
                ids_T, in_response_T, ends_turn_T = ids_T[:end], in_response_T[:end], ends_turn_T[:end]
        weighted = any(message.get("weight", 1.0) != 1.0 for message in found.messages)
        loss_weight_T = weight_T[: len(ids_T)] if weighted else None
        return Tokens(example.id, ids_T, in_response_T, ends_turn_T, example.task, example.origin, loss_weight_T)

    def _from_sample(self, example: Example, sampled_T: IntArray, last_turn_only: bool) -> Tokens:
        """The prompt's ids and, unchanged, those that were sampled; the response ends with their first end-of-turn."""
        last = max(i for i, message in enumerate(example.messages) if message["role"] == "assistant")
        history = example.messages[:last]
        if not is_trained(example.messages[last]):
            raise RefusedRow(NOTHING_TRAINED, "the turn that was sampled is marked as not trained")
        prompt = self.locator.prompt(history, example.tools)
        prompt_T = self.encoder.encode(prompt)
        ends = np.flatnonzero(np.isin(sampled_T, list(self.stop_ids)))
        length = int(ends[0]) + 1 if len(ends) else len(sampled_T)
        response_T = np.concatenate([np.zeros(len(prompt_T.ids_T), np.bool_), np.arange(len(sampled_T)) < length])
        ends_turn_T = np.zeros(len(response_T), dtype=np.bool_)
        ends_turn_T[len(prompt_T.ids_T) + ends[:1]] = True
        weight_T = response_T * np.float32(example.messages[last].get("weight", 1.0))
        if not last_turn_only and any(is_trained(message) for message in history):
            earlier = self.tokenise(Example(example.id, history, tools=example.tools))
            same = len(earlier) <= len(prompt_T.ids_T) and np.array_equal(earlier.ids_T, prompt_T.ids_T[: len(earlier)])
            if same:
                response_T[: len(earlier)] |= earlier.in_response_T
                ends_turn_T[: len(earlier)] |= earlier.ends_turn_T
                own_T = earlier.loss_weight_T
                weight_T[: len(earlier)] += earlier.in_response_T if own_T is None else own_T
        ids_T = np.concatenate([prompt_T.ids_T, sampled_T.astype(np.int32)])
        loss_weight_T = None if np.array_equal(weight_T, response_T) else weight_T
        return Tokens(example.id, ids_T, response_T, ends_turn_T, example.task, example.origin, loss_weight_T)

    def _check_embedded(self, ids_T: IntArray) -> None:
        """Every id has an embedding; some tokenizers have an id or two more than their model."""
        if self.vocabulary is None or not len(ids_T) or int(ids_T.max()) < self.vocabulary:
            return
        token = int(ids_T[ids_T >= self.vocabulary][0])
        name = self.encoder.tokenizer.convert_ids_to_tokens(token)
        raise RefusedRow(
            "a token without an embedding",
            f"token id {token} ({name!r}) is in the tokenizer, but the model has embeddings for"
            f" {self.vocabulary:,} ids only",
            fix="take the text of that token out of the row, or resize the model's embedding to the tokenizer",
        )

    def _check_written(self, whole: Rendered, ids_T: IntArray) -> None:
        """Every special token of the row was written by the template: normalising tokenizers could make others."""
        written = sum(
            whole.is_written(match.start(), match.start() + len(match.group(1)))
            for match in self.special_names.finditer(whole.text)
        )
        got = int(self.special_V[ids_T].sum())
        if got > written:
            raise RefusedRow(
                "text that the tokenizer turns into a special token",
                f"the template writes {written} special tokens, the tokenizer makes {got}",
            )
