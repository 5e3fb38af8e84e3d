"""How fast scoring could be on this machine, and where the time goes that it takes longer."""

from collections.abc import Callable

from scoring_subjects import Row

from tokensieve.scoring.lm_head import matmul_precision

_KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "mkldnn::", "aten::mkldnn"),
    "attention": ("aten::_scaled_dot_product", "aten::_flash_attention"),
    "softmax of the head": ("aten::exp2", "aten::amax", "aten::gt", "aten::sum"),
    "memory (copies, fills, fresh pages)": ("aten::copy_", "aten::fill_", "aten::empty", "aten::cat", "aten::index"),
}


def limit(loaded, rows: list[Row], clock: Callable[[], float], dtype: str) -> dict[str, object]:
    """Seconds for the matrix products that have to be done, at the rate of large ones in the same numbers."""
    import torch

    tokens = sum(len(row.ids) for row in rows)
    answers = sum(len(row.response_ids) for row in rows)
    head = loaded.model.get_output_embeddings()
    linear = [m for m in loaded.model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    body = 2.0 * tokens * sum(layer.weight.numel() for layer in linear)
    top = 2.0 * answers * head.weight.numel()
    numbers = getattr(torch, dtype)
    rate = _rate(loaded.device, numbers, clock)
    top_rate = rate
    if numbers is not torch.float32:
        # The head multiplies the same numbers in float32, on the fast units where the machine has them for that.
        with matmul_precision("medium" if loaded.device.type == "cpu" else "high"):
            top_rate = _rate(loaded.device, torch.float32, clock)
    work = (
        f"backbone {body / 1e9:,.0f} GFLOP at {rate / 1e9:,.0f} GFLOP/s, head {top / 1e9:,.0f} at {top_rate / 1e9:,.0f}"
    )
    return {"seconds": body / rate + top / top_rate, "tokens": tokens, "rates": work}


def _rate(device, dtype, clock: Callable[[], float]) -> float:
    """The best rate of a square product, in FLOP/s."""
    import torch

    best = 0.0
    for size in (1024, 2048) if device.type == "cpu" else (4096, 8192):
        one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        for _ in range(8):
            start = clock()
            torch.mm(one, other)
            if device.type == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2.0 * size**3 / (clock() - start))
    return best


def profile(work: Callable[[], object]) -> dict[str, float]:
    """Seconds by kind of operation, as torch's profiler sees them, and the largest operations one by one."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    with profiled(activities=[ProfilerActivity.CPU]) as found:
        work()
    events = found.key_averages()
    kinds = dict.fromkeys([*_KINDS, "all other operations"], 0.0)
    for event in events:
        kind = next((name for name, keys in _KINDS.items() if event.key.startswith(keys)), "all other operations")
        kinds[kind] += event.self_cpu_time_total / 1e6
    largest = sorted(events, key=lambda event: -event.self_cpu_time_total)[:15]
    return {**kinds, **{f"  {event.key} x {event.count}": event.self_cpu_time_total / 1e6 for event in largest}}
