"""NeMo Automodel: labels already shifted, since its loss compares output t with label t.

Read in ``nemo_automodel/components/datasets/llm/formatting_utils.py``, ``package_tokenized_example``: labels moved one
to the left before the collator, no shift in the loss.
"""

import importlib
import json
from collections.abc import Iterator

from tokensieve.exports.data_paths import LoadedRow, Source, collated, data_of, read_shifted_labels
from tokensieve.exports.trainer_format import CORE_COLUMNS, Facts, Trainer, shifted_row

_CONFIG = """\
# Train on this folder with NeMo Automodel: automodel automodel.yaml [--nproc-per-node N]
recipe: TrainFinetuneRecipeForNextTokenPrediction
seed: 42

step_scheduler:
  global_batch_size: 4
  local_batch_size: 1
  num_epochs: 3
  ckpt_every_steps: 1000

dist_env:
  backend: nccl
  timeout_minutes: 10

distributed:
  strategy: fsdp2
  tp_size: 1
  cp_size: 1

model:
  _target_: nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained
  pretrained_model_name_or_path: {model}

peft:
  _target_: nemo_automodel.components._peft.lora.PeftConfig
  match_all_linear: true
  exclude_modules: ["*lm_head*"]
  dim: 16
  alpha: 32
  dropout: 0.05

checkpoint:
  enabled: true
  checkpoint_dir: {output}
  model_save_format: safetensors
  save_consolidated: false

dataset:
  _target_: datasets.load_dataset
  path: {kind}
  data_files: {path}
  split: train

packed_sequence:
  packed_sequence_size: 0   # longest row: {longest} tokens

dataloader:
  _target_: torchdata.stateful_dataloader.StatefulDataLoader
  collate_fn: nemo_automodel.components.datasets.utils.default_collater
  shuffle: true

loss_fn:
  _target_: nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy

optimizer:
  _target_: torch.optim.AdamW
  lr: 2.0e-5
  weight_decay: 0.0

lr_scheduler:
  lr_decay_style: cosine
  lr_warmup_steps: 20
"""


def _files(facts: Facts) -> dict[str, str]:
    kind = "json" if facts.format == "jsonl" else "parquet"
    config = _CONFIG.format(
        model=json.dumps(facts.model, ensure_ascii=False),
        path=facts.data,
        kind=kind,
        longest=facts.longest,
        output=json.dumps(facts.output, ensure_ascii=False),
    )
    return {"automodel.yaml": config}


def _through_automodel(source: Source) -> Iterator[LoadedRow]:
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
    yield from collated(rows, config.dataloader.collate_fn, shifted=True)


AUTOMODEL = Trainer(
    title="NeMo Automodel",
    convention=(
        "`input_ids`, `attention_mask`, `labels`; labels are SHIFTED: label t is token t+1, so a row is one token"
        " shorter than its conversation; -100 is not trained, nothing is padded"
    ),
    row=shifted_row,
    columns=CORE_COLUMNS,
    read=read_shifted_labels,
    package="nemo_automodel",
    load=_through_automodel,
    formats=("parquet", "jsonl"),
    weights=False,
    files=_files,
    command="automodel automodel.yaml",
    cautions=("Do not hand this folder to a trainer that shifts labels itself (TRL, Axolotl, LLaMA-Factory, litgpt).",),
    version="nemo-automodel 0.7",
)
