"""How fast answers are drawn: our loop beside ``model.generate``, one prompt at a time and in batches.

    python benchmarks/sampling.py [--model pocket|random|FOLDER] [--prompts 64] [--samples 4] [--new-tokens 64]

``random`` is a Llama of pocket's size with random weights, which never stops by itself. The prompts are drawn at random
(``random``) or are the first of a task (``--task``). Everything runs in this process on the same prompts. The factor is
that of wall time, which wants an idle machine; ``--clock cpu`` takes processor time, which other work disturbs less but
which counts waiting threads as work: with OMP_NUM_THREADS=1 and the fastest of some --repeats it is a bound from below.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from machine import describe_run

from tokensieve.config import ModelSettings, SampleSettings
from tokensieve.models import LoadedModel, from_memory, load_model
from tokensieve.sampling import LocalSampler, Request


def random_model() -> LoadedModel:
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(["<|end|>", *pre_tokenizers.ByteLevel.alphabet()])}
    vocabulary |= {f"filler {number}": number for number in range(len(vocabulary), 1024)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE(vocab=vocabulary, merges=[])))
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    return from_memory(LlamaForCausalLM(config), tokenizer, name="random")


def requests_of(loaded: LoadedModel, task: str | None, prompts: int, samples: int, new_tokens: int) -> list[Request]:
    if task is None:
        rng = np.random.default_rng(0)
        ids = [rng.integers(2, 1000, int(rng.integers(30, 90))).astype(np.int32) for _ in range(prompts)]
        return [Request(f"p{i}", (), new_tokens, n=samples, prompt_T=prompt) for i, prompt in enumerate(ids)]
    from tokensieve.tasks import TASKS

    sampler = LocalSampler(loaded)
    problems = islice(TASKS[task].load("test", None), prompts)
    made = [Request(problem.id, problem.prompt, new_tokens, n=samples) for problem in problems]
    return [Request(r.id, (), new_tokens, n=samples, prompt_T=sampler.prompt_T(r)) for r in made]


def timed(name: str, clock: str, repeats: int, run: Callable[[], int], reference: float | None = None) -> float:
    """Print a line and return tokens a second by the clock that was chosen, of the fastest of several runs."""
    measured = []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        tokens = run()
        measured.append((time.perf_counter() - start, time.process_time() - start_cpu))
    seconds, cpu = min(measured, key=lambda both: both[clock == "cpu"])
    rate = tokens / (cpu if clock == "cpu" else seconds)
    ratio = rate / reference if reference else 1.0
    print(
        f"{name:<36} {tokens:>8,} tokens {seconds:7.2f} s wall {tokens / seconds:>7,.0f} tok/s"
        f" {cpu:7.2f} s cpu {tokens / cpu:>7,.0f} tok/s {ratio:6.1f}x",
        flush=True,
    )
    return rate


def generate_batches(
    loaded: LoadedModel, requests: list[Request], size: int, sampling: dict[str, object]
) -> Iterator[int]:
    """Tokens up to the end-of-turn, by ``model.generate`` in left-padded batches of ``size`` samples."""
    rows = [request for request in requests for _ in range(request.n)]
    stops = torch.tensor(sorted(LocalSampler(loaded)._stops))
    for first in range(0, len(rows), size):
        batch = rows[first : first + size]
        longest = max(len(row.prompt_T) for row in batch)  # type: ignore[arg-type]
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        present = torch.zeros_like(ids)
        for place, row in enumerate(batch):
            prompt = torch.from_numpy(row.prompt_T.astype(np.int64))  # type: ignore[union-attr]
            ids[place, longest - len(prompt) :] = prompt
            present[place, longest - len(prompt) :] = 1
        output = loaded.model.generate(
            ids,
            attention_mask=present,
            max_new_tokens=batch[0].max_new_tokens,
            eos_token_id=stops.tolist(),
            pad_token_id=int(stops[0]),
            **sampling,
        )
        new = output[:, longest:]
        stopped = torch.isin(new, stops)
        yield int(torch.where(stopped.any(1), stopped.int().argmax(1) + 1, new.shape[1]).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--task", default=None)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--single", type=int, default=32, help="prompts for the one-at-a-time run")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each way, of which the fastest counts")
    arguments = parser.parse_args()
    clock, repeats = arguments.clock, arguments.repeats
    loaded = random_model() if arguments.model == "random" else load_model(ModelSettings(model=arguments.model))
    task = None if arguments.model == "random" else arguments.task or "pocket_python"
    requests = requests_of(loaded, task, arguments.prompts, arguments.samples, arguments.new_tokens)
    few = [Request(r.id, (), r.max_new_tokens, n=1, prompt_T=r.prompt_T) for r in requests[: arguments.single]]
    sampler = LocalSampler(loaded)
    print(describe_run())
    print(f"{loaded.identity.name}, {torch.get_num_threads()} threads, {len(requests)} prompts x {arguments.samples}")
    for name, settings, theirs in (
        ("greedy", SampleSettings(batch_size=arguments.batch_size), {"do_sample": False}),
        (
            "temperature 0.7, top_p 0.95",
            SampleSettings(batch_size=arguments.batch_size, temperature=0.7, top_p=0.95),
            {"do_sample": True, "temperature": 0.7, "top_p": 0.95, "top_k": 0},
        ),
    ):
        print(name)
        single = timed(
            "  generate, one prompt at a time",
            clock,
            repeats,
            lambda t=theirs: sum(generate_batches(loaded, few, 1, t)),
        )
        timed(
            f"  generate, batches of {arguments.batch_size}",
            clock,
            repeats,
            lambda t=theirs: sum(generate_batches(loaded, requests, arguments.batch_size, t)),
            single,
        )
        timed(
            "  ours",
            clock,
            repeats,
            lambda s=settings: sum(len(sample.ids) for sample in sampler.draw(requests, s)),
            single,
        )


if __name__ == "__main__":
    main()
