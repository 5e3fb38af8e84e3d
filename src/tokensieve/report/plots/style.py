"""One colour and one mark for each arm, the same in every plot; no two arms differ by colour alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tokensieve.report.plots.canvas import Shape
from tokensieve.report.schema import REFERENCE_ARM, ArmReport
from tokensieve.selection import parse_policy

_COLOURS: Final = 6
_SHAPES: Final[tuple[Shape, ...]] = ("circle", "diamond", "up", "down", "circle", "diamond")


@dataclass(frozen=True, slots=True)
class ArmStyle:
    """Colour and mark of an arm.

    Attributes:
        colour: class of the page's style sheet.
        shape: of its mark.
    """

    colour: str
    shape: Shape


def arm_styles(arms: Sequence[ArmReport]) -> dict[str, ArmStyle]:
    """Arm name to style: the reference is a square, controls are grey crosses, the others take turns."""
    styles: dict[str, ArmStyle] = {}
    others = 0
    for arm in arms:
        if arm.name == REFERENCE_ARM:
            styles[arm.name] = ArmStyle("arm-reference", "square")
        elif parse_policy(arm.policy).traits.control:
            styles[arm.name] = ArmStyle("arm-control", "cross")
        else:
            styles[arm.name] = ArmStyle(f"arm-{others % _COLOURS}", _SHAPES[others % len(_SHAPES)])
            others += 1
    return styles
