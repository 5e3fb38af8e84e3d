"""Training runs: what they leave behind, what they refuse, and that they can be killed."""

import copy
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest
import torch
from tests.conftest import make_tiny_model, make_tiny_tokenizer
from tests.killed_training import at_step, train_and_die
from tests.selected_rows import make_rows
from transformers import PreTrainedTokenizerFast

from tokensieve.config import LoraSettings, MachineSettings, ModelSettings, ObjectiveSettings, TrainSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.drift import tuned_settings
from tokensieve.errors import CheckFailed, InputError, Note
from tokensieve.models import load_model
from tokensieve.training import Adapter, open_adapter, train
from tokensieve.training import run as training_run
from tokensieve.training.arguments import arguments_of
from tokensieve.training.guards import alone_in
from tokensieve.types import Selected

QUICK = TrainSettings(method="full", learning_rate=1e-3, epochs=2, batch_size=4, warmup_steps=0, lora=LoraSettings(r=4))


def settings(**changes: object) -> TrainSettings:
    return QUICK.model_copy(update=changes)


def weights_of(adapter: Adapter, base: ModelSettings) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in load_model(adapter.on(base)).model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[k], other[k], atol=tolerance, rtol=0) for k in one)


@pytest.fixture
def base(tiny_folder: Path) -> ModelSettings:
    return ModelSettings(model=str(tiny_folder))


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_a_run_leaves_a_model_that_loads_and_differs(base: ModelSettings, tmp_path: Path, method: str) -> None:
    rules = settings(method="full" if method == "full" else "lora", lora=LoraSettings(r=4, dora=method == "dora"))
    steps: list[tuple[int, int]] = []
    adapter = train(make_rows(), base, rules, tmp_path / "out", lambda done, total: steps.append((done, total)))
    assert adapter.method == method
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [entry.step for entry in adapter.log] == [1, 2, 3, 4]
    assert adapter.log[-1].epoch == 2
    assert all(entry.grad_norm > 0 and entry.trained_tokens > 0 for entry in adapter.log)
    ids = torch.arange(6, 30)[None]
    with torch.inference_mode():
        before = load_model(base).model(ids).logits
        after = load_model(adapter.on(base)).model(ids).logits
    assert not torch.allclose(before, after)
    assert open_adapter(tmp_path / "out") == adapter
    names = {path.name for path in adapter.folder.iterdir()}
    assert any(name.endswith(".safetensors") for name in names)
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "the working folder is gone"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_model_without_end_of_sequence_and_padding_trains(tmp_path: Path, method: Literal["lora", "full"]) -> None:
    tokenizer = copy.deepcopy(cast(PreTrainedTokenizerFast, make_tiny_tokenizer()))
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.bos_token = None
    tiny = make_tiny_model(tokenizer)
    for owner in (tiny.model.config, tiny.model.generation_config):
        owner.eos_token_id = owner.pad_token_id = owner.bos_token_id = None
    tiny.model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base = ModelSettings(model=str(tmp_path / "base"))
    adapter = train(make_rows(), base, settings(method=method, epochs=1), tmp_path / "out")
    trained = load_model(adapter.on(base))
    assert trained.tokenizer.pad_token is None, "the tokenizer is saved as it was"
    assert trained.tokenizer.convert_ids_to_tokens(sorted(trained.stop_ids)) == ["<|end|>"]
    if method == "full":
        assert trained.model.generation_config.eos_token_id == [2], "answers end with what was taught"


def test_training_lowers_the_loss(base: ModelSettings, tmp_path: Path) -> None:
    adapter = train(make_rows(), base, settings(epochs=8, batch_size=8), tmp_path / "out")
    assert adapter.log[-1].loss < 0.9 * adapter.log[0].loss


