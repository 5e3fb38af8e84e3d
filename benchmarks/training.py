"""A training step beside that of TRL's ``SFTTrainer``: time and peak memory on the same rows, from the same weights.

    python benchmarks/training.py [--quick] [--model large-vocabulary|pocket|FOLDER] [--left-out 0,25,50,75]

Both run under the same arguments of TRL, for LoRA and for all weights, padded and packed, with shares of the response
tokens left out at random. ``large-vocabulary`` is a random Llama whose LM head is most of it, as in small models of
today. A table line's two runs are processes of their own, one after the other; time is
the median step but for the first, memory the peak above what the process held before the first step. ``--clock cpu``
takes processor time, which other work on the machine disturbs less (with OMP_NUM_THREADS=1).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from machine import describe_run

METHODS = ("lora", "full")
LAYOUTS = ("padded", "packed")


@dataclass(frozen=True)
class Case:
    """One process: who trains what, and how."""

    who: str
    model: str
    method: str
    layout: str
    left_out: int
    steps: int
    batch: int
    clock: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="large-vocabulary")
    parser.add_argument("--left-out", default="0,25,50,75", help="per cent of the response tokens")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8, help="rows in one step and one forward pass")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--quick", action="store_true", help="two steps, two shares, two kinds of run")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measured(Case(**json.loads(arguments.case)))))
        return
    shares = tuple(int(text) for text in arguments.left_out.split(","))
    steps, wanted = arguments.steps, [(method, layout) for method in METHODS for layout in LAYOUTS]
    if arguments.quick:
        steps, shares, wanted = 3, shares[:: len(shares) - 1 or 1], [("lora", "packed"), ("full", "padded")]
    print(describe_run())
    print(f"{arguments.model}, batches of {arguments.batch} rows, {arguments.clock} time of the median step")
    print(f"{'':22}{'s a step':>18}{'':8}{'peak MiB above weights':>26}")
    print(f"{'method, layout':<15}{'left out':>9}{'TRL':>8}{'ours':>8}{'ratio':>7}{'TRL':>12}{'ours':>9}{'ratio':>7}")
    for method, layout in wanted:
        for share in shares:
            one, other = (
                in_a_process(Case(who, arguments.model, method, layout, share, steps, arguments.batch, arguments.clock))
                for who in ("trl", "ours")
            )
            time_ratio, memory_ratio = other[0] / one[0], other[1] / one[1]
            print(
                f"{method + ', ' + layout:<15}{share:>7} %{one[0]:>9.3f}{other[0]:>8.3f}{time_ratio:>7.2f}"
                f"{one[1]:>12,.0f}{other[1]:>9,.0f}{memory_ratio:>7.2f}",
                flush=True,
            )


def in_a_process(case: Case) -> tuple[float, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--case", json.dumps(asdict(case))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def measured(case: Case) -> tuple[float, float]:
    """Seconds of the median step, and the peak in MiB."""
    from scoring_memory import peak_mib, reset_peak, resident_mib
    from transformers import TrainerCallback
    from transformers.utils import logging

    logging.set_verbosity_error()
    from tokensieve.config import MachineSettings, TrainSettings
    from tokensieve.training.dataset import write_training_set
    from tokensieve.training.trainer import make_trainer

    clock = time.perf_counter if case.clock == "wall" else time.process_time

    class Clock(TrainerCallback):
        at: list[float] = []  # noqa: RUF012

        def on_step_end(self, *_: object, **__: object) -> None:
            self.at.append(clock())

    settings = TrainSettings(
        method=case.method,
        batch_size=case.batch,
        epochs=1,
        warmup_steps=0,
        machine=MachineSettings(packing=case.layout == "packed", checkpoint_minutes=1e6),
    )
    loaded = load(case.model, case.method)
    with tempfile.TemporaryDirectory() as folder:
        data = write_training_set(
            rows_of(loaded, case.steps * case.batch, case.left_out / 100), Path(folder) / "rows.arrow"
        )
        if case.who == "ours":
            trainer = make_trainer(loaded, data, settings, Path(folder), None)
        else:
            trainer = sft_trainer(loaded, data, settings, Path(folder))
        times = Clock()
        times.at = []
        trainer.add_callback(times)
        reset_peak()
        before = resident_mib()
        trainer.train()
        peak = peak_mib() - before
    return statistics.median(np.diff(times.at)), peak


def sft_trainer(loaded, data, settings, work):
    """TRL's trainer as its users set it up."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTTrainer

    from tokensieve.training.arguments import arguments_of

    lora = settings.lora
    adapter = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    tokenizer = loaded.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    trainer = SFTTrainer(
        model=loaded.model.requires_grad_(settings.method == "full"),
        args=arguments_of(loaded, data, settings, work),
        train_dataset=Dataset.from_file(str(data.path), in_memory=False),
        processing_class=tokenizer,
        peft_config=adapter if settings.method == "lora" else None,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def rows_of(loaded, count: int, left_out: float):
    """Rows of 64 to 256 random tokens; the last two thirds are a response."""
    from tokensieve.data.dataset import in_memory
    from tokensieve.data.manifest import Manifest
    from tokensieve.types import Scored, Selected, Tokens

    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        length = int(rng.integers(64, 256))
        ids_T = rng.integers(8, loaded.model.config.vocab_size - 8, length).astype(np.int32)
        in_response_T = np.arange(length) >= length // 3
        train_T = in_response_T & (rng.random(length) >= left_out)
        train_T[-1] = True
        tokens = Tokens(str(index), ids_T, in_response_T, np.arange(length) == length - 1)
        made.append(Selected(Scored(tokens, {}), train_T))
    return in_memory(made, Manifest(stage="selected"))


def load(name: str, method: str):
    from tokensieve.config import ModelSettings
    from tokensieve.models import load_model

    if name != "large-vocabulary":
        return load_model(ModelSettings(model=name, dtype="float32" if method == "full" else "auto"))
    return random_model()


def random_model():
    """A Llama with random weights: 49,152 entries, 4 layers of width 256; 16 M parameters, 12.6 M of them the head."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from tokensieve.models import from_memory

    size = 49_152
    words = WordLevel({f"word{number}": number for number in range(size)}, unk_token="word0")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), eos_token="word1", pad_token="word2")
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    if torch.cuda.is_available():
        model = model.to("cuda")
    return from_memory(model, tokenizer, name="large-vocabulary")


if __name__ == "__main__":
    main()
