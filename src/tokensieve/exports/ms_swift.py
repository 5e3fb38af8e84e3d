"""ms-swift: one assistant message a row, whose content is token ids and a loss factor for each.

Read in ``swift/loss_scale/base.py``, ``_inner_call`` and ``swift/template/base.py``, ``_encode_context_list``: labels
are the tokens whose ``loss_scale`` is above 0.
"""

import importlib
import importlib.util
import shlex
from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import numpy as np

from tokensieve.errors import InputError
from tokensieve.exports.data_paths import LoadedRow, Source, data_of, from_labels, stand_ins
from tokensieve.exports.files import TrainerRow
from tokensieve.exports.trainer_format import Facts, Trainer, weights_T
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


def _through_ms_swift(source: Source) -> Iterator[LoadedRow]:
    """The rows as ``swift sft --external_plugins template.py --template tokensieve`` encodes them."""
    spec = importlib.util.spec_from_file_location("tokensieve_template", source.folder / "template.py")
    if spec is None or spec.loader is None:
        return
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    swift = importlib.import_module("swift.template")
    rows, _ = importlib.import_module("swift.dataset").load_dataset(str(data_of(source)), load_from_cache_file=False)
    _, processor = stand_ins(None)
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


def _read(record: Mapping[str, object]) -> LoadedRow:
    """A record of one assistant message of token ids, each with the factor of its loss; 0 is not trained."""
    match record:
        case {"messages": [{"content": {"token_ids": ids, "loss_scale": scale}}]}:
            ids_T, scale_T = np.asarray(ids, dtype=np.int32), np.asarray(scale, dtype=np.float32)
            places = np.flatnonzero(scale_T[1:] > 0).astype(np.int32) + 1
            return LoadedRow(ids_T, places, ids_T[places], scale_T[places])
    raise InputError("expected one message with token_ids and loss_scale", where="messages")


MS_SWIFT = Trainer(
    title="ms-swift",
    convention=(
        "`messages` with one assistant turn, whose content is `token_ids` and `loss_scale`, one factor a token:"
        " 0 is not trained; ms-swift shifts by itself"
    ),
    row=_row,
    columns=None,
    read=_read,
    package="swift",
    load=_through_ms_swift,
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
