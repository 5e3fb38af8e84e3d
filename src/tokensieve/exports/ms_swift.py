"""ms-swift: one assistant message a row, whose content is token ids and a loss factor for each."""

import shlex

from tokensieve.exports.data_paths import through_ms_swift
from tokensieve.exports.loaded_row import read_loss_scales
from tokensieve.exports.trainer_format import Facts, Trainer
from tokensieve.exports.trainer_row import TrainerRow, weights_T
from tokensieve.types import Selected

_TEMPLATE = '''"""A template of ms-swift that adds nothing to the tokens: no BOS, no header, no end-of-turn."""

from swift.template import TemplateMeta, register_template

register_template(
    TemplateMeta("tokensieve", prefix=[], prompt=["{{{{QUERY}}}}"], chat_sep=None, suffix=[]), exist_ok=True
)
'''

_SCRIPT = """\
#!/bin/sh
# Train on this folder with ms-swift: sh train.sh [further options of swift sft]
swift sft \\
  --model {model} \\
  --external_plugins template.py \\
  --template tokensieve \\
  --dataset {path} \\
  --split_dataset_ratio 0 \\
  --load_from_cache_file false \\
  --is_binary_loss_scale {binary} \\
  --max_length {longest} \\
  --truncation_strategy delete \\
  --tuner_type lora --lora_rank 16 --lora_alpha 32 --lora_dropout 0.05 --target_modules all-linear \\
  --per_device_train_batch_size 1 --gradient_accumulation_steps 4 \\
  --learning_rate 2e-5 --num_train_epochs 3 \\
  --output_dir {output} "$@"
"""


def _row(selected: Selected) -> TrainerRow:
    content = {"token_ids": selected.tokens.ids_T.tolist(), "loss_scale": weights_T(selected).tolist()}
    return {"messages": [{"role": "assistant", "content": content}]}


def _files(facts: Facts) -> dict[str, str]:
    script = _SCRIPT.format(
        model=shlex.quote(facts.model),
        path=facts.data,
        longest=facts.longest,
        binary="false",
        output=shlex.quote(facts.output),
    )
    return {"template.py": _TEMPLATE.format(), "train.sh": script}


MS_SWIFT = Trainer(
    title="ms-swift",
    convention=(
        "`messages` with one assistant turn, whose content is `token_ids` and `loss_scale`, one factor a token:"
        " 0 is not trained; ms-swift shifts by itself"
    ),
    row=_row,
    columns=None,
    read=read_loss_scales,
    package="swift",
    load=through_ms_swift,
    formats=("jsonl",),
    weights=True,
    files=_files,
    command="sh train.sh",
    cautions=(
        "Keep `--template tokensieve`: `--use_chat_template false` alone puts a second BOS in front where the tokenizer"
        " adds one, and appends and trains one more end-of-turn token.",
    ),
    version="ms-swift 4.6",
)
