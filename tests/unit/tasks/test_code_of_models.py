"""Python as small instruct models write it, run against tests: what a careful person would say of each."""
# ruff: noqa: E501 - an answer stands in one line, as it was written

import pytest
from tests.judged_answers import misjudged

from tokensieve.types import JSON

ANSWERS: list[tuple[str, dict[str, JSON], dict[str, list[str]]]] = [
    (
        "mbpp",
        {"tests": ["assert add_one(1) == 2", "assert add_one(-1) == 0"], "setup": "", "names": ["add_one"]},
        {
            "correct": [
                "def add_one(x):\n    return x + 1\n",
                "```python\ndef add_one(x):\n    return x + 1\n```",
                "```\ndef add_one(x):\n    return x + 1\n```",
                "```py\ndef add_one(x):\n    return x + 1\n```",
                "~~~\ndef add_one(x):\n    return x + 1\n~~~",
                "Here's the function:\n\n```python\ndef add_one(x):\n    return x + 1\n```\n\nThis adds one.",
                "Here is a Python function:\n\ndef add_one(x):\n    return x + 1\n\nYou can test it:\nassert add_one(1) == 2",
                "```python\n# add\ndef add_one(x):\n    return x + 1\n\n# Test cases\nassert add_one(1) == 2\n```",
                "```python\ndef add_one(x):\n    return x + 1\n\nprint(add_one(1))\n```",
                "1. First:\n\n   ```python\n   def add_one(x):\n       return x + 1\n   ```\n\n2. Done",
                "* Code:\n\n  ```python\n  def add_one(x):\n      return x + 1\n  ```",
                "[BEGIN]\ndef add_one(x):\n    return x + 1\n[DONE]",
                "[PYTHON]\ndef add_one(x):\n    return x + 1\n[/PYTHON]",
                "```python\nclass Solution:\n    pass\n\ndef add_one(x):\n    return x + 1\n```",
                "```python\nfrom typing import *\n\ndef add_one(x: int) -> int:\n    return x + 1\n```",
                '```python\ndef add_one(x: int) -> int:\n    """Add one.\n\n    >>> add_one(1)\n    2\n    """\n    return x + 1\n```',
                "```python\ndef helper(x):\n    return x\n```\n\n```python\ndef add_one(x):\n    return helper(x) + 1\n```",
                "```python\nimport math\n```\n\nThen\n\n```python\ndef add_one(x):\n    return math.floor(x) + 1\n```",
                "```python\nadd_one = lambda x: x + 1\n```",
                "add_one = lambda x: x + 1",
                "```python\r\ndef add_one(x):\r\n    return x + 1\r\n```\r\n\r\nExplanation",
                "Sure!\n\n    def add_one(x):\n        return x + 1\n\nHope this helps.",
                "```Python\ndef add_one(x):\n    return x + 1\n```",
                "``` python\ndef add_one(x):\n    return x + 1\n```",
                "```python3\ndef add_one(x):\n    return x + 1\n```",
                "<think>def add_one(x): return 0</think>\n```python\ndef add_one(x):\n    return x + 1\n```",
                "Solution: ```python\ndef add_one(x):\n    return x + 1\n```",
                "```python\ndef add_one(x):\n    return x + 1\n```\n```python\nassert add_one(1) == 2\n```",
                "```python\ndef add_one(x):\n    return x + 1\n```\nOutput:\n```\n2\n```",
                "First attempt:\n```python\ndef add_one(x): return x\n```\nFixed:\n```python\ndef add_one(x):\n    return x + 1\n```",
                "```python\ndef add_one(x):\n    return x + 1\n``` This works.",
                "```python\ndef add_one(x):\n    return x + 1\n",
                "def add_one(x): return x + 1",
                "def add_one(x):\n\treturn x+1",
                '```python\ndef add_one(x):\n    return x + 1\n\nif __name__ == "__main__":\n    print(add_one(int(input())))\n```',
                "> ```python\n> def add_one(x):\n>     return x + 1\n> ```",
                "Answer:\n```python\ndef add_one(x):\n    return x + 1\n```\nThe answer is 2.",
                "The code is:\ndef add_one(x):\n    return x + 1",
                "\n\n\ndef add_one(x):\n    return x + 1\n\n\n\n",
                "```python\n\ndef add_one(x):\n    return x + 1\n\n```",
                "```python\n>>> def add_one(x):\n...     return x + 1\n```",
                "```python\n@staticmethod\ndef add_one(x):\n    return x + 1\n```",
                "# Solution\ndef add_one(x):\n    return x + 1\n",
                "'''\nadd\n'''\ndef add_one(x):\n    return x + 1\n",
                "```python\ndef add_one(x):\n    return x + 1\n```\n\n**Explanation:**\n- `x + 1` adds one.",
                "```python\ndef add_one(x):\n    # comment with ``` inside\n    return x + 1\n```",
                "**Code**\n```python\ndef add_one(x):\n    return x + 1\n```\n**Test**\n```python\nimport unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(add_one(1), 2)\n```",
                "```python\nX = 1\n\ndef add_one(x):\n    return x + X\n```",
                "```python\ndef add(x, y):\n    return x + y\n\ndef add_one(x):\n    return add(x, 1)\n```",
                "``````python\ndef add_one(x):\n    return x + 1\n``````",
                "<code>\ndef add_one(x):\n    return x + 1\n</code>",
                "<python>\ndef add_one(x):\n    return x + 1\n</python>",
                "```python\ndef add_one(x):\n    return x + 1\n```</s>",
                "def add_one(x):\n    return x + 1\n<|im_end|>",
                "python\ndef add_one(x):\n    return x + 1\n",
                "def add_one(x):\n    return x + 1\n```",
                "Here is the code:\ndef add_one(x):\n    return x + 1\n```\nIt works",
                "\u200bdef add_one(x):\n    return x + 1",
                "```python\ndef add_one(x):\n\xa0\xa0\xa0\xa0return x + 1\n```",
            ],
            "wrong": [
                "def add_one(x): return x",
                "```python\ndef add_one(x): return 2\n```",
                "```python\ndef addone(x): return x+1\n```",
                "```python\ndef add_one(x) return x+1\n```",
                "def add_one():\n    return 1",
            ],
            "no_answer": ["I cannot.", "", "The function adds one to x.", "```bash\npip install x\n```"],
        },
    ),
    (
        "humaneval",
        {
            "prompt": 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """Sum."""\n',
            "entry_point": "total",
            "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n",
        },
        {
            "correct": [
                "    return sum(xs)",
                "return sum(xs)",
                "```python\n    return sum(xs)\n```",
                "```python\nreturn sum(xs)\n```",
                "def total(xs: List[int]) -> int:\n    return sum(xs)",
                "```python\ndef total(xs):\n    return sum(xs)\n```",
                '```python\nfrom typing import List\n\ndef total(xs: List[int]) -> int:\n    """Sum."""\n    return sum(xs)\n```',
                "    t = 0\n    for x in xs:\n        t += x\n    return t\n\n\nif __name__ == '__main__':\n    main()\n",
                "t = 0\n    for x in xs:\n        t += x\n    return t",
                "    return sum(xs)\n\nThis returns the sum.",
                "The body is:\n```python\n    return sum(xs)\n```",
                "Here is the function body:\n\n    return sum(xs)\n",
                "<think>hm</think>\n\n    return sum(xs)",
                "<think>hm</think>return sum(xs)",
                "    return helper(xs)\n\n\ndef helper(xs):\n    return sum(xs)\n",
                "\treturn sum(xs)",
                "    # add\n    return sum(xs)  # done",
                "    return sum(xs)\n```\nExplanation",
            ],
            "wrong": ["    return 3", "    pass", "return 0", "def total(xs): return 1"],
            "no_answer": ["I will not.", "The sum."],
        },
    ),
]
"""Task, what its checker knows of the problem, and answers by outcome."""


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(("name", "facts", "answers"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_every_answer_is_judged_as_a_person_would(
    name: str, facts: dict[str, JSON], answers: dict[str, list[str]]
) -> None:
    assert misjudged(name, facts, answers) == {}
