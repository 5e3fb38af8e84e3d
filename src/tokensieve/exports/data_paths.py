"""The trainers' own data paths: an exported folder loaded through a trainer's code, imported when asked for."""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import numpy as np

from tokensieve.exports.files import DATA
from tokensieve.exports.loaded_row import LoadedRow, from_batch, from_labels
from tokensieve.exports.trainer_format import Source
from tokensieve.models.device import checkpointing_arguments
from tokensieve.types import IGNORE_INDEX

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH: Final = 3
"""Rows in a batch: more than one, so that padding is part of what is checked."""


def rows_of(source: Source) -> "datasets.Dataset":
    """The rows as the datasets library loads them, which is how most trainers do."""
    import datasets

    if source.format == "save_to_disk":
        return datasets.load_from_disk(str(data_of(source)))["train"]
    kind = "json" if source.format == "jsonl" else "parquet"
    cache = str(source.scratch / "cache")
    return datasets.load_dataset(kind, data_files=str(data_of(source)), split="train", cache_dir=cache)


def data_of(source: Source) -> Path:
    """The file, or the folder, that holds the rows."""
    return source.folder / DATA[source.format]


def through_trl(source: Source) -> Iterator[LoadedRow]:
    """``SFTTrainer`` with a model of a few hundred weights, and the batches of its own data loader."""
    from trl import SFTConfig, SFTTrainer

    rows = rows_of(source)
    model, tokenizer = _stand_ins(rows)
    args = SFTConfig(**_arguments(source), max_length=None, packing=False)
    trainer = SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    for batch in trainer.get_train_dataloader():
        yield from from_batch(batch)


def through_hf(source: Source) -> Iterator[LoadedRow]:
    """The plain ``Trainer`` with the collator that the folder's README names."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    rows = rows_of(source)
    model, tokenizer = _stand_ins(rows)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**_arguments(source)),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    for batch in trainer.get_train_dataloader():
        yield from from_batch(batch)


def through_litgpt(source: Source) -> Iterator[LoadedRow]:
    """The folder's own data module, on LitGPT's base class and collator."""
    spec = importlib.util.spec_from_file_location("tokensieve_data", source.folder / "tokensieve_data.py")
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = module.Tokensieve(path=str(data_of(source)))
    data.connect(tokenizer=None, batch_size=_BATCH, max_seq_length=None)
    data.setup()
    collate = importlib.import_module("litgpt.data").get_sft_collate_fn()
    for portion in _portions(len(data.rows)):
        rows = [data.rows[i] for i in portion]
        yield from _unpadded(collate(rows), [len(row["input_ids"]) for row in rows])


def through_automodel(source: Source) -> Iterator[LoadedRow]:
    """The data set and collator that Automodel's recipe makes of the folder's own configuration."""
    loader = importlib.import_module("nemo_automodel.components.config.loader")
    recipes = importlib.import_module("nemo_automodel.recipes._typed_config")
    written = loader.load_yaml_config(str(source.folder / "automodel.yaml"))
    written.dataset.data_files = str(data_of(source))
    written.dataset.cache_dir = str(source.scratch / "cache")
    config = recipes.RecipeConfig(written)
    # Each is refused here where its section has a key that Automodel does not know.
    _ = config.step_scheduler, config.optimizer, config.lr_scheduler, config.loss_fn, config.checkpoint
    rows = config.dataloader.dataset_config.build(tokenizer=None)
    for portion in _portions(len(rows)):
        yield from from_batch(config.dataloader.collate_fn([dict(rows[i]) for i in portion]), shifted=True)


def through_llamafactory(source: Source) -> Iterator[LoadedRow]:
    """``get_dataset`` with ``tokenized_path``, and LLaMA-Factory's own collator."""
    data = importlib.import_module("llamafactory.data")
    hparams = importlib.import_module("llamafactory.hparams")
    _, tokenizer = _stand_ins(rows_of(source))
    arguments = hparams.DataArguments(tokenized_path=str(data_of(source)), dataset="unused")
    training = importlib.import_module("transformers").Seq2SeqTrainingArguments(
        output_dir=str(source.scratch), use_cpu=True
    )
    module = data.get_dataset(None, None, arguments, training, stage="sft", tokenizer=tokenizer)
    collate = importlib.import_module("transformers").DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORE_INDEX)
    rows = module["train_dataset"]
    for portion in _portions(len(rows)):
        yield from from_batch(collate([dict(rows[i]) for i in portion]))


