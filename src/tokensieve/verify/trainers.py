"""The trainers' own data paths, each imported only when asked for."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from tokensieve.exports import DATA, Format
from tokensieve.models.library_names import checkpointing_arguments
from tokensieve.verify.loaded import LoadedRow, from_batch

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Loader: TypeAlias = "Callable[[Source], Iterator[LoadedRow]]"

_BATCH: Final = 3
"""Rows in a batch: more than one, so that padding is part of what is checked."""


@dataclass(frozen=True, slots=True)
class Source:
    """An exported folder to be loaded.

    Attributes:
        folder: the export.
        format: how its data are written.
        scratch: an empty folder for a trainer's caches and output.
    """

    folder: Path
    format: Format
    scratch: Path

    @property
    def data(self) -> Path:
        """The file, or the folder, that holds the rows."""
        return self.folder / DATA[self.format]

    def rows(self) -> "datasets.Dataset":
        """The rows as the datasets library loads them, which is how most trainers do."""
        import datasets

        if self.format == "save_to_disk":
            return datasets.load_from_disk(str(self.data))["train"]
        kind = "json" if self.format == "jsonl" else "parquet"
        cache = str(self.scratch / "cache")
        return datasets.load_dataset(kind, data_files=str(self.data), split="train", cache_dir=cache)


def is_installed(trainer: str) -> bool:
    """Whether the trainer's package is there, without importing it."""
    return importlib.util.find_spec(PACKAGES[trainer]) is not None


def _through_trl(source: Source) -> Iterator[LoadedRow]:
    """``SFTTrainer`` with a model of a few hundred weights, and the batches of its own data loader."""
    from trl import SFTConfig, SFTTrainer

    rows = source.rows()
    model, tokenizer = _stand_ins(rows)
    args = SFTConfig(**_arguments(source), max_length=None, packing=False)
    trainer = SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    for batch in trainer.get_train_dataloader():
        yield from from_batch(batch)


def _through_hf(source: Source) -> Iterator[LoadedRow]:
    """The plain ``Trainer`` with the collator that the folder's README names."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    rows = source.rows()
    model, tokenizer = _stand_ins(rows)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**_arguments(source)),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    for batch in trainer.get_train_dataloader():
        yield from from_batch(batch)


def _through_litgpt(source: Source) -> Iterator[LoadedRow]:
    """The folder's own data module, on LitGPT's base class and collator."""
    spec = importlib.util.spec_from_file_location("tokensieve_data", source.folder / "tokensieve_data.py")
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = module.Tokensieve(path=str(source.data))
    data.connect(tokenizer=None, batch_size=_BATCH, max_seq_length=None)
    data.setup()
    collate = importlib.import_module("litgpt.data").get_sft_collate_fn()
    for portion in _portions(len(data.rows)):
        rows = [data.rows[i] for i in portion]
        yield from _unpadded(collate(rows), [len(row["input_ids"]) for row in rows])


def _through_automodel(source: Source) -> Iterator[LoadedRow]:
    """The data set and collator that Automodel's recipe makes of the folder's own configuration."""
    loader = importlib.import_module("nemo_automodel.components.config.loader")
    recipes = importlib.import_module("nemo_automodel.recipes._typed_config")
    written = loader.load_yaml_config(str(source.folder / "automodel.yaml"))
    written.dataset.data_files = str(source.data)
    written.dataset.cache_dir = str(source.scratch / "cache")
    config = recipes.RecipeConfig(written)
    # Each is refused here where its section has a key that Automodel does not know.
    _ = config.step_scheduler, config.optimizer, config.lr_scheduler, config.loss_fn, config.checkpoint
    rows = config.dataloader.dataset_config.build(tokenizer=None)
    for portion in _portions(len(rows)):
        yield from from_batch(config.dataloader.collate_fn([dict(rows[i]) for i in portion]), shifted=True)


def _through_llamafactory(source: Source) -> Iterator[LoadedRow]:
    """``get_dataset`` with ``tokenized_path``, and LLaMA-Factory's own collator."""
    data = importlib.import_module("llamafactory.data")
    hparams = importlib.import_module("llamafactory.hparams")
    _, tokenizer = _stand_ins(source.rows())
    arguments = hparams.DataArguments(tokenized_path=str(source.data), dataset="unused")
    training = importlib.import_module("transformers").Seq2SeqTrainingArguments(
        output_dir=str(source.scratch), use_cpu=True
    )
    module = data.get_dataset(None, None, arguments, training, stage="sft", tokenizer=tokenizer)
    collate = importlib.import_module("transformers").DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
    rows = module["train_dataset"]
    for portion in _portions(len(rows)):
        yield from from_batch(collate([dict(rows[i]) for i in portion]))


def _through_axolotl(source: Source) -> Iterator[LoadedRow]:
    """``prepare_datasets`` under the folder's own configuration, as ``axolotl train`` calls it, and its collator."""
    import yaml

    settings = importlib.import_module("axolotl.utils.dict").DictDefault
    written = settings(yaml.safe_load((source.folder / "axolotl.yaml").read_text(encoding="utf-8")))
    written.datasets[0].path = str(source.data)
    config = importlib.import_module("axolotl.utils.config").validate_config(written)
    config.update(
        dataset_prepared_path=str(source.scratch / "prepared"),
        shuffle_merged_datasets=False,  # so that the rows come in the selection's order
        dataset_num_proc=1,
        batch_size=config.micro_batch_size * config.gradient_accumulation_steps,
    )
    _, tokenizer = _stand_ins(source.rows())
    rows, _, _, _ = importlib.import_module("axolotl.utils.data").prepare_datasets(config, tokenizer)
    collate = importlib.import_module("axolotl.utils.collators").DataCollatorForSeq2Seq(tokenizer)
    for portion in _portions(len(rows)):
        yield from from_batch(collate([dict(rows[i]) for i in portion]))


def _through_ms_swift(source: Source) -> Iterator[LoadedRow]:
    """ms-swift's data set loader and template, as ``swift sft`` puts them together."""
    from tokensieve.verify.ms_swift import load

    _, tokenizer = _stand_ins(None)
    yield from load(source.data, source.folder / "template.py", tokenizer)


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


TRAINERS: Final[Mapping[str, Loader]] = {
    "trl": _through_trl,
    "hf": _through_hf,
    "axolotl": _through_axolotl,
    "llamafactory": _through_llamafactory,
    "ms-swift": _through_ms_swift,
    "litgpt": _through_litgpt,
    "automodel": _through_automodel,
}
"""Each trainer's own data path; ``hf`` is the plain Hugging Face Trainer on TRL's folder."""

PACKAGES: Final[Mapping[str, str]] = {
    "trl": "trl",
    "hf": "transformers",
    "axolotl": "axolotl",
    "llamafactory": "llamafactory",
    "ms-swift": "swift",
    "litgpt": "litgpt",
    "automodel": "nemo_automodel",
}
"""The package whose presence means that a trainer is installed."""
