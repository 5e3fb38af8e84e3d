"""The process that runs math-verify: reads pairs of gold and answer as JSON lines, writes what it finds.

A process of its own, since comparing two formulas can take for ever or all memory and is then killed from outside.
"""

import json
import sys
from functools import lru_cache

_MEMORY_BYTES = 2 << 30


def main() -> None:
    """Serve until standard input ends."""
    _limit_memory()
    import math_verify

    formulas = (math_verify.LatexExtractionConfig(boxed_match_priority=0), math_verify.ExprExtractionConfig())

    @lru_cache(maxsize=1024)
    def parsed_gold(text: str) -> list[object]:
        return list(math_verify.parse(f"\\boxed{{{text}}}", formulas, parsing_timeout=None))

    for line in sys.stdin:
        gold_text, answer_text = json.loads(line)
        # Its own time limits are signals in the main thread; the host's clock is the hard one.
        gold = parsed_gold(gold_text)
        answer = math_verify.parse(answer_text, formulas, parsing_timeout=None)
        equal = bool(gold) and bool(answer) and math_verify.verify(gold, answer, timeout_seconds=None)
        found = str(answer[-1]) if answer else None
        sys.stdout.write(json.dumps({"equal": equal, "found": found, "gold_parsed": bool(gold)}) + "\n")
        sys.stdout.flush()


def _limit_memory() -> None:
    if sys.platform == "win32":
        return
    import resource

    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    # More digits than this is no answer to a school problem, and arithmetic on them is how to hang a worker.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
