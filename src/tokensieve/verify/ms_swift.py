"""ms-swift's own data path: its data set loader, the folder's template, its encoder."""

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tokensieve.verify.loaded import LoadedRow, from_labels


def load(data: Path, template: Path, processor: object) -> Iterator[LoadedRow]:
    """The rows as ``swift sft --external_plugins template.py --template tokensieve`` encodes them.

    Args:
        data: the JSONL file.
        template: the plugin in the export's folder, which registers the template.
        processor: a tokenizer; only its end-of-text id is looked at.
    """
    spec = importlib.util.spec_from_file_location("tokensieve_template", template)
    if spec is None or spec.loader is None:
        return
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    swift = importlib.import_module("swift.template")
    rows, _ = importlib.import_module("swift.dataset").load_dataset(str(data), load_from_cache_file=False)
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
