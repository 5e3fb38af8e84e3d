"""Code and queries in answers, as models write them."""
# ruff: noqa: E501 - an answer stands in one line

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.tasks.answer_blocks import blocks, parses, unclosed_block
from tokensieve.tasks.answer_code import code, query
from tokensieve.tasks.humaneval import function_body

FORMS = {
    "two": "```python\nimport math\n```\nand\n```python\ndef f(x): return math.floor(x)+1\n```",
    "helper": "```python\ndef g(x):\n    return x + 1\n```\nThen\n```python\ndef f(x):\n    return g(x)\n```",
    "helper after": "```python\ndef f(x):\n    return g(x)\n```\nwhere\n```python\ndef g(x):\n    return x + 1\n```\nUse:\n```python\nprint(f(input()))\n```",
    "versions": "```python\ndef f(x): return 0\n```\nBetter:\n```python\ndef f(x): return 2\n```",
    "list": "1. Define it:\n   ```python\n   def f(x):\n       return x + 1\n   ```\n2. Use it.",
    "list mark": "- ```python\n  def f(x):\n      return x + 1\n  ```\n",
    "crlf": "Sure\r\n```python\r\ndef f(x):\r\n    return x + 1\r\n```\r\nThat adds one.\r\n",
    "behind": "```python\ndef f(x):\n    return x + 1\n``` That adds one.\nBye",
    "four": "Here is the function:\n\n    def f(x):\n        return x + 1\n\nIt adds one.",
    "four in fence": "```python\n    def f(x):\n        return x + 1\n```",
    "tilde": "~~~python\ndef f(x):\n    return x + 1\n~~~\nok",
    "nolang": "```\ndef f(x):\n    return x + 1\n```",
    "nolang tabs": "\t```\n\tdef f(x):\n\t    return x + 1\n\t```",
    "word before": "Here is the code: ```python\ndef f(x):\n    return x + 1\n```",
    "one line": "```python def f(x): return x + 1```",
    "one line2": "Use ```def f(x): return x + 1``` please",
    "end of line": "```python\ndef f(x):\n    return x + 1```\nok",
    "never closed then again": "```python\nimport math\n```python\ndef f(x):\n    return math.floor(x) + 1\n```",
    "docstring fence": '```python\ndef f(x):\n    """Add.\n\n    ```\n    f(1)\n    ```\n    """\n    return x + 1\n```',
    "pycon": "```python\n>>> def f(x):\n...     return x + 1\n>>> f(1)\n2\n```",
    "output block": "```python\ndef f(x):\n    return x + 1\n```\nOutput:\n```\n2 is the output\n```",
    "python3": "```Python3\ndef f(x):\n    return x + 1\n```",
    "title": '```python title="a.py"\ndef f(x):\n    return x + 1\n```',
    "attr": "```{.python}\ndef f(x):\n    return x + 1\n```",
    "quote": "> ```python\n> def f(x):\n>     return x + 1\n> ```\n",
    "guarded import": "```python\ntry:\n    import numpy as np\nexcept ImportError:\n    np = None\n```\n```python\ndef f(x):\n    return x + 1 if np is None else int(np.add(x, 1))\n```",
    "counted up": "```python\nK = 0\nK += 1\n```\n```python\ndef f(x):\n    return x + K\n```",
    "under a condition": "```python\nif True:\n    K = 1\n```\n```python\ndef f(x):\n    return x + K\n```",
    "sketch behind": '```python\ndef f(x):\n    return x + 1\n```\nIts form:\n```python\ndef f(x):\n    """Add."""\n    ...\n```',
    "notebook": "```python\n!pip install numpy\n%matplotlib inline\ndef f(x):\n    return x + 1\n```",
    "lambda": "```python\nf = lambda x: x + 1\n```",
    "class+imports": "```python\nfrom typing import List\n```\n```python\ndef f(x: List[int]) -> int:\n    return x + 1\n```",
    "const": "```python\nONE = 1\n```\n```python\ndef f(x):\n    return x + ONE\n```",
    "dep chain": "```python\nimport math\ndef h(x): return math.floor(x)\n```\n```python\ndef g(x): return h(x)\n```\n```python\ndef f(x): return g(x) + 1\n```",
    "plain": "def f(x):\n    return x + 1\n\nThis works.",
    "prose first": "Sure! Here you go:\ndef f(x):\n    return x + 1",
    "four backticks": "````python\ndef f(x):\n    return x + 1\n````",
    "decorated helper": "```python\nimport functools\n\n@functools.cache\ndef g(x): return x + 1\n```\n```python\ndef f(x): return g(x)\n```",
    "text lang": "```text\ndef f(x):\n    return x + 1\n```",
    "inline mention": "The function `f` uses ```x``` here.\n```python\ndef f(x):\n    return x + 1\n```",
    "unclosed": "```python\ndef f(x):\n    return x + 1",
    "test block": "```python\ndef f(x):\n    return x + 1\n```\nTests:\n```python\nassert f(1) == 3\n```",
    "asterisk imports": "```python\nfrom math import *\n```\n```python\ndef f(x):\n    return floor(x) + 1\n```",
    "global": "```python\nimport re\n\ndef f(x):\n    return x + 1\n\nprint(f(3))\n```",
}
"""Texts whose code defines ``f`` so that f(1) is 2."""


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_the_code_of_a_text_runs(text: str) -> None:
    source = code(text, ["f"])
    assert source is not None
    defined: dict[str, object] = {}
    exec(source, defined)
    assert defined["f"](1) == 2  # type: ignore[operator]


