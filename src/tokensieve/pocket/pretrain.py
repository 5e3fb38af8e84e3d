"""Make pocket anew from seeds: ``python -m tokensieve.pocket.pretrain --out DIR`` (two CPU cores, under 90 minutes)."""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tokensieve.pocket._batches import Batch, chunk
from tokensieve.pocket._tokenizer import VOCABULARY, train_tokenizer
from tokensieve.tasks.pocket.corpus import dialogues


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run with a learning rate of its own, which falls to 0, linearly, at its end."""

    tokens: int
    """Tokens to train on, padding not counted."""
    rate: float
    """Learning rate of the matrices (Muon, matched to the size of AdamW's updates)."""
    other_rate: float
    """Learning rate of the embedding and the norms (AdamW)."""
    decay: float
    """Share of the stage's tokens over which the rate falls; constant before."""
    batch: int
    """Tokens a step, padding counted."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the run is made of; the model card repeats it."""

    seed: int = 1
    stages: tuple[Stage, ...] = (Stage(tokens=11_500_000, rate=3e-3, other_rate=3e-3, decay=0.7, batch=6144),)
    """One stage after another. A run at a rate of 1.5e-2 could hardly copy from its prompt."""
    warm_up: int = 60
    """Steps until the learning rate is full."""
    hidden: int = 256
    layers: int = 5
    heads: int = 4
    inner: int = 576

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return sum(stage.tokens for stage in self.stages)


class Trainer:
    """Float32 weights and their optimizers beside a bfloat16 copy that computes: twice as fast on a CPU."""

    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.model = LlamaForCausalLM(_config(settings)).to(torch.bfloat16)
        torch.manual_seed(settings.seed)
        self.full = LlamaForCausalLM(_config(settings))
        # Positions turn by float32 angles in both, or the exported model would not be the one that was trained.
        self.model.model.rotary_emb = self.full.model.rotary_emb
        matrices = [p for name, p in self.full.named_parameters() if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in self.full.named_parameters() if p.ndim != 2 or "embed" in name]
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, lr=0.0, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0),
        )
        self.seen = self.steps = self.chunks = 0

    def step(self, batch: Batch) -> float:
        """One update; returns the weighted mean nll (nats) of the batch."""
        ids, weights = (torch.from_numpy(array) for array in batch)
        logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        weight = weights[:, 1:].flatten()
        loss = (nll * weight).sum() / weight.sum()
        torch.autograd.backward(loss)
        self._update()
        self.seen += int((weights > 0).sum())
        self.steps += 1
        return loss.item()

    def _update(self) -> None:
        pairs = list(zip(self.full.parameters(), self.model.parameters(), strict=True))
        for full, fast in pairs:
            full.grad = fast.grad.float() if fast.grad is not None else None
            fast.grad = None
        torch.nn.utils.clip_grad_norm_(self.full.parameters(), 1.0)
        factor, stage = self.factor(), self.stage()[0]
        for optimizer, rate in zip(self.optimizers, (stage.rate, stage.other_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
        with torch.no_grad():
            for full, fast in pairs:
                fast.copy_(full)

    def stage(self) -> tuple[Stage, int]:
        """The stage the run is in, and the tokens that the stages up to its end hold."""
        end = 0
        for stage in self.settings.stages:
            end += stage.tokens
            if self.seen < end:
                break
        return stage, end

    def factor(self) -> float:
        """Share of the stage's full learning rate at this point of the run."""
        stage, end = self.stage()
        left = max(0.0, (end - self.seen) / stage.tokens)
        return min(1.0, (self.steps + 1) / self.settings.warm_up, left / stage.decay)

    def save(self, path: Path) -> None:
        """Everything that resuming needs; written beside and moved, so that a kill leaves the old one whole."""
        state = {
            "full": self.full.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "counts": (self.seen, self.steps, self.chunks),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(path, weights_only=True)
        self.full.load_state_dict(state["full"])
        self.model.load_state_dict(state["full"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.seen, self.steps, self.chunks = state["counts"]


def _config(settings: Settings) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=settings.hidden,
        intermediate_size=settings.inner,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def export(trainer: Trainer, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """The model folder: float16 weights that load as float32, tokenizer, template, greedy generation settings."""
    state = {name: value.to(torch.float16) for name, value in trainer.full.state_dict().items()}
    model = LlamaForCausalLM(_config(trainer.settings)).to(torch.float16)
    model.load_state_dict(state)
    model.generation_config = GenerationConfig(
        do_sample=False, bos_token_id=1, eos_token_id=2, pad_token_id=0, max_new_tokens=256
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    # Stored as float16 for its size; computed in float32 unless asked otherwise, as float16 is slow on a CPU.
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n")


def run(settings: Settings, out: Path, log_every: int = 20) -> None:
    """Train to the end of the settings' tokens, with a state saved after every chunk, and export the model."""
    out.mkdir(parents=True, exist_ok=True)
    contents = (
        str(m["content"]) for messages in islice(dialogues("tokenizer", settings.seed), 20_000) for m in messages
    )
    tokenizer = train_tokenizer(contents)
    trainer = Trainer(settings)
    if (out / "state.pt").exists():
        trainer.resume(out / "state.pt")
    parameters = sum(p.numel() for p in trainer.full.parameters())
    _say(f"{parameters / 1e6:.2f} M parameters, {json.dumps(asdict(settings))}")
    started, before, losses = time.monotonic(), trainer.seen, []
    while trainer.seen < settings.tokens:
        for batch in chunk(tokenizer, settings.seed, trainer.chunks, trainer.stage()[0].batch):
            losses.append(trainer.step(batch))
            if trainer.steps % log_every == 0:
                rate = (trainer.seen - before) / (time.monotonic() - started)
                _say(
                    f"step {trainer.steps}  {trainer.seen / 1e6:.2f} M tokens  nll {sum(losses) / len(losses):.4f}  "
                    f"rate x{trainer.factor():.2f}  {rate:.0f} tokens/s  "
                    f"{(settings.tokens - trainer.seen) / rate / 60:.0f} min left"
                )
                losses = []
            if trainer.seen >= settings.tokens:
                break
        else:
            trainer.chunks += 1
            trainer.save(out / "state.pt")
    export(trainer, tokenizer, out / "model")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is a program


def main(arguments: list[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the state and, at the end, of the model")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    run(Settings(), given.out)


if __name__ == "__main__":
    main(sys.argv[1:])