def through_axolotl(source: Source) -> Iterator[LoadedRow]:
    """``prepare_datasets`` under the folder's own configuration, as ``axolotl train`` calls it, and its collator."""
    import yaml

    settings = importlib.import_module("axolotl.utils.dict").DictDefault
    written = settings(yaml.safe_load((source.folder / "axolotl.yaml").read_text(encoding="utf-8")))
    written.datasets[0].path = str(data_of(source))
    config = importlib.import_module("axolotl.utils.config").validate_config(written)
    config.update(
        dataset_prepared_path=str(source.scratch / "prepared"),
        shuffle_merged_datasets=False,  # so that the rows come in the selection's order
        dataset_num_proc=1,
        batch_size=config.micro_batch_size * config.gradient_accumulation_steps,
    )
    _, tokenizer = _stand_ins(rows_of(source))
    rows, _, _, _ = importlib.import_module("axolotl.utils.data").prepare_datasets(config, tokenizer)
    collate = importlib.import_module("axolotl.utils.collators").DataCollatorForSeq2Seq(tokenizer)
    for portion in _portions(len(rows)):
        yield from from_batch(collate([dict(rows[i]) for i in portion]))


def through_ms_swift(source: Source) -> Iterator[LoadedRow]:
    """The rows as ``swift sft --external_plugins template.py --template tokensieve`` encodes them."""
    spec = importlib.util.spec_from_file_location("tokensieve_template", source.folder / "template.py")
    if spec is None or spec.loader is None:
        return
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    swift = importlib.import_module("swift.template")
    rows, _ = importlib.import_module("swift.dataset").load_dataset(str(data_of(source)), load_from_cache_file=False)
    _, processor = _stand_ins(None)
    # What ms-swift hangs on a tokenizer that it has loaded together with a model.
    info = {"config": None, "task_type": "causal_lm", "max_model_len": None, "model_dir": None}
    vars(processor).update(model_info=SimpleNamespace(**info), model_meta=SimpleNamespace(is_multimodal=False))
    meta = swift.TEMPLATE_MAPPING["tokensieve"]
    encoder = meta.template_cls(processor, meta, is_binary_loss_scale=False)
    encoder.set_mode("train")
    for row in rows:
        encoded = encoder.encode(dict(row))
        found = from_labels(encoded["input_ids"], encoded["labels"])
        scale = encoded.get("loss_scale")
        weights = None if scale is None else np.asarray(scale, dtype=np.float32)[found.places]
        yield LoadedRow(found.ids_T, found.places, found.tokens, weights)


def _stand_ins(rows: "datasets.Dataset | None") -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A model and a tokenizer that fit the rows' ids, for trainers that do nothing without."""
    import pyarrow.compute as pc
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))  # noqa: S106 - no password
    names = {"pad_token": "<pad>", "eos_token": "<eos>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    highest = 0 if rows is None else pc.max(pc.list_flatten(rows.data.column("input_ids"))).as_py()
    config = LlamaConfig(
        vocab_size=max(int(highest), 1) + 1,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config), tokenizer


def _arguments(source: Source) -> dict[str, object]:
    """Settings of the trainers on transformers: the rows' own order, nothing reported or saved."""
    return {
        "output_dir": str(source.scratch / "out"),
        "per_device_train_batch_size": _BATCH,
        "train_sampling_strategy": "sequential",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        **checkpointing_arguments(False),
        "disable_tqdm": True,
    }


def _portions(length: int) -> Iterator[range]:
    """The row numbers of one batch after the other."""
    for start in range(0, length, _BATCH):
        yield range(start, min(start + _BATCH, length))


def _unpadded(batch: Mapping[str, object], lengths: Sequence[int]) -> Iterator[LoadedRow]:
    """Rows of a batch without attention mask, whose lengths are known."""
    for row, length in zip(from_batch(batch), lengths, strict=True):
        beyond = row.places[row.places >= length]
        kept = max([length, *(beyond + 1).tolist()])  # padding with a label stays, and so shows as a difference
        yield LoadedRow(row.ids_T[:kept], row.places, row.tokens)
