"""Each loss against a plain implementation of its formula: value and gradient on fixed logits."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.selected_rows import make_rows
from tests.unit.training.test_train import same, settings, weights_of

from tokensieve.config import LoraSettings, MachineSettings, ModelSettings, ObjectiveSettings
from tokensieve.drift import row_divergences
from tokensieve.errors import InputError
from tokensieve.models import load_model
from tokensieve.training import token_head as token_head_module
from tokensieve.training import train
from tokensieve.training.losses import LOSSES, parse_loss
from tokensieve.training.token_head import token_losses

B, T, V = 2, 7, 40


def _case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of model and base [B, T, V], labels [B, T], weights [B, T]."""
    torch.manual_seed(0)
    logits, base = 3 * torch.randn(B, T, V), 3 * torch.randn(B, T, V)
    labels = torch.randint(0, V, (B, T))
    labels[0, :3] = -100
    labels[1, 5] = -100
    weights = torch.rand(B, T) * labels.ne(-100)
    logits[0, 4, labels[0, 5]] += 9.0  # one token that the model is sure of
    return logits, base, labels, weights


def _weight(name: str, argument: float, p: float, top: list[float], p_base: float, tau: float) -> float:
    """The published weight of a token: its probabilities, the 20 likeliest entries', and the batch's median nll."""
    share = [value / sum(top) for value in top]
    formulas: dict[str, Callable[[], float]] = {
        "dft": lambda: p,
        "asft": lambda: p,
        "eaft": lambda: (-sum(s * math.log(s) for s in share) / 3.0) ** argument,
        "infosft": lambda: p * max(0.0, 1 - math.log(p / (1 - p)) / math.log(argument / (1 - argument))),
        "profit": lambda: float(p >= argument),
        "talr": lambda: max(argument, p ** (1 / tau)),
        "online_stm": lambda: float(1 / p <= argument),
        "base_stm": lambda: float(1 / p_base <= argument),
    }
    return formulas.get(name, lambda: 1.0)()


def _plain(
    name: str,
    argument: float,
    logits: torch.Tensor,
    base: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """The loss in float64, token by token, straight from the formulas."""
    places = [(b, t) for b in range(B) for t in range(1, T) if labels[b, t] != -100]
    log_q = {(b, t): logits[b, t - 1].double().log_softmax(-1) for b, t in places}
    log_p = {(b, t): base[b, t - 1].double().log_softmax(-1) for b, t in places}
    tau = float(torch.stack([-log_q[place][labels[place]].detach() for place in places]).median())
    total, count = torch.zeros((), dtype=torch.float64), 0.0
    for place in places:
        q, y = log_q[place].detach().exp(), int(labels[place])
        p_base = float(log_p[place][y].exp())
        weight = float(weights[place])
        own = _weight(name, argument, float(q[y]), sorted(q.tolist())[-20:], p_base, tau)
        total = total - weight * own * log_q[place][y]
        if name in ("kl", "asft"):
            total = total + argument * weight * (log_p[place].exp() * (log_p[place] - log_q[place])).sum()
        if name == "reverse_kl":
            total = total + argument * weight * (log_q[place].exp() * (log_q[place] - log_p[place])).sum()
        count += weight * own if name == "profit" else weight
    return total / count


ARGUMENTS: dict[str, tuple[float, ...]] = {
    "eaft": (1.0, 2.0),
    "infosft": (0.93, 0.8),
    "profit": (0.1, 0.02),
    "talr": (0.01, 0.3),
    "online_stm": (2.5, 60.0),
    "base_stm": (2.5, 60.0),
    "kl": (0.1,),
    "reverse_kl": (0.3,),
    "asft": (0.05,),
}
CASES = [(name, argument) for name in LOSSES for argument in ARGUMENTS.get(name, (None,))]


@pytest.mark.parametrize("chunk", [3, 10**6], ids=["in chunks", "at once"])
@pytest.mark.parametrize(("name", "argument"), CASES)
def test_value_and_gradient_are_those_of_the_formula(
    monkeypatch: pytest.MonkeyPatch, name: str, argument: float | None, chunk: int
) -> None:
    monkeypatch.setattr(token_head_module, "_LOGITS_AT_ONCE", chunk * V)
    bound = parse_loss(name if argument is None else f"{name}:{argument}")
    logits, base, labels, weights = _case()
    expected_at = logits.clone().requires_grad_()
    expected = _plain(name, bound.argument, expected_at, base, labels, weights)
    (expected_gradient,) = torch.autograd.grad(expected, expected_at)

    trained = labels[:, 1:] != -100
    found_at = logits.clone().requires_grad_()
    head = token_losses(labels, weights, bound, (base[:, :-1][trained], lambda states: states))
    found = head(found_at, lambda states: states)
    loss = found.loss / found.divisor
    (gradient,) = torch.autograd.grad(loss, found_at)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-6)


