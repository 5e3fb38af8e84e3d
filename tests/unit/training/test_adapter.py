"""Log of a training run."""

from transformers import TrainerState

from tokensieve.training.adapter import steps_of


def test_the_log_has_the_steps_alone() -> None:
    entry = {"step": 1, "epoch": 0.5, "loss": 2.0, "learning_rate": 1e-4, "grad_norm": 3.0, "trained_tokens": 5}
    (step,) = steps_of(TrainerState(log_history=[entry, {"step": 1, "eval_score": 1.0}, {"train_runtime": 3.0}]))
    assert (step.step, step.loss, step.trained_tokens) == (1, 2.0, 5)
    assert step.anchor_kl != step.anchor_kl
