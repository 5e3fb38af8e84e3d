"""The registry of a YAML task's checkers, and the table of the documentation that lists them."""

import re
from pathlib import Path

from tokensieve.tasks.custom_checkers import CHECKERS

_PAGE = Path(__file__).parents[3] / "docs" / "benchmarks.md"


def test_the_page_lists_every_checker_with_its_keys() -> None:
    told = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", _PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {kind: (set(re.findall(r"`(\w+)`", keys)), does) for kind, keys, does in told if kind in CHECKERS}
    assert list(listed) == list(CHECKERS)
    for kind, (keys, does) in listed.items():
        assert does == CHECKERS[kind].does
        assert keys == CHECKERS[kind].settings.model_fields.keys() - {"kind"}, (
            "a kind takes no key that it does not use"
        )