def test_weights_carry_no_gradient_and_no_trained_token_gives_zero() -> None:
    logits, _, labels, weights = _case()
    at = logits.requires_grad_()
    head = token_losses(torch.full_like(labels, -100), torch.zeros_like(weights), parse_loss("dft"), None)
    found = head(at, lambda states: states)
    assert found.loss.item() == 0.0
    (gradient,) = torch.autograd.grad(found.loss, at)
    assert float(gradient.abs().sum()) == 0.0


@pytest.mark.parametrize("text", ["dft:2", "kl:x", "kl:-1", "eaft:inf", "nosuch", "nll:1"])
def test_what_is_no_loss_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_loss(text)


@pytest.fixture
def base(tiny_folder: Path) -> ModelSettings:
    return ModelSettings(model=str(tiny_folder))


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("loss", ["kl:20", "reverse_kl:20", "asft:20"])
def test_kl_to_the_base_keeps_the_model_near_it(base: ModelSettings, tmp_path: Path, method: str, loss: str) -> None:
    rules = settings(method=method, epochs=6, lora=LoraSettings(r=4, dropout=0.0))
    rows = [row.tokens for row in make_rows()]
    drifts = []
    for name in ("nll", loss):
        tuned = train(
            make_rows(),
            base,
            rules.model_copy(update={"objective": ObjectiveSettings(loss=name)}),
            tmp_path / name.replace(":", "-"),
        )
        drifts.append(sum(float(one.kl_N.sum()) for one in row_divergences(rows, base, tuned.on(base))))
    assert drifts[1] < 0.5 * drifts[0]


@pytest.mark.parametrize("loss", ["dft", "eaft", "infosft", "kl:0.5", "base_stm:100"])
def test_portions_and_packing_do_not_change_a_loss(base: ModelSettings, tmp_path: Path, loss: str) -> None:
    runs = [
        train(
            make_rows(), base, settings(objective=ObjectiveSettings(loss=loss), machine=machine), tmp_path / str(number)
        )
        for number, machine in enumerate(
            (MachineSettings(), MachineSettings(micro_batch_size=1), MachineSettings(packing=True))
        )
    ]
    for run in runs[1:]:
        assert [step.loss for step in run.log] == pytest.approx([step.loss for step in runs[0].log], rel=2e-3)


def test_a_batch_statistic_needs_the_whole_batch(base: ModelSettings, tmp_path: Path) -> None:
    rules = settings(objective=ObjectiveSettings(loss="talr"), machine=MachineSettings(micro_batch_size=1))
    with pytest.raises(InputError, match="depend on the whole batch"):
        train(make_rows(), base, rules, tmp_path / "out")


def test_a_pull_to_the_start_keeps_the_weights_near_it(base: ModelSettings, tmp_path: Path) -> None:
    free = train(make_rows(), base, settings(epochs=6), tmp_path / "free")
    held = train(make_rows(), base, settings(epochs=6, objective=ObjectiveSettings(l2_to_start=1e4)), tmp_path / "held")
    start = {name: value.clone() for name, value in load_model(base).model.state_dict().items()}
    moved = [
        sum(float((weights_of(run, base)[name] - start[name]).pow(2).sum()) for name in start) for run in (free, held)
    ]
    assert moved[1] < 0.5 * moved[0]
    assert not same(weights_of(free, base), weights_of(held, base), 1e-5)


def test_every_loss_names_its_source() -> None:
    for name, loss in LOSSES.items():
        assert re.search(r"arXiv \d{4}\.\d{5}|our own|the standard", loss.source), name
        assert loss.formula, name


def test_the_docs_and_the_help_have_every_loss() -> None:
    told = str(ObjectiveSettings.model_fields["loss"].description)
    assert {name for name in LOSSES if not re.search(rf"\b{name}\b", told)} == set()
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert {name for name in LOSSES if f"`{name}`" not in rows} == set()
