"""Pretraining batches: dialogues in token ids with a weight for each token, grouped by length and padded."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tools.pocket.generator.corpus import EARLY_MIXTURE, LAST_MIXTURE, LATER_MIXTURE, MIXTURE, dialogues
from tools.pocket.generator.seeding import seeded
from tools.pocket.tokenizer import BEGIN, END, HEADERS

from tokensieve.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHUNK = 8192
"""Dialogues that are drawn, encoded and grouped at a time; training resumes at the start of a chunk."""
EARLY_CHUNKS = 2
"""Chunks at the beginning that are drawn from the early mixture."""
PLAN = ((EARLY_CHUNKS, EARLY_MIXTURE), (7, MIXTURE), (22, LATER_MIXTURE), (None, LAST_MIXTURE))
"""Mixtures, each with the chunk before which it ends."""
PROMPT_WEIGHT = 0.1
"""Weight in the loss of a token outside the responses; above 0, so that the model can write a user's turn too."""

Batch = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Token ids and loss weights, both [B, T]; padding has weight 0."""


def encode(
    tokenizer: "PreTrainedTokenizerFast", conversations: list[list[Message]]
) -> list[tuple[list[int], list[float]]]:
    """Ids and weights of each conversation, as the chat template lays it out, without rendering the template."""
    special = {name: tokenizer.convert_tokens_to_ids(name) for name in (BEGIN, END, *HEADERS.values())}
    contents = [str(message["content"]) for messages in conversations for message in messages]
    encoded = iter(tokenizer(contents, add_special_tokens=False)["input_ids"])
    rows = []
    for messages in conversations:
        ids, weights = [special[BEGIN]], [0.0]
        for message in messages:
            content = [*next(encoded), special[END]]
            weight = 1.0 if message["role"] == "assistant" else PROMPT_WEIGHT
            ids += [special[HEADERS[message["role"]]], *content]
            weights += [PROMPT_WEIGHT, *[weight] * len(content)]
        rows.append((ids, weights))
    return rows


def chunk(tokenizer: "PreTrainedTokenizerFast", seed: int, number: int, tokens: int) -> Iterator[Batch]:
    """The batches of one chunk, each of at most ``tokens`` tokens with its padding, in a drawn order."""
    mixture = next(mixture for end, mixture in PLAN if end is None or number < end)
    rows = encode(tokenizer, list(islice(dialogues(seed, number, mixture=mixture), CHUNK)))
    rows.sort(key=lambda row: len(row[0]))
    groups: list[list[tuple[list[int], list[float]]]] = [[]]
    for row in rows:
        if groups[-1] and len(row[0]) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(row)
    if len(groups) > 1 and len(groups[-1]) == 1:
        # A batch of one would be compiled for anew: its shape is no special case of the others.
        groups[-2:] = [groups[-2][:-1], [groups[-2][-1], *groups[-1]]]
    seeded("batches", seed, number).shuffle(groups)
    for group in groups:
        length = max(len(ids) for ids, _ in group)
        # Padding is on the right and attention is causal: no real token sees it, and its weight is 0.
        ids = np.zeros((len(group), length), np.int64)
        weights = np.zeros((len(group), length), np.float32)
        for at, (row_ids, row_weights) in enumerate(group):
            ids[at, : len(row_ids)] = row_ids
            weights[at, : len(row_ids)] = row_weights
        yield ids, weights
