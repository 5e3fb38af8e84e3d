"""Digests of tokenizers, templates and files, seeded hashes, deduplication by hash; the user's cache folder."""

import hashlib
import json
import os
from array import array
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokensieve.data.manifest import ModelIdentity, digest_of, digest_of_file, write_atomically
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.types import JSON

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE_VARIABLE: Final = "TOKENSIEVE_CACHE"
_BUCKETS: Final = 2**16
_BIG_FILE: Final = 64 * 2**20
"""Bytes from which on a file's digest is remembered rather than computed at every start."""


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of what turns text into ids: the serialised tokenizer without its padding and truncation state.

    Args:
        tokenizer: any tokenizer of the transformers library; one without a serialised form is identified by its
            vocabulary and special tokens.

    Returns:
        64 hex digits.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return digest_of({"vocabulary": tokenizer.get_vocab(), "special": tokenizer.all_special_tokens})
    content = json.loads(backend.to_str())
    for state in ("padding", "truncation"):  # left behind by the last call, no part of what the tokenizer is
        content.pop(state, None)
    return digest_of(content)


def template_digest(tokenizer: "PreTrainedTokenizerBase", template_kwargs: Mapping[str, JSON] | None = None) -> str:
    """SHA-256 of the chat template and its arguments, 64 hex digits; empty where the tokenizer has no template.

    Args:
        tokenizer: any tokenizer of the transformers library.
        template_kwargs: the template's arguments. Without any, the digest is that of the template alone.
    """
    template = tokenizer.chat_template
    if not template:
        return ""
    return digest_of([template, dict(template_kwargs)] if template_kwargs else template)


def refuse_another_tokenizer(made_with: ModelIdentity | None, model: ModelIdentity, *, fix: str) -> None:
    """Check that rows were tokenised by a model's own tokenizer and chat template.

    Args:
        made_with: the model that the rows' manifest names; nothing is checked where it names none, or no digest.
        model: the model that is to learn from them.
        fix: what the user is told to do.

    Raises:
        InputError: they were made with another one; names both digests.
    """
    if made_with is None:
        return
    for part, theirs, ours in (
        ("tokenizer", made_with.tokenizer_digest, model.tokenizer_digest),
        ("chat template", made_with.template_digest, model.template_digest),
    ):
        if theirs and theirs != ours:
            arguments = ""
            if part == "chat template" and made_with.template_kwargs != model.template_kwargs:
                arguments = (
                    f"; its arguments (--template-kwargs) were {json.dumps(made_with.template_kwargs)}"
                    f" and are now {json.dumps(model.template_kwargs)}"
                )
            raise InputError(
                f"the rows were made with another {part}, that of {made_with.name} ({theirs[:16]}), than that of"
                f" {model.name} ({ours[:16] or 'none'}){arguments}",
                where=model.name,
                fix=f"give the same --template-kwargs, or {fix}" if arguments else fix,
            )


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits; remembered in the user's cache for large files.

    A file counts as unchanged while its resolved path, size and time of change (in nanoseconds) are.
    """
    path = path.resolve()
    state = path.stat()
    if state.st_size < _BIG_FILE:
        return digest_of_file(path)
    key = hashlib.sha256(f"{path}\0{state.st_size}\0{state.st_mtime_ns}".encode()).hexdigest()
    note = cache_folder() / "digests" / key
    if note.is_file() and len(known := note.read_text(encoding="ascii").strip()) == 64:
        return known
    digest = digest_of_file(path)
    try:
        write_atomically(note, digest.encode())
    except (EnvironmentProblem, OSError):  # a read-only cache costs time at the next start and nothing else
        return digest
    return digest


def cache_folder() -> Path:
    """The user's cache: ``$TOKENSIEVE_CACHE``, else ``$XDG_CACHE_HOME/tokensieve``, else ``~/.cache/tokensieve``."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser() / "tokensieve"
    return Path("~/.cache/tokensieve").expanduser()


def seeded_hash(seed: int, *parts: str | int) -> bytes:
    """Eight bytes that depend on a seed and on parts such as a row's id: a draw that no order or batch changes."""
    text = "\0".join(map(str, (seed, *parts)))
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


class Fingerprints:
    """Set of 64-bit hashes for deduplication: some 15 bytes each where a Python set takes 100.

    Two different rows share a hash once in 10^7 data sets of a million rows.
    """

    def __init__(self) -> None:
        self._buckets: defaultdict[int, array[int]] = defaultdict(lambda: array("Q"))

    def is_new(self, number: int) -> bool:
        """Add a hash; True where it was not in the set. Only its lowest 64 bits count."""
        number %= 2**64
        bucket = self._buckets[number % _BUCKETS]
        if number in bucket:
            return False
        bucket.append(number)
        return True
