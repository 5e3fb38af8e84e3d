"""SQL as small instruct models write it, judged as a person would."""
# ruff: noqa: E501 - a query stands in one line, as it was written

import contextlib
import sqlite3
from pathlib import Path

from tokensieve.tasks import TASKS
from tokensieve.types import JSON, Problem

QUERIES = {
    "correct": [
        "SELECT DISTINCT city FROM sale",
        "SELECT DISTINCT city FROM sale;",
        "```sql\nSELECT DISTINCT city FROM sale;\n```",
        "```\nSELECT DISTINCT city FROM sale\n```",
        "Here is the query:\n\nSELECT DISTINCT city FROM sale;\n\nIt lists cities.",
        "Sure, here is the SQL query:\n```sql\nSELECT DISTINCT city\nFROM sale;\n```\nExplanation: SELECT picks.",
        "SQL: SELECT DISTINCT city FROM sale",
        "`SELECT DISTINCT city FROM sale`",
        "select distinct city from sale",
        "WITH c AS (SELECT city FROM sale) SELECT DISTINCT city FROM c",
        "With this schema we can select the city.\n\nSELECT DISTINCT city FROM sale",
        "SELECT DISTINCT city FROM sale -- all cities",
        "-- cities\nSELECT DISTINCT city FROM sale;",
        "```sql\n-- cities\nSELECT DISTINCT city FROM sale;\n```",
        "SELECT city FROM sale GROUP BY city\n\nThis groups.",
        "SELECT DISTINCT city FROM sale; This query lists.",
        "1. Query:\n   ```sql\n   SELECT DISTINCT city FROM sale\n   ```",
        "```sqlite\r\nSELECT DISTINCT city FROM sale\r\n```\r\nok",
        "<think>SELECT 1</think>SELECT DISTINCT city FROM sale",
        "**SELECT DISTINCT city FROM sale**",
        "The answer is: SELECT DISTINCT city FROM sale",
        "SELECT DISTINCT `city` FROM `sale`",
        "```sql\nSELECT DISTINCT city FROM sale\n```\n\nAlternatively:\n```sql\nSELECT city FROM sale GROUP BY city\n```",
        "SELECT DISTINCT city FROM sale\n```\ndone",
        "sql\nSELECT DISTINCT city FROM sale",
        "<sql>SELECT DISTINCT city FROM sale</sql>",
        "SELECT DISTINCT city FROM sale<|im_end|>",
        "SELECT\xa0DISTINCT city FROM sale",
        "(SELECT DISTINCT city FROM sale)",
        "SELECT DISTINCT city FROM sale\nThis lists all the cities.",
        "SELECT DISTINCT city FROM sale WHERE city <> ';'",
    ],
    "wrong": ["SELECT city FROM sale WHERE amount > 2", "SELECT town FROM sale", "SELECT 1"],
    "no_answer": ["I do not know.", "", "The cities are Oslo and Rome."],
}


def test_every_query_is_judged_as_a_person_would(tmp_path: Path, sandbox: str) -> None:
    database = tmp_path / "shop.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            "CREATE TABLE sale (id INTEGER PRIMARY KEY, city TEXT, amount REAL);"
            "INSERT INTO sale (city, amount) VALUES ('Oslo', 2.5), ('Oslo', 4), ('Rome', 1);"
        )
    facts: dict[str, JSON] = {"query": "SELECT DISTINCT city FROM sale"}
    problem = Problem("bird/1", "bird", ({"role": "user", "content": "?"},), "", facts, {"database": database})
    judged = {
        (outcome, text): TASKS["bird"].check(problem, text) for outcome, texts in QUERIES.items() for text in texts
    }
    assert {key: verdict for key, verdict in judged.items() if verdict.outcome.value != key[0]} == {}
