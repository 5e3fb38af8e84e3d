"""A model's chat template with its arguments, and the tokens that end a turn: everyone asks the loaded model."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import TEMPLATE, make_tiny_model, make_tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from tokensieve import pocket
from tokensieve.config import DataSettings, EvaluateSettings, ModelSettings, SampleSettings
from tokensieve.data.hashing import refuse_another_tokenizer, template_digest
from tokensieve.data.manifest import ModelIdentity, digest_of
from tokensieve.errors import InputError
from tokensieve.evaluation import evaluate
from tokensieve.generation.perplexity import conditional_nll, unconditional_nll
from tokensieve.models import LoadedModel, fingerprint, from_memory, load_chat, load_model, load_tokenizer
from tokensieve.pipeline import load
from tokensieve.sampling import LocalSampler, Request
from tokensieve.types import Example, Message

ASKED = (Message(role="user", content="a"),)
ARGUMENTS = {"style": "short"}


def _with(template: str, **special: str | None) -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(make_tiny_tokenizer())
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    tokenizer.chat_template = template
    for name, value in special.items():
        setattr(tokenizer, name, value)
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template writes the argument ``style``."""
    place = tmp_path_factory.mktemp("styled")
    loaded = make_tiny_model(_with("{% if style is defined %}{{ style }}{% endif %}" + TEMPLATE))
    loaded.model.save_pretrained(str(place))
    loaded.tokenizer.save_pretrained(str(place))
    return place


def test_template_arguments_reach_every_stage(folder: Path, tmp_path: Path) -> None:
    plain, styled = (load_model(ModelSettings(model=str(folder), template_kwargs=given)) for given in ({}, ARGUMENTS))
    text = styled.tokenizer.decode(LocalSampler(styled).prompt_T(Request("r", ASKED, 4)))
    assert text.startswith("short<|user|>")
    example = Example("row", (*ASKED, Message(role="assistant", content="b")))
    assert conditional_nll([example], styled) != conditional_nll([example], plain)
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n')
    settings = ModelSettings(model=str(folder), template_kwargs=ARGUMENTS)
    for model in (styled, settings):
        rows = load(data, model, DataSettings())
        assert styled.tokenizer.decode(next(iter(rows)).ids_T).startswith("short<|user|>")
        assert rows.manifest.settings["template_kwargs"] == ARGUMENTS
        assert rows.manifest.model is not None
        assert rows.manifest.model.template_digest == styled.identity.template_digest
    assert load_chat(settings).user_header_ids(()).tolist() == styled.chat.user_header_ids(()).tolist()


def test_template_arguments_are_part_of_the_model_s_identity(folder: Path) -> None:
    plain, styled = (ModelSettings(model=str(folder), template_kwargs=given) for given in ({}, ARGUMENTS))
    assert fingerprint(plain) != fingerprint(styled)
    identities = [load_model(settings).identity for settings in (plain, styled)]
    assert identities[0].weights_digest == identities[1].weights_digest
    with pytest.raises(InputError, match=r'arguments \(--template-kwargs\) were \{"style": "short"\} and are now \{\}'):
        refuse_another_tokenizer(identities[1], identities[0], fix="")


def test_without_template_arguments_digests_are_what_they_were() -> None:
    tokenizer = _with(TEMPLATE)
    assert template_digest(tokenizer, {}) == template_digest(tokenizer) == digest_of(TEMPLATE)
    assert "template_kwargs" not in ModelIdentity(name="m").model_dump(mode="json")
    assert ModelIdentity(name="m", template_kwargs={"a": 1}).model_dump(mode="json")["template_kwargs"] == {"a": 1}


@pytest.mark.parametrize(
    ("tokenizer_s", "model_s", "stops"),
    [
        ("<|end|>", 2, {"<|end|>"}),
        ("<|pad|>", 3, {"<|end|>", "<|pad|>"}),
        ("<|pad|>", [3, 0], {"<|end|>", "<|pad|>", "<|begin|>"}),
        (None, None, {"<|end|>"}),
        ("<|begin|>", None, {"<|end|>", "<|begin|>"}),
    ],
)
def test_a_turn_ends_as_the_template_says_whatever_the_end_of_sequence(
    tokenizer_s: str | None, model_s: int | list[int] | None, stops: set[str]
) -> None:
    loaded = _ending(tokenizer_s, model_s)
    assert set(loaded.tokenizer.convert_ids_to_tokens(sorted(loaded.stop_ids))) == stops
    row = loaded.chat.tokenise(Example("row", (*ASKED, Message(role="assistant", content="b"))))
    assert loaded.tokenizer.decode(row.ids_T[row.ends_turn_T]) == "<|end|>"
    assert set(row.ids_T[row.ends_turn_T].tolist()) <= loaded.stop_ids


