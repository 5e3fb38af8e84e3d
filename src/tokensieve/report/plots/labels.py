"""Places for labels that hide neither each other nor what they name."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

_DISTANCES = (11.0, 24.0, 40.0, 60.0)
_DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))
_ROUNDS = 6
_COVERED = 1000.0
"""Cost of touching another label, however little: more than that of the furthest place."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels, y downwards; ``weight`` says how bad it is to cover it."""

    left: float
    top: float
    right: float
    bottom: float
    weight: float = 1.0

    def overlap(self, other: "Box") -> float:
        """Common area."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return width * height if width > 0 and height > 0 else 0.0

    def outside(self, frame: "Box") -> float:
        """Pixels by which it sticks out of a frame, summed over the sides."""
        return (
            max(0.0, frame.left - self.left)
            + max(0.0, frame.top - self.top)
            + max(0.0, self.right - frame.right)
            + max(0.0, self.bottom - frame.bottom)
        )


def place(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    frame: Box,
) -> list[Box]:
    """One box a label: near its anchor, within the frame, over as little as possible.

    Each label in turn takes the best of a fixed set of places, given the others'; a few rounds of that settle.
    """
    candidates = [_candidates(anchor, size) for anchor, size in zip(anchors, sizes, strict=True)]
    chosen = [places[0] for places in candidates]
    for _ in range(_ROUNDS):
        before = list(chosen)
        for index, places in enumerate(candidates):
            chosen[index] = _cheapest(places, obstacles, chosen[:index] + chosen[index + 1 :], frame)
        if chosen == before:
            break
    return chosen


def _candidates(anchor: tuple[float, float], size: tuple[float, float]) -> list[Box]:
    (x, y), (width, height) = anchor, size
    boxes = []
    for rank, (distance, (dx, dy)) in enumerate(itertools.product(_DISTANCES, _DIRECTIONS)):
        centre_x = x + dx * (distance + width / 2)
        centre_y = y + dy * (distance + height / 2)
        if dx and dy:  # corners may come closer sideways
            centre_x = x + dx * (distance / 2 + width / 2)
        preference = 1.0 + 3.0 * rank
        boxes.append(
            Box(centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2, preference)
        )
    return boxes


def _cheapest(places: Sequence[Box], obstacles: Sequence[Box], labels: Sequence[Box], frame: Box) -> Box:
    def cost(box: Box) -> float:
        hidden = sum(box.overlap(obstacle) * obstacle.weight for obstacle in obstacles)
        covered = [area for area in map(box.overlap, labels) if area]
        return box.weight + 100 * box.outside(frame) + hidden + _COVERED * len(covered) + 4.0 * sum(covered)

    return min(places, key=cost)
