"""NeMo Automodel: labels already shifted, since its loss compares output t with label t."""

from tokensieve.data.export._convention import CORE_SCHEMA, Convention, Facts
from tokensieve.data.export._row import shifted_row

_CONFIG = """\
# The part of an Automodel recipe that is about data; put it in place of the recipe's own.
model:
  _target_: nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained
  pretrained_model_name_or_path: {model}

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

loss_fn:
  _target_: nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy
"""


def _files(facts: Facts) -> dict[str, str]:
    kind = "json" if facts.format == "jsonl" else "parquet"
    config = _CONFIG.format(model=facts.model, path=facts.data, kind=kind, longest=facts.longest)
    return {"automodel.yaml": config}


AUTOMODEL = Convention(
    title="NeMo Automodel",
    convention=(
        "`input_ids`, `attention_mask`, `labels`; labels are SHIFTED: label t is token t+1, so a row is one token"
        " shorter than its conversation; -100 is not trained, nothing is padded"
    ),
    row=shifted_row,
    schema=CORE_SCHEMA,
    formats=("parquet", "jsonl"),
    weights=False,
    files=_files,
    command="automodel finetune llm -c automodel.yaml",
    cautions=("Do not hand this folder to a trainer that shifts labels itself (TRL, Axolotl, LLaMA-Factory, litgpt).",),
    version="nemo-automodel 0.7",
)