def test_only_what_is_needed_of_other_blocks_is_taken() -> None:
    text = "```python\nimport os\ninput()\n```\n```python\ndef f(): return g()\n```\n```python\ndef g(): pass\nf()\n```"
    assert code(text, ["f"]) == "def g(): pass\n\ndef f(): return g()\n"


def test_of_two_versions_the_later_counts() -> None:
    text = "First:\n```python\ndef f(): return 0\n```\nFixed:\n```python\ndef f(): return 1\n```\nUse:\n```\nf()\n```"
    assert code(text, ["f"]) == "def f(): return 1\n"
    assert code(text, ["h"]) == "def f(): return 0\n\ndef f(): return 1\n\nf()\n"


def test_code_without_a_block() -> None:
    assert code("def f():\r\n\treturn 1") == "def f():\r\n\treturn 1"
    assert code("Here it is:\n\ndef f():\n    return 1\n\nHope it helps!") == "def f():\n    return 1\n\n"
    assert code("Sorry, I cannot do that.") is None
    assert code("") is None
    assert code("Here it is:\ndef f(:\n") == "def f(:\n"


def test_code_between_the_marks_of_published_prompts() -> None:
    assert code("[BEGIN]\r\ndef f(): return 1\n[DONE]\nThat is it.") == "def f(): return 1\n"
    assert code("Sure.\n[PYTHON]\ndef f():\n    return 1\n[/PYTHON]") == "def f():\n    return 1\n"
    assert code("[BEGIN]\ndef f():\n    return 1") == "def f():\n    return 1"
    assert code("[BEGIN]\nnothing to see\n[DONE]") is None
    assert code("def f(BEGIN, x):\n    return x[BEGIN]") == "def f(BEGIN, x):\n    return x[BEGIN]"


def test_code_in_other_languages_is_not_python() -> None:
    assert code("```bash\nls\n```") is None
    assert code("```javascript\nclass A {}\n```") is None


def test_unclosed_block() -> None:
    assert unclosed_block("```python\ndef f(:")
    assert not unclosed_block("```python\nx\n```")
    assert not unclosed_block("```python\nx\n``` and words")
    assert code("```python\ndef f():\n    return") == "def f():\n    return"
    assert [(block.language, block.closed) for block in blocks("```sql\nx\n```\n~~~\ny")] == [
        ("sql", True),
        ("", False),
    ]


PROMPT = 'from typing import List\n\ndef total(xs: List[int]) -> int:\n    """Sum."""\n'


