"""Make pocket anew from seeds: ``python -m tools.pocket.pretrain --out DIR`` (two CPU cores, under 90 minutes)."""

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from tools.pocket.batches import EARLY_CHUNKS, Batch, chunk
from tools.pocket.generator.corpus import dialogues
from tools.pocket.tokenizer import VOCABULARY, train_tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the run; the model card repeats them."""

    seed: int = 1
    tokens: int = 28_000_000
    """Tokens to train on, padding not counted."""
    batch: int = 4096
    """Tokens a step, padding counted."""
    early_batch: int = 2048
    """The same at the beginning, in the chunks of the early mixture and as many after: copying from the prompt is
    learnt by steps rather than by tokens. With 6,144 tokens a step and Muon there was none of it after 3 M tokens."""
    rate: float = 2e-3
    """Learning rate of AdamW."""
    warm_up: int = 200
    """Steps until the learning rate is full."""
    decay: float = 0.7
    """Share of the tokens, the last of the run, over which the rate falls to 0, linearly."""
    hidden: int = 224
    layers: int = 6
    heads: int = 7
    inner: int = 576


class Trainer:
    """Float32 weights and their optimizer beside a bfloat16 copy that computes: twice as fast on a CPU."""

    def __init__(self, settings: Settings, *, compiled: bool = False) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.full = _fresh(settings)
        self.model = LlamaForCausalLM(_config(settings)).to(torch.bfloat16)
        self.model.load_state_dict(self.full.state_dict())
        # Positions turn by float32 angles in both, or the exported model would not be the one that was trained.
        self.model.model.rotary_emb = self.full.model.rotary_emb
        # On a CPU the backward pass of the fused attention costs more than the matrices of these short rows do.
        self.model.set_attn_implementation("eager")
        self.loss = torch.compile(self._loss, dynamic=True) if compiled else self._loss
        self.optimizer = torch.optim.AdamW(
            self.full.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.05, fused=True
        )
        self.seen = self.steps = self.chunks = 0

    def step(self, batch: Batch) -> float:
        """One update; returns the weighted mean nll (nats) of the batch."""
        ids, weights = (torch.from_numpy(array) for array in batch)
        loss = self.loss(ids, weights)
        torch.autograd.backward(loss)
        self._update()
        self.seen += int((weights > 0).sum())
        self.steps += 1
        return float(loss.detach())

    def _loss(self, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        weight = weights[:, 1:].flatten()
        return (nll * weight).sum() / weight.sum()

    def _update(self) -> None:
        pairs = list(zip(self.full.parameters(), self.model.parameters(), strict=True))
        for full, fast in pairs:
            full.grad = fast.grad.float() if fast.grad is not None else None
            fast.grad = None
        torch.nn.utils.clip_grad_norm_(self.full.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate * self.factor()
        self.optimizer.step()
        with torch.no_grad():
            for full, fast in pairs:
                fast.copy_(full)

    def factor(self) -> float:
        """Share of the full learning rate at this point of the run."""
        left = max(0.0, 1 - self.seen / self.settings.tokens)
        return min(1.0, (self.steps + 1) / self.settings.warm_up, left / self.settings.decay)

    def save(self, path: Path) -> None:
        """Everything that resuming needs; written beside and moved, so that a kill leaves the old one whole."""
        state = {
            "full": self.full.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "counts": (self.seen, self.steps, self.chunks),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(path, weights_only=True)
        self.full.load_state_dict(state["full"])
        self.model.load_state_dict(state["full"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.seen, self.steps, self.chunks = state["counts"]


def _fresh(settings: Settings) -> LlamaForCausalLM:
    """A model in which every layer begins as the identity, so that a token's own embedding reaches all of them."""
    model = LlamaForCausalLM(_config(settings))
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=settings.hidden**-0.5)
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return model


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


def run(settings: Settings, out: Path, log_every: int = 50) -> None:
    """Train to the end of the settings' tokens, with a state saved after every chunk, and export the model."""
    out.mkdir(parents=True, exist_ok=True)
    contents = (
        str(m["content"]) for messages in islice(dialogues("tokenizer", settings.seed), 20_000) for m in messages
    )
    tokenizer = train_tokenizer(contents)
    trainer = Trainer(settings, compiled=shutil.which("g++") is not None)
    if (out / "state.pt").exists():
        trainer.resume(out / "state.pt")
    parameters = sum(p.numel() for p in trainer.full.parameters())
    _say(f"{parameters / 1e6:.2f} M parameters, {json.dumps(asdict(settings))}")
    started, before, losses = time.monotonic(), trainer.seen, []
    while trainer.seen < settings.tokens:
        for batch in chunk(tokenizer, settings.seed, trainer.chunks, _tokens(settings, trainer.chunks)):
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


def _tokens(settings: Settings, number: int) -> int:
    return settings.early_batch if number < 2 * EARLY_CHUNKS else settings.batch


def _say(line: str) -> None:
    print(line, flush=True)


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
