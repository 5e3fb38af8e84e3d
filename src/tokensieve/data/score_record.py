"""What a model said of one row, as the score store keeps it: arrays, and the bytes that they become."""

from dataclasses import dataclass, replace

import numpy as np

from tokensieve.types import FloatArray


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured of every scored token beside its nll.

    Attributes:
        entropy: the entropy of the next-token distribution.
        rank: the number of likelier entries of the vocabulary.
        top_k: the entropy of this many likeliest entries, as if there were no others; None leaves it out.
    """

    entropy: bool = False
    rank: bool = False
    top_k: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """The scores of one request, one value a scored place.

    Attributes:
        nll_N: nats.
        entropy_N: nats; None where it was not measured.
        rank_N: a whole number in float32; None where it was not measured.
        top_entropy_N: nats, of the likeliest entries alone; None where it was not measured.
    """

    nll_N: FloatArray
    entropy_N: FloatArray | None = None
    rank_N: FloatArray | None = None
    top_entropy_N: FloatArray | None = None

    def holds(self, wanted: Wanted) -> bool:
        """Whether entropy and ranks are there where they are wanted; top-k entropies are entries of their own."""
        return (self.entropy_N is not None or not wanted.entropy) and (self.rank_N is not None or not wanted.rank)

    def only(self, wanted: Wanted) -> "Record":
        """This record without what is not wanted, so that a result does not show what a store happened to hold."""
        return replace(
            self,
            entropy_N=self.entropy_N if wanted.entropy else None,
            rank_N=self.rank_N if wanted.rank else None,
        )

    def completed(self, earlier: "Record | None") -> "Record":
        """This record, with the measures that only an earlier one holds."""
        if earlier is None:
            return self
        return replace(
            self,
            entropy_N=earlier.entropy_N if self.entropy_N is None else self.entropy_N,
            rank_N=earlier.rank_N if self.rank_N is None else self.rank_N,
        )


def not_finite(record: Record) -> tuple[str, int, float] | None:
    """The first value that is NaN or infinite: name of its measure, its index, the value; None where all are finite.

    Ranks are left out: a backend may know the nll of a token without its rank.
    """
    measures = {"nll": record.nll_N, "entropy": record.entropy_N, "top-k entropy": record.top_entropy_N}
    for name, values_N in measures.items():
        if values_N is not None and len(bad := np.flatnonzero(~np.isfinite(values_N))):
            return name, int(bad[0]), float(values_N[bad[0]])
    return None


def pack(record: Record) -> bytes:
    """A record as bytes: which arrays there are, then the arrays, little-endian; without top-k entropies."""
    flags = (record.entropy_N is not None) + 2 * (record.rank_N is not None)
    arrays = [a for a in (record.nll_N, record.entropy_N, record.rank_N) if a is not None]
    return bytes([flags]) + b"".join(array.astype("<f4").tobytes() for array in arrays)


def unpack(content: bytes) -> Record | None:
    """The record, or None where its length is wrong."""
    flags = content[0] if content else 0
    count = 1 + (flags & 1) + (flags >> 1 & 1)
    if (len(content) - 1) % (4 * count):
        return None
    arrays = list(np.frombuffer(content, dtype="<f4", offset=1).astype(np.float32).reshape(count, -1))
    nll_N = arrays.pop(0)
    entropy_N = arrays.pop(0) if flags & 1 else None
    return Record(nll_N, entropy_N, arrays.pop(0) if flags & 2 else None)