@pytest.mark.parametrize(
    "body",
    [
        "    return sum(xs)\n",
        "return sum(xs)",
        "    t = 0\n    for x in xs:\n        t += x\n    return t",
        "t = 0\n    for x in xs:\n        t += x\n    return t",
        "t = 0\nfor x in xs:\n    t += x\nreturn t",
        "```python\n    return sum(xs)\n```",
        "```python\nreturn sum(xs)\n```",
        "\n    return sum(xs)\n\nThis sums.",
        "  return sum(xs)",
        "\treturn sum(xs)",
        "    return sum(xs)\n\n\ndef other():\n    pass\n",
        "for x in xs:\n        pass\n    return sum(xs)",
        "    # sum\n    return sum(xs)",
        "if not xs:\n        return 0\n    return sum(xs)\n\nThat is all",
        "        return sum(xs)",
    ],
)
def test_a_body_with_or_without_its_indent(body: str) -> None:
    program = function_body(PROMPT, body, "total")
    assert program is not None
    defined: dict[str, object] = {}
    exec(program, defined)
    assert defined["total"]([1, 2]) == 3  # type: ignore[operator]


@pytest.mark.parametrize("text", ["I would rather not.", "", "Sorry", "The answer is 5.", "```python\n```"])
def test_what_is_no_body(text: str) -> None:
    assert function_body(PROMPT, text, "total") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SELECT 1", "SELECT 1"),
        ("```sql\nSELECT a FROM t;\n```", "SELECT a FROM t;"),
        ("Sure:\nselect a\nfrom t;\nThis lists a.", "select a\nfrom t;"),
        ("WITH c AS (SELECT 1) SELECT * FROM c", "WITH c AS (SELECT 1) SELECT * FROM c"),
        ("I do not know", None),
        ("With the tables above, the query is:\nSELECT a FROM t", "SELECT a FROM t"),
        ("We select all cities:\n\nSELECT city FROM sale\n\nThis lists all.", "SELECT city FROM sale"),
        ("SELECT 1; This lists one", "SELECT 1;"),
        ("SELECT ';' AS a; x", "SELECT ';' AS a;"),
        ("```sql\nSELECT a FROM t\n```\nResult:\n```\n| a |\n```", "SELECT a FROM t"),
        ("```SQL\r\nSELECT a FROM t\r\n```\r\nok", "SELECT a FROM t"),
        ("1. ok\n   ```sql\n   SELECT a\n   FROM t\n   ```", "SELECT a\nFROM t"),
        ("`SELECT a FROM t`", "SELECT a FROM t"),
        ("The query is `SELECT a FROM t` .", "SELECT a FROM t"),
        ("~~~sql\nSELECT 1\n~~~", "SELECT 1"),
        ("SELECT a -- it; is\nFROM t;", "SELECT a -- it; is\nFROM t;"),
        ("```sql\nWITH x(a) AS (SELECT 1)\nSELECT a FROM x\n\n;\n```", "WITH x(a) AS (SELECT 1)\nSELECT a FROM x\n\n;"),
        ("SQL: SELECT a FROM t", "SELECT a FROM t"),
        ("```sqlite\nselect 1\n```", "select 1"),
        ("sql\nSELECT a FROM t", "SELECT a FROM t"),
        ("**SELECT a FROM t**", "SELECT a FROM t"),
    ],
)
def test_query(text: str, found: str | None) -> None:
    assert query(text) == found


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    code(text, ["f"])
    query(text)
    function_body(PROMPT, text, "total")


@pytest.mark.parametrize(
    "text",
    [
        "9" * 50000,
        "1 2/" * 20000,
        " " * 50000 + "x",
        "```" * 20000,
        "```\n" * 20000,
        "`" * 50000,
        "WITH a " * 10000,
        "SELECT '" * 10000,
        "x = 1\n" * 2000 + "(",
        "```python\n" * 500,
        "- " * 20000,
        "> " * 20000 + "```",
    ],
)
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    code(text, ["f"])
    query(text)
    assert time.process_time() - started < 3


@pytest.mark.parametrize("text", ["(" * 100_000, "-" * 100_000 + "1", "[" * 5000, "x = " + "f(" * 3000, "a." * 50_000])
def test_deep_nesting_does_not_take_the_process_down(text: str) -> None:
    assert not parses(text)
