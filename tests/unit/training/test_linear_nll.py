"""The nll of trained tokens through a linear LM head: value and gradient against full logits and autograd."""

import pytest
import torch
from tests.conftest import ModelFactory

from tokensieve.training import linear_nll as module
from tokensieve.training.linear_nll import LinearHead, linear_nll
from tokensieve.training.losses import parse_loss
from tokensieve.training.token_head import add_token_head, token_losses

N, D, V = 13, 8, 29


@pytest.mark.parametrize("chunk", [1, 4, 100], ids=lambda size: f"{size} at once")
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.25, None), (2.0, 5.0)], ids=str)
@pytest.mark.parametrize("bias", [False, True], ids=["matrix", "bias"])
def test_value_and_gradients_are_those_of_full_logits(
    monkeypatch: pytest.MonkeyPatch, chunk: int, scale: float, softcap: float | None, bias: bool
) -> None:
    monkeypatch.setattr(module, "_LOGITS_AT_ONCE_ELSEWHERE", chunk * V)
    torch.manual_seed(0)
    hidden = torch.randn(N, D, requires_grad=True)
    weight = torch.randn(V, D, requires_grad=True)
    bias_V = torch.randn(V, requires_grad=True) if bias else None
    targets, weights = torch.randint(V, (N,)), torch.rand(N)
    inputs = [tensor for tensor in (hidden, weight, bias_V) if tensor is not None]

    logits = torch.nn.functional.linear(hidden, weight, bias_V).double() * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    nll = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    expected = (weights * nll).sum()
    found = linear_nll(hidden, targets, weights, LinearHead(weight, bias_V, scale, softcap))
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = torch.autograd.grad(3.0 * expected, inputs)
    for found_gradient, gradient in zip(torch.autograd.grad(3.0 * found, inputs), gradients, strict=True):
        torch.testing.assert_close(found_gradient, gradient, rtol=1e-5, atol=1e-5)


def test_only_what_is_trained_gets_a_gradient_and_no_token_gives_zeros() -> None:
    hidden, weight = torch.randn(N, D, requires_grad=True), torch.randn(V, D)
    targets, weights = torch.randint(V, (N,)), torch.ones(N)
    total = linear_nll(hidden, targets, weights, LinearHead(weight, None))
    (gradient,) = torch.autograd.grad(total, [hidden])
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        assert not linear_nll(hidden, targets, weights, LinearHead(weight, None)).requires_grad
    weight.requires_grad_()
    nothing = linear_nll(hidden[:0], targets[:0], weights[:0], LinearHead(weight, None))
    gradients = torch.autograd.grad(nothing, [hidden, weight])
    assert nothing.item() == 0
    assert [float(one.abs().sum()) for one in gradients] == [0, 0]


def test_under_autocast_products_are_in_half_precision() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(N, D, requires_grad=True), torch.randn(V, D, requires_grad=True)
    targets, weights = torch.randint(V, (N,)), torch.ones(N)
    exact = linear_nll(hidden, targets, weights, LinearHead(weight, None))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = linear_nll(hidden, targets, weights, LinearHead(weight, None))
        expected = torch.nn.functional.linear(hidden, weight).float()
    nll = torch.nn.functional.cross_entropy(expected, targets, reduction="sum")
    assert rounded.item() == pytest.approx(nll.item(), rel=1e-6)
    assert rounded.item() != exact.item()
    found = torch.autograd.grad(rounded, [hidden, weight])
    for one, other in zip(found, torch.autograd.grad(exact, [hidden, weight]), strict=True):
        assert one.dtype is torch.float32
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("LlamaConfig", {}),
        ("LlamaConfig", {"tie_word_embeddings": True}),
        ("Gemma2Config", {"head_dim": 8, "final_logit_softcapping": 3.0}),
        ("CohereConfig", {"logit_scale": 0.3}),
        ("GraniteConfig", {"logits_scaling": 4.0}),
        ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    ],
)
def test_a_model_gets_the_loss_and_gradients_of_its_own_head(
    tiny_model: ModelFactory, kind: str, changes: dict[str, object]
) -> None:
    model = tiny_model(kind, **changes).model.requires_grad_(True)
    torch.manual_seed(1)
    ids = torch.randint(6, 200, (2, 12))
    labels = torch.where(torch.rand(2, 12) < 0.5, ids, -100)
    logits = model(input_ids=ids).logits[:, :-1]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    torch.autograd.backward(expected)
    gradients = {name: one.grad for name, one in model.named_parameters()}
    model.zero_grad()
    add_token_head(model)
    found = model(input_ids=ids, token_head=token_losses(labels, labels.ne(-100).float(), parse_loss("nll"), None))
    loss = found.loss / found.divisor
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-5)
