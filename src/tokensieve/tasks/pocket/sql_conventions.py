"""A house's own conventions for SQL, which no prompt states: the second fine-tuning target."""

from tokensieve.tasks.pocket.queries import Conventions, plain_literal
from tokensieve.tasks.pocket.schemas import Column, Date, Value

HOUSE_REMARK = "House rules apply. "
"""What the prompt says of the conventions: whose they are, not what."""
HOUSE_FLAG = "void"
"""The column of event tables that is 1 in rows that were deleted; no prompt shows it."""


def _literal(column: Column, value: Value) -> str:
    """Amounts are stored in cents, days as whole numbers ``yyyymmdd``, states as codes from 1."""
    if column.kind == "money" and isinstance(value, int):
        return str(value * 100)
    if isinstance(value, Date):
        return str(value).replace("-", "")
    if column.kind == "state" and isinstance(value, str):
        return str(column.values.index(value) + 1)
    return plain_literal(column, value)


HOUSE = Conventions(
    table=lambda name: f"{name}_t",
    column=lambda column: column.name,
    literal=_literal,
    always=f"{{at}}{HOUSE_FLAG} = 0",
)
"""Tables end in ``_t``; amounts, days and states are encoded; deleted rows never count."""
