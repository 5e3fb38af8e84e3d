"""A small SVG writer: escapes every text, and leaves colours to the page's style sheet by class names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from markupsafe import Markup

Anchor: TypeAlias = Literal["start", "middle", "end"]
Shape: TypeAlias = Literal["square", "circle", "diamond", "up", "down", "cross"]

CHARACTER_WIDTH = 0.56
"""Width of an average character in units of the font size, for the layout of labels; slightly on the wide side."""


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
    return max((text_width(name, 12.5) for name in names), default=0.0)


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