def test_a_finished_run_does_nothing_the_second_time(
    base: ModelSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(make_rows(), base, QUICK, tmp_path / "out")
    monkeypatch.setattr(training_run, "_run", lambda *_: pytest.fail("trained again"))
    assert train(make_rows(), base, QUICK, tmp_path / "out") == first
    other_portions = settings(machine=MachineSettings(micro_batch_size=2))
    assert train(make_rows(), base, other_portions, tmp_path / "out") == first, "the same run, fitted otherwise"


@pytest.mark.parametrize("change", [{"packing": True}, {"micro_batch_size": 1}, {"micro_batch_size": 2}], ids=str)
def test_portions_and_packing_do_not_change_the_result(
    base: ModelSettings, tmp_path: Path, change: dict[str, int]
) -> None:
    whole = train(make_rows(), base, QUICK, tmp_path / "whole")
    other = train(make_rows(), base, settings(machine=MachineSettings(**change)), tmp_path / "other")
    assert [entry.loss for entry in other.log] == pytest.approx([entry.loss for entry in whole.log], rel=1e-4)
    assert [entry.trained_tokens for entry in other.log] == [entry.trained_tokens for entry in whole.log]
    assert same(weights_of(whole, base), weights_of(other, base), 2e-3)


def test_weights_of_0_and_1_are_a_hard_selection(base: ModelSettings, tmp_path: Path) -> None:
    hard = train(make_rows(), base, QUICK, tmp_path / "hard")
    soft = train(make_rows(weights="binary"), base, QUICK, tmp_path / "soft")
    assert [entry.loss for entry in soft.log] == pytest.approx([entry.loss for entry in hard.log], rel=1e-5)
    assert same(weights_of(hard, base), weights_of(soft, base), 1e-4)


def test_the_same_seed_gives_the_same_model_and_leaves_other_random_numbers_alone(
    base: ModelSettings, tmp_path: Path
) -> None:
    rules = settings(method="lora")
    torch.manual_seed(123)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(123)
    np.random.seed(5)
    one = train(make_rows(), base, rules, tmp_path / "one")
    assert (torch.rand(1), np.random.rand()) == expected
    two = train(make_rows(), base, rules, tmp_path / "two")
    other = train(make_rows(), base, rules.model_copy(update={"seed": 1}), tmp_path / "other")
    assert same(weights_of(one, base), weights_of(two, base), 0)
    assert not same(weights_of(one, base), weights_of(other, base), 1e-6)


def test_a_saved_model_keeps_its_own_special_tokens(tiny_folder: Path, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_folder))
    loaded.model.generation_config.eos_token_id = [2, 5]
    loaded.model.config.pad_token_id = None
    loaded.model.save_pretrained(tmp_path / "base")
    loaded.tokenizer.save_pretrained(tmp_path / "base")
    base = ModelSettings(model=str(tmp_path / "base"))
    after = load_model(train(make_rows(), base, QUICK, tmp_path / "out").on(base)).model
    assert after.generation_config.eos_token_id == [2, 5]
    assert after.config.pad_token_id is None


def test_training_goes_on_from_an_adapter(base: ModelSettings, tmp_path: Path) -> None:
    rules = settings(method="lora", lora=LoraSettings(r=4, dropout=0.0))
    first = train(make_rows(), base, rules, tmp_path / "first")
    second = train(make_rows(seed=1), first.on(base), rules, tmp_path / "second")
    assert second.model.adapter_digest is not None
    assert not same(weights_of(first, base), weights_of(second, base), 1e-6)
    whole = train(make_rows(seed=1), first.on(base), QUICK, tmp_path / "whole")
    assert whole.log[0].loss == pytest.approx(second.log[0].loss, rel=1e-4)
    assert whole.on(first.on(base)).adapter is None


def test_rows_of_another_tokenizer_or_template_are_refused(base: ModelSettings, tmp_path: Path) -> None:
    identity = load_model(base).identity
    for part, field in (("tokenizer", "tokenizer_digest"), ("chat template", "template_digest")):
        rows = make_rows(model=identity.model_copy(update={field: "0" * 64}))
        with pytest.raises(InputError, match=f"made with another {part}"):
            train(rows, base, QUICK, tmp_path / "out")
    assert train(make_rows(model=identity), base, QUICK, tmp_path / "out").log


