"""The estimate grows with what is to be done and leaves out what is not."""

from tests.conftest import ModelFactory
from tests.selected_rows import make_rows

from tokensieve.anchors.cost import estimate_seconds
from tokensieve.config import AnchorSettings


def test_seconds_follow_the_sizes(tiny_model: ModelFactory) -> None:
    base = tiny_model()
    few, many = (estimate_seconds(AnchorSettings(candidates=n), base, make_rows()) for n in (100, 10_000))
    assert few.keys() == many.keys() == {"candidates", "pilot", "drift"}
    assert many["candidates"] > 10 * few["candidates"] > 0
    assert many["drift"] > 10 * few["drift"] > 0
    text = estimate_seconds(AnchorSettings(source="text", data="x"), base, None)
    assert (text["candidates"], text["pilot"]) == (0, 0)
