"""A small SVG writer, axes, and places for labels that hide neither each other nor what they name.

Every text is escaped; colours are left to the page's style sheet by class names.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from markupsafe import Markup

from tokensieve.metrics import Estimate

Anchor: TypeAlias = Literal["start", "middle", "end"]
Shape: TypeAlias = Literal["square", "circle", "diamond", "up", "down", "cross"]

CHARACTER_WIDTH = 0.56
"""Width of an average character in units of the font size, for the layout of labels; slightly on the wide side."""
NAME_SIZE = 12.5
"""Font size of an arm's name, in pixels, as in the page's style sheet."""

_DISTANCES = (11.0, 24.0, 40.0, 60.0)
_DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))
_ROUNDS = 6
_LEADER_FROM = 16.0
"""Distance of a name from its point, in pixels, from which a line joins them."""
_COVERED = 1000.0
"""Cost of touching another label, however little: more than that of the furthest place."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture for a wide page and the same for a narrow one; the style sheet shows one of them."""

    wide: Markup
    narrow: Markup


@dataclass
class Canvas:
    """Collects shapes; coordinates are pixels from the upper left corner."""

    width: float
    height: float
    label: str
    """Text alternative of the picture."""
    _parts: list[Markup] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line."""
        self._add("line", {"class": kind, "x1": x1, "y1": y1, "x2": x2, "y2": y2})

    def rect(self, x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> None:
        """A rectangle; ``tip`` is shown on hover."""
        sides = {"width": max(0.0, width), "height": max(0.0, height)}
        self._add("rect", {"class": kind, "x": x, "y": y, **sides}, _tip(tip))

    def text(self, x: float, y: float, text: str, kind: str, anchor: Anchor = "start") -> None:
        """Text on its base line."""
        self._add("text", {"class": kind, "x": x, "y": y, "text-anchor": anchor}, text)

    def polyline(self, points: Sequence[tuple[float, float]], kind: str, tip: str = "") -> None:
        """Connected straight lines."""
        self._add("polyline", {"class": kind, "points": _joined(points)}, _tip(tip))

    def marker(self, shape: Shape, x: float, y: float, size: float, kind: str, tip: str = "") -> None:
        """A filled mark of one of six shapes and of about equal area; ``size`` is its radius."""
        if shape == "circle":
            self._add("circle", {"class": kind, "cx": x, "cy": y, "r": size}, _tip(tip))
        else:
            points = [(x + size * dx, y + size * dy) for dx, dy in _OUTLINES[shape]]
            self._add("polygon", {"class": kind, "points": _joined(points)}, _tip(tip))

    def markup(self) -> Markup:
        """The picture as an SVG element."""
        box = f"0 0 {_n(self.width)} {_n(self.height)}"
        size: dict[str, str | float] = {"viewBox": box, "width": self.width, "height": self.height}
        return _element("svg", {**size, "role": "img", "aria-label": self.label}, Markup("").join(self._parts))

    def _add(self, tag: str, attributes: Mapping[str, str | float], inside: str | Markup = "") -> None:
        self._parts.append(_element(tag, attributes, inside))


_A = 0.38
_OUTLINES: dict[Shape, tuple[tuple[float, float], ...]] = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "up": ((0, -1.25), (1.2, 0.9), (-1.2, 0.9)),
    "down": ((0, 1.25), (1.2, -0.9), (-1.2, -0.9)),
    "cross": (
        *((-_A, -1.15), (_A, -1.15), (_A, -_A), (1.15, -_A), (1.15, _A), (_A, _A)),
        *((_A, 1.15), (-_A, 1.15), (-_A, _A), (-1.15, _A), (-1.15, -_A), (-_A, -_A)),
    ),
}


def text_width(text: str, size: float) -> float:
    """About how wide a text is at a font size, in pixels."""
    return len(text) * size * CHARACTER_WIDTH


def name_width(names: Sequence[str]) -> float:
    """Room for the widest of several arms' names, in pixels."""
    return max((text_width(name, NAME_SIZE) for name in names), default=0.0)


def _n(value: float) -> str:
    """A coordinate without needless digits."""
    return f"{value:.1f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _element(tag: str, attributes: Mapping[str, str | float], inside: str | Markup = "") -> Markup:
    values = ((name, value if isinstance(value, str) else _n(value)) for name, value in attributes.items())
    written = Markup("").join(Markup(' {}="{}"').format(name, value) for name, value in values)
    return Markup("<{0}{1}>{2}</{0}>").format(tag, written, inside)


def _tip(text: str) -> Markup:
    return Markup("<title>{}</title>").format(text) if text else Markup("")


@dataclass(frozen=True, slots=True)
class Axis:
    """Values to pixels.

    Attributes:
        low: value at the axis' start.
        high: value at its end.
        start: pixel of `low`.
        end: pixel of `high`.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def clipped(self, value: float) -> float:
        """Pixel of a value, or of the axis' nearer end."""
        return self.at(min(self.high, max(self.low, value)))

    def ends(self, estimate: Estimate) -> tuple[float, float] | None:
        """Pixels of an interval's ends, cut at the axis' ends; None where there is no interval."""
        found = estimate.interval
        return None if found is None else (self.clipped(found[0]), self.clipped(found[1]))


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


@dataclass(frozen=True, slots=True)
class Name:
    """A name to be written beside a point: its place in pixels, the text, and the class of its style."""

    x: float
    y: float
    text: str
    kind: str


def write_names(canvas: Canvas, names: Sequence[Name], obstacles: Sequence[Box], frame: Box) -> None:
    """Write names beside their points where they hide nothing, with a line to the point from one that had to move."""
    sizes = [(text_width(name.text, NAME_SIZE) + 4, NAME_SIZE + 3) for name in names]
    for name, box in zip(names, place([(one.x, one.y) for one in names], sizes, obstacles, frame), strict=True):
        near_x, near_y = min(max(name.x, box.left), box.right), min(max(name.y, box.top), box.bottom)
        if (near_x - name.x) ** 2 + (near_y - name.y) ** 2 > _LEADER_FROM**2:
            canvas.line(name.x, name.y, near_x, near_y, "leader")
        canvas.text((box.left + box.right) / 2, box.bottom - 4, name.text, name.kind, "middle")


def whisker_boxes(
    x: float, y: float, across: tuple[float, float] | None, upwards: tuple[float, float] | None
) -> list[Box]:
    """A point's two whiskers as obstacles that a name may touch if it must; ends in pixels."""
    boxes = [] if across is None else [Box(min(across), y - 2, max(across), y + 2, 0.35)]
    return boxes if upwards is None else [*boxes, Box(x - 2, min(upwards), x + 2, max(upwards), 0.35)]


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
