"""Anchors as training rows: every response token trained, so that any trainer can rehearse them by cross-entropy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

from tokensieve.data.dataset import Rows, as_rows, open_rows
from tokensieve.types import BASE_SCORER, Anchor, Scored, Selected

_POLICY: Final = "plain"


def as_training_rows(given: object) -> Rows[Selected]:
    """Selected rows, or anchors with every response token trained.

    Args:
        given: rows of either stage, or their folder.

    Raises:
        InputError: rows of another stage, or something else.
    """
    rows = given
    if isinstance(given, str | Path):
        opened = open_rows(given)
        rows = opened if opened.manifest.stage == "anchors" else given
    if isinstance(rows, Rows) and rows.manifest.stage == "anchors":
        return _trained(cast("Rows[Anchor]", rows))
    return as_rows(Selected, rows)


def _trained(anchors: Rows[Anchor]) -> Rows[Selected]:
    """The anchors' tokens as a selection by the policy plain; without scores, which nothing has been left out by."""
    settings = {**anchors.manifest.settings, "policy": _POLICY, "scorer": BASE_SCORER}
    manifest = anchors.manifest.model_copy(update={"stage": "selected", "settings": settings, "facts": {}})

    def iterate() -> Iterator[Selected]:
        for anchor in anchors:
            yield Selected(Scored(anchor.tokens, {}), anchor.tokens.in_response_T.copy())

    return Rows(manifest, iterate, anchors.folder)
