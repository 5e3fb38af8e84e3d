"""Log of a training run."""

from pathlib import Path

from transformers import TrainerState

from tokensieve.data.manifest import Manifest, ModelIdentity
from tokensieve.training.adapter import Adapter, StepLog, steps_of


def test_the_log_has_the_steps_alone() -> None:
    entry = {"step": 1, "epoch": 0.5, "loss": 2.0, "learning_rate": 1e-4, "grad_norm": 3.0, "trained_tokens": 5}
    (step,) = steps_of(TrainerState(log_history=[entry, {"step": 1, "eval_score": 1.0}, {"train_runtime": 3.0}]))
    assert (step.step, step.loss, step.trained_tokens) == (1, 2.0, 5)
    assert step.anchor_kl != step.anchor_kl


def test_the_course_of_a_run_is_told_in_a_line() -> None:
    steps = [StepLog(1, 0.5, 2.5, 1e-4, 1.0, 10), StepLog(2, 1.0, 1.25, 1e-4, 1.0, 10)]
    anchored = [StepLog(1, 1.0, 2.0, 1e-4, 1.0, 10, anchor_kl=0.0123, kl_weight=5.0)]
    facts = {"anchors_chosen_again": {"step": 3, "drift": 0.1, "places": [1]}}

    def told(log: list[StepLog], manifest: Manifest) -> str:
        return Adapter(Path("run"), "lora", tuple(log), ModelIdentity(name="m"), manifest).course

    assert told(steps, Manifest(stage="trained")) == "loss 2.5 → 1.25 nats a token in 2 steps"
    assert told(anchored, Manifest(stage="trained", facts=facts)) == (
        "loss 2 → 2 nats a token in 1 steps; KL to the base on anchors 0.0123 nats a token, weight 5; "
        "anchors chosen again after step 3"
    )
    assert told([], Manifest(stage="trained")) == "no step was made"
    for warmup, ending in (
        (1, "in 2 steps"),
        (2, "in the warm-up of 2 steps, below the learning rate that was asked for"),
    ):
        assert told(steps, Manifest(stage="trained", settings={"warmup_steps": warmup})).endswith(ending)
