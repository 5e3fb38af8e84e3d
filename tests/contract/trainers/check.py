"""Exported folders through a trainer's own code; run it inside that trainer's environment.

    python tests/contract/trainers/check.py litgpt
    python tests/contract/trainers/check.py litgpt --run

The first loads exports through the trainer's data path: exit code 0 where every (row, position, token) that the
trainer trains is one that was selected, 1 where not. The second does what the folder's README says, with a model of
a few thousand weights: exit code 0 where the trainer ends well and leaves an adapter or model behind.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.export_rows import selected_rows

from tokensieve.data.manifest import ModelIdentity
from tokensieve.exports import TRAINERS, export
from tokensieve.verify import verify_export

LIMIT_S = 540
ON_A_CPU = {
    "axolotl": "axolotl train axolotl.yaml --no-lora-qkv-kernel --no-lora-o-kernel --no-lora-mlp-kernel",
    "automodel": "torchrun --nproc-per-node 1 -m nemo_automodel.cli.app automodel.yaml --dist_env.backend=gloo",
    "ms-swift": "sh train.sh --model_type llama",
}
"""The README's command where there is no GPU; ms-swift knows a model's kind by its name, which a test's model lacks."""


def verified(trainer: str) -> bool:
    """Export random rows in each format the trainer loads, soft weights too where it takes them."""
    fine = True
    for kind in TRAINERS[trainer].formats:
        for soft in (False, True) if TRAINERS[trainer].weights else (False,):
            rows = selected_rows(20, soft=soft)
            with tempfile.TemporaryDirectory() as scratch:
                folder = export(rows, Path(scratch) / "out", to=trainer, format=kind)
                result = verify_export(folder, trainer, selected=rows, how="trainer")
            sys.stdout.write(f"{trainer}, {kind}{', weights' if soft else ''}: {result.describe()}\n")
            fine &= result.ok
    return fine


def ran(trainer: str) -> bool:
    """Type the command of the folder's README there, as a user would, and look whether an adapter came of it."""
    with tempfile.TemporaryDirectory() as scratch:
        model = _tiny_model(Path(scratch) / "tiny-model", trainer)
        given = selected_rows(8).manifest.model
        assert given is not None
        identity = ModelIdentity(name=str(model), **given.model_dump(include={"tokenizer_digest", "template_digest"}))
        folder = export(selected_rows(8), Path(scratch) / "out", to=trainer, model=identity)
        if trainer == "litgpt":
            model.rename(folder / "checkpoint")
        command = ON_A_CPU.get(trainer, TRAINERS[trainer].command)
        bin_folder = str(Path(sys.executable).parent)
        offline = {
            "HF_HUB_OFFLINE": "1",
            "WANDB_DISABLED": "true",
            "AXOLOTL_DO_NOT_TRACK": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "CHECKPOINT": "checkpoint",
        }
        environment = {**os.environ, **offline, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        left = sorted(
            {path.name for path in Path(scratch).glob("out-adapter/**/*") if path.suffix in (".safetensors", ".lora")}
        )
        fine = done.returncode == 0 and bool(left)
        said = f"ends well and leaves {', '.join(left)}" if fine else f"exit code {done.returncode}, leaves {left}"
        sys.stdout.write(f"{trainer}, `{command}`: {said}\n")
        if not fine:
            sys.stdout.write(done.stdout[-3000:] + done.stderr[-3000:])
    return fine


def _tiny_model(folder: Path, trainer: str) -> Path:
    """A random Llama with the tokenizer of a test, in Hugging Face's form or in LitGPT's."""
    from tests.chat_tokenizers import tokenizer

    tokenizer("chatml").save_pretrained(folder)
    sizes = {"vocab": 512, "hidden": 32, "inner": 64, "layers": 2, "heads": 4}
    if trainer == "litgpt":
        import torch

        litgpt, utils = (importlib.import_module(name) for name in ("litgpt", "litgpt.utils"))
        config = litgpt.Config(
            name="tiny",
            block_size=256,
            padded_vocab_size=sizes["vocab"],
            n_embd=sizes["hidden"],
            intermediate_size=sizes["inner"],
            n_layer=sizes["layers"],
            n_head=sizes["heads"],
            mlp_class_name="LLaMAMLP",
            norm_class_name="RMSNorm",
            bias=False,
            rotary_percentage=1.0,
        )
        torch.save(litgpt.GPT(config).state_dict(), folder / "lit_model.pth")
        utils.save_config(config, folder)
        return folder
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=sizes["vocab"],
        hidden_size=sizes["hidden"],
        intermediate_size=sizes["inner"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["heads"],
        max_position_embeddings=256,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    work = ran if "--run" in sys.argv else verified
    sys.exit(0 if work(sys.argv[1]) else 1)
