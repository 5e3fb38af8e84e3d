import random
import tracemalloc

from tokensieve.data.hashing import Fingerprints


def test_a_number_is_new_once_and_only_its_lowest_64_bits_count() -> None:
    seen = Fingerprints()
    numbers = [0, 1, 2**16, 2**64 - 1, 5 * 2**16 + 1]
    assert [seen.is_new(number) for number in numbers] == [True] * len(numbers)
    assert not any(seen.is_new(number) for number in numbers)
    assert not seen.is_new(-1)  # 2**64 - 1
    assert not seen.is_new(2**64)


def test_it_finds_what_a_set_finds() -> None:
    draw = random.Random(0)
    numbers = [draw.getrandbits(12) * 2**52 + draw.getrandbits(3) for _ in range(20_000)]
    seen, known = Fingerprints(), set[int]()
    for number in numbers:
        assert seen.is_new(number) == (number not in known)
        known.add(number)


def test_half_a_million_rows_take_less_than_16_mb() -> None:
    draw = random.Random(0)
    tracemalloc.start()
    seen = Fingerprints()
    for _ in range(500_000):
        seen.is_new(draw.getrandbits(64))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 16 * 2**20