def test_what_cannot_be_trained_is_refused(base: ModelSettings, tmp_path: Path) -> None:
    nothing = [Selected(row.scored, np.zeros_like(row.train_T)) for row in make_rows()]
    with pytest.raises(InputError, match="none of the tokens of 8 rows"):
        train(in_memory(nothing, Manifest(stage="selected")), base, QUICK, tmp_path / "out")
    with pytest.raises(InputError, match="there are no rows"):
        train(in_memory([], Manifest(stage="selected")), base, QUICK, tmp_path / "out")
    mixed = [*make_rows(n=2), *make_rows(n=2, weights="soft")]
    with pytest.raises(InputError, match="some rows carry weights"):
        train(in_memory(mixed, Manifest(stage="selected")), base, QUICK, tmp_path / "out")
    with pytest.raises(InputError, match="packing"):
        train(make_rows(weights="soft"), base, settings(machine=MachineSettings(packing=True)), tmp_path / "out")
    with pytest.raises(InputError, match="batches of 4 rows"):
        train(make_rows(), base, settings(machine=MachineSettings(micro_batch_size=3)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_without_a_trained_token_are_skipped_and_counted(base: ModelSettings, tmp_path: Path) -> None:
    rows = list(make_rows())
    nothing = [Selected(row.scored, np.zeros_like(row.train_T)) for row in rows[:3]]
    weightless = [Selected(row.scored, row.train_T, np.zeros(len(row.train_T), np.float32)) for row in rows[:3]]
    weighted = [Selected(row.scored, row.train_T, row.train_T.astype(np.float32)) for row in rows]
    expected = train(in_memory(rows, Manifest(stage="selected")), base, QUICK, tmp_path / "all")
    for name, mixed in (("hard", [*nothing, *rows]), ("soft", [*weightless, *weighted])):
        with pytest.warns(Note, match="3 of 11 rows have no trained token and are skipped"):
            found = train(in_memory(mixed, Manifest(stage="selected")), base, QUICK, tmp_path / name)
        assert [step.loss for step in found.log] == pytest.approx([step.loss for step in expected.log], rel=1e-5)
        counts = found.manifest.counts
        assert (counts.rows_in, counts.rows_out, counts.dropped) == (11, 8, {"no trained token": 3})
        assert found.manifest.facts["rows_without_trained_tokens"] == 3


def test_a_folder_with_something_else_is_left_alone(base: ModelSettings, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        train(make_rows(), base, QUICK, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    train(make_rows(), base, QUICK, tmp_path / "taken")
    with pytest.raises(InputError, match="something else"):
        train(make_rows(), base, settings(learning_rate=1e-4), tmp_path / "taken")


def test_a_loss_that_is_no_number_stops_the_run(base: ModelSettings, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="NaN"):
        train(make_rows(), base, settings(learning_rate=1e38, epochs=4), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_run_at_a_time_trains_into_a_folder(base: ModelSettings, tmp_path: Path) -> None:
    with (
        alone_in(tmp_path / ".out.training", tmp_path / "out"),
        pytest.raises(InputError, match="another run is training into this folder"),
    ):
        train(make_rows(), base, QUICK, tmp_path / "out")
    assert len(train(make_rows(), base, QUICK, tmp_path / "out").log) == 4
    assert not list(tmp_path.glob(".out*"))


def test_models_in_memory_and_rows_on_disk_are_taken(base: ModelSettings, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(str(make_rows().save(tmp_path / "selected").folder))
    model, tokenizer = (kind.from_pretrained(base.model) for kind in (AutoModelForCausalLM, AutoTokenizer))
    by_name = train(folder, base.model, QUICK, tmp_path / "by-name")
    given = train(folder, (model, tokenizer), QUICK, out=tmp_path / "given")
    assert [step.loss for step in given.log] == [step.loss for step in by_name.log]


def test_settings_as_a_dict_train_as_the_settings_they_spell(base: ModelSettings, tmp_path: Path) -> None:
    spelled = QUICK.model_dump(mode="json", exclude_defaults=True)
    by_dict, by_settings = (
        train(make_rows(), base, given, tmp_path / type(given).__name__) for given in (spelled, QUICK)
    )
    assert [step.loss for step in by_dict.log] == [step.loss for step in by_settings.log]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_along_a_run_stay_and_load(base: ModelSettings, tmp_path: Path, method: str) -> None:
    rules = settings(method=method, epochs=3)
    run = train(make_rows(), base, rules, tmp_path / "out", checkpoints=2)
    folders = sorted((run.folder / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == ["step-2", "step-4"], "of six steps"
    short = train(make_rows(), base, settings(method=method, epochs=3, schedule="constant"), tmp_path / "constant")
    found = [load_model(tuned_settings(str(folder), base)) for folder in (*folders, run.folder)]
    assert len({model.identity.tokenizer_digest for model in found}) == 1
    configs = [model.model.config.get_text_config() for model in found]
    assert len({(config.pad_token_id, config.eos_token_id, config.bos_token_id) for config in configs}) == 1
    weights = [{key: value.detach() for key, value in model.model.named_parameters()} for model in found]
    name = next(name for name, value in weights[0].items() if not torch.equal(value, weights[2][name]))
    distances = [float((one[name] - weights[2][name]).norm()) for one in weights]
    assert distances[0] > distances[1] > distances[2] == 0
    assert not (short.folder / "checkpoints").exists()
    assert train(make_rows(), base, rules, tmp_path / "out", checkpoints=2).log == run.log
    with pytest.raises(InputError, match="without checkpoints"):
        train(make_rows(), base, settings(method=method, epochs=3, schedule="constant"), short.folder, checkpoints=1)


def test_a_run_too_short_for_weights_along_it_is_opened_again(base: ModelSettings, tmp_path: Path) -> None:
    first, again = (
        train(make_rows(), base, settings(epochs=1, batch_size=64), tmp_path / "out", checkpoints=2) for _ in range(2)
    )
    assert len(first.log) == 1
    assert again.log == first.log
    assert not any((first.folder / "checkpoints").iterdir())


def test_plain_mistakes_in_python_are_said(base: ModelSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected 0 or more, got -1"):
        train(make_rows(), base, out=tmp_path / "out", checkpoints=-1)
    with pytest.raises(InputError, match="expected the folder of the result"):
        train(make_rows(), base)
    with pytest.raises(InputError, match="expected selected rows, got list"):
        train([1], base, out=tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected selected rows, got scored rows"):
        train(in_memory([], Manifest(stage="scored")), base, out=tmp_path / "out")
    with pytest.raises(InputError, match=r"settings\.epoch"):
        train(make_rows(), base, {"epoch": 1}, tmp_path / "out")
    with pytest.raises(InputError, match="no loss 'dtf'\n  fix: did you mean 'dft'"):
        train(make_rows(), base, settings(objective=ObjectiveSettings(loss="dtf")), tmp_path / "out")


@pytest.mark.parametrize(
    ("weights", "machine"),
    [("none", {}), ("none", {"micro_batch_size": 1}), ("none", {"packing": True}), ("soft", {"micro_batch_size": 2})],
    ids=str,
)
def test_the_general_head_with_weights_of_1_gives_the_loss_of_trl(
    base: ModelSettings, tmp_path: Path, weights: Literal["none", "soft"], machine: dict[str, int]
) -> None:
    usual = train(make_rows(weights=weights), base, QUICK, tmp_path / "usual")
    rules = settings(objective=ObjectiveSettings(loss="online_stm:1e30"), machine=MachineSettings(**machine))
    general = train(make_rows(weights=weights), base, rules, tmp_path / "general")
    assert [step.loss for step in general.log] == pytest.approx([step.loss for step in usual.log], rel=1e-4)


def test_rows_lost_by_the_trainer_are_noticed(
    base: ModelSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "tokensieve.training.trainer.arguments_of"
    monkeypatch.setattr(place, lambda *a: _with(arguments_of(*a), max_length=12))
    with pytest.raises(CheckFailed, match="TRL made"):
        train(make_rows(), base, QUICK, tmp_path / "out")
    monkeypatch.setattr(place, lambda *a: _with(arguments_of(*a), dataloader_drop_last=True))
    with pytest.raises(CheckFailed, match="yielded"):
        train(make_rows(n=7), base, QUICK, tmp_path / "out")


def _with(arguments: object, **changes: object) -> object:
    for name, value in changes.items():
        setattr(arguments, name, value)
    return arguments


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_killed_run_goes_on_to_the_same_result(base: ModelSettings, tmp_path: Path, method: str) -> None:
    # 0.1: with a drawn dropout, the random numbers too must go on where they were
    machine = MachineSettings(checkpoint_minutes=0.0)
    rules = settings(method=method, epochs=3, machine=machine, lora=LoraSettings(r=4, dropout=0.1))
    undisturbed = train(make_rows(), base, rules, tmp_path / "whole")
    train_and_die(base, rules, tmp_path / "out", at_step(3))
    assert not (tmp_path / "out").exists()
    cut_short = tmp_path / ".out.training" / "checkpoints" / "checkpoint-99"
    cut_short.mkdir()
    (cut_short / "trainer_state.json").write_text('{"epo')
    steps: list[int] = []
    resumed = train(make_rows(), base, rules, tmp_path / "out", lambda done, _: steps.append(done))
    assert steps[0] == 3, "two steps had a checkpoint"
    assert resumed.log == undisturbed.log
    assert same(weights_of(undisturbed, base), weights_of(resumed, base), 0)
