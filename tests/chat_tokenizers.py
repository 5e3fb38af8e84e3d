"""Small tokenizers of the kinds that chat models use, with the special tokens and templates of those models.

Each has a few hundred entries, made from a fixed list of words, so that ids never change with a library's version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

TEMPLATES: Final = Path(__file__).parent / "golden" / "templates"

_WORDS: Final = (  # noqa: SIM905 - a sentence reads better than a list
    "user assistant system model the capital of France is Paris What you are helpful tool think answer hello world"
).split()
_SPLIT: Final = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True, slots=True)
class Kind:
    """Parts of one model family's tokenizer and template.

    Attributes:
        backend: byte-level, or SentencePiece in one of the three ways in which it treats the blank at the beginning.
        special: special tokens besides bos and eos.
        bos: beginning of text; None where the family has none.
        eos: end of text or turn.
        source: where the template comes from: TRL's package, or our own after the documented format.
        plain: added tokens that are not special.
        rstrip: whether special tokens take the white space behind them.
    """

    backend: Literal["bytes", "gemma", "metaspace", "legacy"]
    special: tuple[str, ...]
    bos: str | None
    eos: str
    source: Literal["trl", "own"] = "trl"
    template: str = ""
    plain: tuple[str, ...] = ()
    rstrip: bool = False


_TAGS: Final = ("<think>", "</think>", "<tool_call>", "</tool_call>")
_DEEPSEEK: Final = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
_DEEPSEEK_TAGS: Final = (
    "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>", "<｜tool▁sep｜>",
)  # fmt: skip
_GEMMA4: Final = (
    "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>",
    "<|tool_response>", "<tool_response|>", '<|"|>', "<|think|>", "<|image|>",
)  # fmt: skip

_FAMILIES: Final[Mapping[str, Kind]] = {
    "llama3": Kind(
        "bytes", ("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"), "<|begin_of_text|>", "<|eot_id|>"
    ),
    "gemma2": Kind("gemma", ("<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>", template="gemma"),
    "gemma3": Kind("gemma", ("<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>"),
    "qwen2_5": Kind(
        "bytes", ("<|im_start|>", "<|endoftext|>"), None, "<|im_end|>", plain=("<tool_call>", "</tool_call>")
    ),
    "qwen3": Kind(
        "bytes",
        ("<|im_start|>", "<|endoftext|>"),
        None,
        "<|im_end|>",
        plain=("<think>", "</think>", "<tool_call>", "</tool_call>"),
    ),
    "phi3": Kind("legacy", ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"), "<s>", "<|endoftext|>", rstrip=True),
    "qwen3_5": Kind(
        "bytes", ("<|im_start|>", "<|endoftext|>"), None, "<|im_end|>", template="qwen3_5_think", plain=_TAGS
    ),
    "qwen3_8": Kind("bytes", ("<|im_start|>", "<|endoftext|>"), None, "<|im_end|>", plain=_TAGS),
    "qwen3_6": Kind("bytes", ("<|im_start|>", "<|endoftext|>"), None, "<|im_end|>", plain=_TAGS),
    "nemotron3": Kind("bytes", ("<|im_start|>",), "<s>", "<|im_end|>", template="nemotron_3_nano", plain=_TAGS),
    "deepseek_r1": Kind("bytes", (), *_DEEPSEEK, template="deepseek_r1_distill", plain=_DEEPSEEK_TAGS),
    "deepseek_v3": Kind("bytes", (), *_DEEPSEEK, template="deepseekv3", plain=_DEEPSEEK_TAGS),
    "gptoss": Kind(
        "bytes",
        ("<|start|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|end|>", "<|call|>", "<|endoftext|>"),
        "<|startoftext|>",
        "<|return|>",
    ),
    "gemma4": Kind("gemma", _GEMMA4, "<bos>", "<eos>", template="gemma4_v5"),
    "glm4": Kind(
        "bytes",
        ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
        None,
        "<|endoftext|>",
        template="glm4moe",
        plain=_TAGS,
    ),
    "glm4_9b": Kind(
        "bytes",
        ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
        None,
        "<|endoftext|>",
        source="own",
    ),
    "mistral": Kind("metaspace", ("[INST]", "[/INST]"), "<s>", "</s>", source="own"),
    "olmo2": Kind("bytes", (), "<|endoftext|>", "<|endoftext|>", source="own"),
    "chatml": Kind("bytes", ("<|im_start|>",), None, "<|im_end|>", source="own"),
}


def _path(name: str) -> Path:
    """File of a family's template: TRL's copy of it, or our own after the documented format."""
    kind = _FAMILIES[name]
    if kind.source == "own":
        return TEMPLATES / f"{name}.jinja"
    import trl

    return Path(trl.__file__).parent / "chat_templates" / f"{kind.template or name}.jinja"


KINDS: Final[Mapping[str, Kind]] = {name: kind for name, kind in _FAMILIES.items() if _path(name).is_file()}
"""Families whose template is at hand; an older TRL does not have all of them."""


@cache
def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The family's small tokenizer with its chat template."""
    kind = KINDS[name]
    made = PreTrainedTokenizerFast(
        tokenizer_object=_backend(kind.backend),
        bos_token=kind.bos,
        eos_token=kind.eos,
        clean_up_tokenization_spaces=False,
    )
    names = [n for n in (kind.bos, kind.eos, *kind.special) if n is not None]
    special = [AddedToken(n, normalized=False, special=True, rstrip=kind.rstrip and n != kind.bos) for n in names]
    made.add_tokens(special, special_tokens=True)
    made.add_tokens([AddedToken(n, normalized=False, special=False) for n in kind.plain])
    made.chat_template = template(name)
    return made


def template(name: str) -> str:
    """The family's chat template."""
    return _path(name).read_text(encoding="utf-8")


def _backend(kind: str) -> Tokenizer:
    """A tokenizer whose merges spell out ``_WORDS``, with and without a blank before them, and double line breaks."""
    blank = "Ġ" if kind == "bytes" else "▁"
    newline = "Ċ" if kind == "bytes" else "\n"
    words = [word for plain in _WORDS for word in (plain, blank + plain)] + [newline * 2, blank * 2]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet()) if kind == "bytes" else _sentencepiece_alphabet()
    tokens = dict.fromkeys(alphabet)
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        for end in range(1, len(word)):
            merges[(word[:end], word[end])] = None
            tokens[word[: end + 1]] = None
    vocabulary = {token: index for index, token in enumerate(tokens)}
    made = Tokenizer(BPE(vocab=vocabulary, merges=list(merges), byte_fallback=kind != "bytes"))
    _equip(made, kind)
    return made


def _equip(made: Tokenizer, kind: str) -> None:
    """The steps around the merges, as the families' own tokenizer.json files have them."""
    if kind == "bytes":
        split = pre_tokenizers.Split(Regex(_SPLIT), "isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        made.decoder = decoders.ByteLevel()
        made.post_processor = processors.ByteLevel(trim_offsets=False)
        return
    if kind == "metaspace":
        made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    elif kind == "gemma":
        made.normalizer = normalizers.Replace(" ", "▁")
    else:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


def _sentencepiece_alphabet() -> list[str]:
    return [f"<0x{byte:02X}>" for byte in range(256)] + ["▁", "\n"] + [chr(code) for code in range(33, 127)]