def _ending(tokenizer_s: str | None, model_s: int | list[int] | None) -> LoadedModel:
    loaded = make_tiny_model(_with(TEMPLATE, eos_token=tokenizer_s))
    loaded.model.config.eos_token_id = loaded.model.generation_config.eos_token_id = model_s
    return from_memory(loaded.model, loaded.tokenizer)


def test_without_any_end_of_sequence_everything_works_by_the_template_alone() -> None:
    loaded = make_tiny_model(_with(TEMPLATE, eos_token=None, pad_token=None, bos_token=None))
    for owner in (loaded.model.config, loaded.model.generation_config):
        owner.eos_token_id = owner.pad_token_id = owner.bos_token_id = None
    (sample,) = LocalSampler(loaded).draw([Request("r", ASKED, 4)], SampleSettings())
    assert 1 <= len(sample.ids) <= 4
    assert np.isfinite(unconditional_nll(["abc"], loaded)).all()


def test_a_copy_of_pocket_with_another_end_of_sequence_evaluates_as_pocket_does(tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(Path(pocket.__file__).parent, copied, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name, key, value in (
        ("config.json", "eos_token_id", 0),
        ("generation_config.json", "eos_token_id", 0),
        ("tokenizer_config.json", "eos_token", "<|pad|>"),
    ):
        content = json.loads((copied / name).read_text())
        assert content[key] != value
        (copied / name).write_text(json.dumps({**content, key: value}))
    settings = EvaluateSettings(tasks=("pocket_arithmetic",), limit=6)
    own, other = (list(evaluate(model, settings).rows) for model in ("pocket", str(copied)))
    assert all(sample.finished for sample in own)
    assert [(s.ids, s.finished, s.verdict) for s in own] == [(s.ids, s.finished, s.verdict) for s in other]


def test_a_tokenizer_of_mistral_common_alone_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "tekken", ignore=shutil.ignore_patterns("tokenizer*", "*.jinja"))
    (tmp_path / "tekken" / "tekken.json").write_text("{}")
    for read in (load_tokenizer, load_model):
        with pytest.raises(InputError, match=r"tekken\.json.*\n.*--tokenizer with a repository"):
            read(str(tmp_path / "tekken"))


def _with_an_unembedded_token() -> LoadedModel:
    """A model with one id fewer than its tokenizer, as a public Gemma 3 is reported to be."""
    tokenizer = _with(TEMPLATE)
    tokenizer.add_tokens(["<unused>"])
    return make_tiny_model(tokenizer, vocab_size=len(tokenizer) - 1)


def test_a_tokenizer_one_id_larger_than_the_embedding_refuses_the_rows_that_use_it_alone(tmp_path: Path) -> None:
    loaded = _with_an_unembedded_token()
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "<unused>", "completion": "b"}\n')
    rows = load(data, loaded, DataSettings())
    assert rows.manifest.counts.rows_out == 1
    assert rows.manifest.counts.dropped == {"a token without an embedding": 1}
    loaded.model.save_pretrained(str(tmp_path / "folder"))
    loaded.tokenizer.save_pretrained(str(tmp_path / "folder"))
    assert load(data, str(tmp_path / "folder"), DataSettings()).manifest.counts == rows.manifest.counts


def test_a_prompt_with_a_token_without_an_embedding_is_refused_in_words() -> None:
    loaded = _with_an_unembedded_token()
    asked = Request("r", (Message(role="user", content="<unused>"),), 4)
    with pytest.raises(InputError, match=r"token id 262 \('<unused>'\) is in the tokenizer, .* 262 ids only"):
        list(LocalSampler(loaded).draw([asked], SampleSettings()))
