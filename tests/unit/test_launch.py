import pytest

from tokensieve.errors import InputError
from tokensieve.launch import Portion, device_of_launch, parse_portion, portion_of_launch


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_shard_belongs_to_exactly_one_portion(count: int) -> None:
    for shard in range(20):
        assert sum(Portion(index, count).has(shard) for index in range(count)) == 1


def test_a_portion_is_written_from_zero() -> None:
    assert parse_portion("0/8") == Portion(0, 8)
    assert parse_portion(" 7/8 ") == Portion(7, 8)
    assert Portion().whole
    assert not Portion(0, 2).whole


@pytest.mark.parametrize("text", ["8/8", "1/0", "-1/2", "1", "a/b", "1/2/3", ""])
def test_what_is_no_portion_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--shard"):
        parse_portion(text)


def test_launchers_say_which_portion_a_process_does() -> None:
    assert portion_of_launch({}) == Portion()
    assert portion_of_launch({"RANK": "2", "WORLD_SIZE": "4"}) == Portion(2, 4)
    assert portion_of_launch({"SLURM_PROCID": "2"}) == Portion()


def test_without_a_launcher_the_device_is_found() -> None:
    assert device_of_launch({}) == "auto"


def test_a_launched_process_takes_its_card_and_makes_it_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    current: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert device_of_launch({"LOCAL_RANK": "3"}) == "cuda:3"
    assert current == ["cuda:3"]
    assert device_of_launch({}) == "auto"
    assert len(current) == 1
