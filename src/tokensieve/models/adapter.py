"""Put a PEFT adapter on a model, whole, and only on the model that it was made for."""

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokensieve.data.manifest import MANIFEST_NAME, read_manifest
from tokensieve.errors import InputError, first_line, note
from tokensieve.models.fetch import Source
from tokensieve.models.weights import check_finite

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

ALPHA_METADATA: Final = "tokensieve_alpha"
"""Key of a scaled adapter's safetensors metadata: the factor of its update; one of 0 is the base on purpose."""

_PROBE_LENGTH: Final = 16

_SHARED: Final = ("vblora_vector_bank", "prompt_encoder", ".tinylora_v.", ".unilora_theta_d.")
"""Parameters that some of PEFT's methods share between layers and save once or not at all."""

_MISMATCH: Final = re.compile(r"size mismatch for (\S+): .*?torch\.Size\(\[(.*?)\]\).*?torch\.Size\(\[(.*?)\]\)", re.S)


def put_on(model: "PreTrainedModel", source: Source, name: str, *, base: str, weights_digest: str) -> "PeftModel":
    """Put an adapter on a model.

    Args:
        model: the model; it is changed.
        source: the adapter's files.
        name: the adapter's name, for errors.
        base: the model's name.
        weights_digest: digest of the model's weights, as manifests hold it.

    Raises:
        InputError: no adapter, one that was trained on another model, one whose weights are not those that its
            configuration asks for on this model, or one that changes nothing.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    if not (source.folder / "adapter_config.json").is_file():
        raise InputError("there is no adapter_config.json, so this is no PEFT adapter", where=name)
    if not any(source.folder.glob("*.safetensors")):
        raise InputError("there are no adapter weights in safetensors files", where=name, fix="check --adapter")
    _check_trained_on(source.folder, name, base, weights_digest)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # an error below
            adapted = PeftModel.from_pretrained(model, str(source.folder))
        # PEFT keeps the report of the first load to itself; the second only copies the weights again.
        report = adapted.load_adapter(str(source.folder), adapted.active_adapter)
    except KeyError as error:
        raise InputError(
            f"the adapter's files lack the weight {error}", where=name, fix="check that its files are complete"
        ) from error
    except SafetensorError as error:
        raise InputError(
            f"the adapter's safetensors file is damaged or cut short: {first_line(error)}",
            where=name,
            fix="fetch or save it again",
        ) from error
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise _misfit(error, name) from error
    _check_keys(report.missing_keys, report.unexpected_keys, name)
    check_finite(adapted, where=name, only=adapted.active_adapter)
    if not _scaled_to_base(source.folder):
        check_adapter_acts(adapted, where=name)
    return adapted


def _scaled_to_base(folder: Path) -> bool:
    """True for an adapter whose update ``repair`` has scaled to 0."""
    from safetensors import safe_open

    def alpha(path: Path) -> str | None:
        with safe_open(str(path), framework="pt") as file:
            return (file.metadata() or {}).get(ALPHA_METADATA)

    return all(alpha(path) == "0" for path in folder.glob("*.safetensors"))


def _check_trained_on(folder: Path, name: str, base: str, weights_digest: str) -> None:
    """Compare the model that an adapter was trained on with the one that it is put on.

    Our own manifest holds the digest of the base's weights, which is certain. PEFT's configuration holds a name only:
    two names may mean one model, so a difference is noted.

    Raises:
        InputError: the digest is another one.
    """
    from peft import PeftConfig

    if (folder / MANIFEST_NAME).is_file():
        made_on = read_manifest(folder).model
        if made_on is not None and made_on.weights_digest:
            if made_on.weights_digest != weights_digest:
                raise InputError(
                    f"the adapter was trained on other weights, those of {made_on.name} "
                    f"({made_on.weights_digest[:16]}), than those of {base} ({weights_digest[:16]})",
                    where=name,
                    fix="give --model the one that it was trained on; to put it on another on purpose, copy "
                    "adapter_config.json and the safetensors file into a folder without the manifest",
                )
            return
    try:
        named = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"adapter_config.json cannot be read: {first_line(error)}", where=name) from error
    if named and _short(str(named)) != _short(base):
        note(f"{name}: adapter_config.json says that it was trained on {named}; it is put on {base}")


def _short(model: str) -> str:
    """Last part of a model's name or path, by which a local copy of a Hub model is mostly called too."""
    return model.rstrip("/").rpartition("/")[2].lower()


def _misfit(error: Exception, name: str) -> InputError:
    """Our error for adapter weights that PEFT cannot put on the model."""
    found = _MISMATCH.search(str(error))
    if found is None:
        return InputError(f"the adapter does not fit the model: {first_line(error)}", where=name)
    weight, theirs, ours = found.groups()
    if "embed" in weight or "lm_head" in weight:
        return InputError(
            f"the adapter was trained after the vocabulary had been resized: it holds {weight} for "
            f"{theirs.split(',')[0]} ids, the model has {ours.split(',')[0]}",
            where=name,
            fix="in Python: base.resize_token_embeddings(N), then PeftModel.from_pretrained(base, ADAPTER) and "
            "merge_and_unload(); save that and the adapter's tokenizer into one folder, and give it with --model",
        )
    return InputError(
        f"the adapter does not fit the model: {weight} has the shape [{theirs}] in the adapter, [{ours}] on the model",
        where=name,
        fix="give --model the one that the adapter was trained on",
    )


def _check_keys(missing: list[str], unexpected: list[str], name: str) -> None:
    """Check that the adapter's files hold exactly the weights that its configuration puts on this model.

    Raises:
        InputError: names some of those that are missing, or that no layer takes.
    """
    missing = [key for key in missing if not any(word in key for word in _SHARED)]
    if not missing and not unexpected:
        return
    parts = []
    if missing:
        parts.append(f"lack {len(missing)} weights that the model's layers take ({', '.join(missing[:2])})")
    if unexpected:
        parts.append(f"hold {len(unexpected)} that no layer takes ({', '.join(unexpected[:2])})")
    raise InputError(
        f"the adapter would be applied in part: its files {' and '.join(parts)}",
        where=name,
        fix="give --model the one that it was trained on; else the files are incomplete, or adapter_config.json "
        "(target_modules) is not theirs",
    )


def probe_ids(model: "PreTrainedModel", length: int = _PROBE_LENGTH) -> "torch.Tensor":
    """Token ids of shape ``[1, length]`` that any model takes: spread evenly over its vocabulary."""
    import torch

    rows = int(model.get_input_embeddings().weight.shape[0])
    return (torch.arange(length, device=model.device) * max(1, rows // (length + 1)) + 1).remainder(rows)[None]


def check_adapter_acts(model: "PeftModel", *, where: str) -> None:
    """Check that the adapter changes the logits of a probe; some backends ignore an adapter without a word.

    Raises:
        InputError: the logits are the same with and without it.
    """
    import torch

    ids = probe_ids(model.get_base_model())
    with torch.inference_mode():
        with_adapter = model(input_ids=ids, use_cache=False).logits
        with model.disable_adapter():
            without = model(input_ids=ids, use_cache=False).logits
    if torch.equal(with_adapter, without):
        raise InputError(
            "the adapter does not change the model's output: it was never trained, or names none of its layers",
            where=where,
            fix="check that --adapter belongs to --model, or leave it out",
        )
