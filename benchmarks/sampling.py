"""How fast answers are drawn: our loop beside transformers' ``generate`` and its continuous batching, paged attention.

    python benchmarks/sampling.py [--model pocket|random|llama-135m|FOLDER] [--prompts 64] [--samples 32] [--quick]

Two workloads: greedy answers, one a prompt, as an evaluation draws them; and --samples answers to each of fewer
prompts, as a data set is made. ``random`` is a Llama of pocket's size and ``llama-135m`` one of SmolLM2-135M's shape,
both with random weights, which never stop by themselves. Their prompts are drawn at random; others' are the first of a
task (``--task``). Everything runs in this process on the same prompts. ``generate`` takes them sorted by length. The
last column is the speed over that of ``generate`` in batches, by wall time, which wants an idle machine; ``--clock
cpu`` takes processor time, which other work disturbs less but which counts waiting threads as work: with
OMP_NUM_THREADS=1 and the fastest of some --repeats it is a bound from below.
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
from tokensieve.sampling.decode import Decoder
from tokensieve.sampling.draw import Job

SIZES = {"random": (192, 6, 6, 6, 512, 1024), "llama-135m": (576, 30, 9, 3, 1536, 49_152)}
"""Hidden size, layers, heads, key heads, inner size and vocabulary of models with random weights."""


def random_model(name: str, dtype: str, device: str) -> LoadedModel:
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(["<|end|>", *pre_tokenizers.ByteLevel.alphabet()])}
    vocabulary |= {f"filler {number}": number for number in range(len(vocabulary), 1024)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(BPE(vocab=vocabulary, merges=[])),
        eos_token="<|end|>",
        chat_template="{% for turn in messages %}{{ turn.content }}<|end|>{% endfor %}",
    )
    hidden, layers, heads, key_heads, inner, vocabulary_size = SIZES[name]
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM._from_config(config, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    return from_memory(model, tokenizer, name=name)


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
    rows = sorted(
        (request for request in requests for _ in range(request.n)),
        key=lambda request: len(request.prompt_T),  # type: ignore[arg-type]
    )
    device = loaded.model.device
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
            ids.to(device),
            attention_mask=present.to(device),
            max_new_tokens=batch[0].max_new_tokens,
            eos_token_id=stops.tolist(),
            pad_token_id=int(stops[0]),
            **sampling,
        )
        new = output[:, longest:].cpu()
        stopped = torch.isin(new, stops)
        yield int(torch.where(stopped.any(1), stopped.int().argmax(1) + 1, new.shape[1]).sum())


def continuous_batching(loaded: LoadedModel, requests: list[Request], size: int, sampling: dict[str, object]) -> int:
    """Tokens by ``model.generate_batch``; a prompt is run once for all of its samples, by forks of its request."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model, stops = loaded.model, sorted(LocalSampler(loaded)._stops)
    longest = max(len(request.prompt_T) for request in requests) + requests[0].max_new_tokens  # type: ignore[arg-type]
    limits: dict[str, object] = {"max_requests_per_batch": size}
    if model.device.type == "cpu":  # its own choice is nine tenths of the machine's memory
        limits |= {"num_blocks": 1 + size * (1 + longest // 256), "max_batch_tokens": 2048}
    before = model.config._attn_implementation
    found = model.generate_batch(
        [request.prompt_T.tolist() for request in requests],  # type: ignore[union-attr]
        generation_config=GenerationConfig(
            max_new_tokens=requests[0].max_new_tokens,
            eos_token_id=stops,
            pad_token_id=stops[0],
            num_return_sequences=requests[0].n,
            **sampling,
        ),
        continuous_batching_config=ContinuousBatchingConfig(seed=0, **limits),
    )
    model.set_attn_implementation(before)
    expected = sum(request.n for request in requests)
    if len(found) != expected:
        raise RuntimeError(f"{len(found)} of {expected} answers came back")
    return sum(len(one.generated_tokens) for one in found.values())


def ours(loaded: LoadedModel, requests: list[Request], settings: SampleSettings, *, static: bool | None) -> int:
    """Tokens by our loop, with a cache that grows or stays."""
    jobs = [
        Job(request.id, index, request.prompt_T, request.max_new_tokens)  # type: ignore[arg-type]
        for request in requests
        for index in range(request.n)
    ]
    stops = LocalSampler(loaded)._stops
    decoder = Decoder(loaded.model, stops, settings, pad_id=min(stops), static=static)
    return sum(len(one.ids) for one in decoder.draw(jobs, settings.batch_size))


def main() -> None:
    options = _options()
    if options.model in SIZES:
        loaded = random_model(options.model, options.dtype, options.device)
    else:
        loaded = load_model(ModelSettings(model=options.model, dtype=options.dtype, device=options.device))
    task = None if options.model in SIZES else options.task or "pocket_python"
    print(describe_run(), flush=True)
    print(f"{loaded.identity.name}, {options.dtype}, {torch.get_num_threads()} threads, {options.batch_size} at a time")
    sampled = {"temperature": 0.7, "top_p": 0.95}
    fewer = max(1, options.prompts // options.samples)
    for title, prompts, samples, rule, theirs in (
        ("greedy", options.prompts, 1, {}, {"do_sample": False}),
        ("temperature 0.7, top_p 0.95", fewer, options.samples, sampled, {"do_sample": True, "top_k": 0, **sampled}),
    ):
        requests = requests_of(loaded, task, prompts, samples, options.new_tokens)
        print(f"{title}: {len(requests)} prompts, {samples} answers each, at most {options.new_tokens} tokens")
        _table(loaded, requests, SampleSettings(batch_size=options.batch_size, **rule), theirs, options)


def _table(
    loaded: LoadedModel,
    requests: list[Request],
    settings: SampleSettings,
    theirs: dict[str, object],
    options: argparse.Namespace,
) -> None:
    size = settings.batch_size
    few = [Request(r.id, (), r.max_new_tokens, n=1, prompt_T=r.prompt_T) for r in requests[: options.single]]
    ways: dict[str, Callable[[], int]] = {
        "generate, sorted batches": lambda: sum(generate_batches(loaded, requests, size, theirs)),
        "continuous batching (paged)": lambda: continuous_batching(loaded, requests, size, theirs),
        "ours": lambda: ours(loaded, requests, settings, static=None),
    }
    if loaded.model.device.type == "cuda":
        ways["ours, growing cache, no graphs"] = lambda: ours(loaded, requests, settings, static=False)
    else:
        ways["ours, fixed shapes"] = lambda: ours(loaded, requests, settings, static=True)
    if few:
        ways["generate, one prompt at a time"] = lambda: sum(generate_batches(loaded, few, 1, theirs))
    reference = None
    for name, way in ways.items():
        try:
            rate = timed(f"  {name}", options.clock, options.repeats, way, reference)
        except Exception as error:  # noqa: BLE001 - a table without one way is still a table
            print(f"  {name:<34} failed: {' '.join(f'{type(error).__name__}: {error}'.split())[:160]}", flush=True)
            continue
        reference = reference or rate


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--task", default=None)
    parser.add_argument("--prompts", type=int, default=64, help="of the greedy answers")
    parser.add_argument("--samples", type=int, default=32, help="answers to a prompt, of --prompts / --samples prompts")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--single", type=int, default=0, help="prompts for a one-at-a-time run")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each way, of which the fastest counts")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="8 prompts, 4 answers, 12 tokens")
    options = parser.parse_args()
    if options.quick:
        options.prompts, options.samples, options.new_tokens = 8, 4, 12
    return options


if __name__ == "__main__":
    main()
