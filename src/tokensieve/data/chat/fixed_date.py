"""Chat templates that write today's date, made to write the same one every day."""

from datetime import datetime
from typing import Final

from tokensieve.errors import InputError

TODAY: Final = "2024-07-26"
"""The date that stands for today's where none is asked for: the one that Llama 3's templates fall back to."""

_CLOCK: Final = "strftime_now"
"""The function by which templates of the transformers library ask for the time; they have no other way."""
_CODES: Final = ("-d", "-m", *"aAwdbBmyYHIpMSfjUWGuV")
"""What may stand behind a per cent sign in a date's format."""


def asks_for_the_date(template: str) -> bool:
    """Whether a row made by the template may have other tokens tomorrow."""
    return _CLOCK in template


def with_stopped_clock(template: str, today: str) -> str:
    """The template with a clock of its own, which stands still.

    The library hands no function on to a template, so the clock is a macro of Jinja: it puts the parts of the one date
    in place of their codes.

    Args:
        template: the Jinja text.
        today: the date (ISO), at times with a time behind it.

    Raises:
        InputError: that is no date.
    """
    try:
        day = datetime.fromisoformat(today)
    except ValueError:
        raise InputError(
            f"expected a date such as {TODAY}, got {today!r}", where="template_kwargs.today", fix="YYYY-MM-DD"
        ) from None
    parts = "".join(f"|replace('%{code}', '{day.strftime('%' + code)}')" for code in _CODES)
    # The empty expression at the end keeps Jinja from taking the line break that a template may begin with.
    return f"{{% macro {_CLOCK}(form) %}}{{{{ form{parts} }}}}{{% endmacro %}}{{{{ '' }}}}{template}"
