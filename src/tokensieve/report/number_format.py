"""Numbers as text, one way throughout the page and the verdict: true minus signs, thin spaces, a dash for undefined."""

import math

from tokensieve.metrics import Estimate

UNDEFINED = "–"
_NARROW_SPACE = "\u202f"
_MINUS = "\u2212"


def percent(fraction: float | None, digits: int = 0) -> str:
    """A fraction in [0, 1] as percent."""
    return UNDEFINED if fraction is None else f"{number(100 * fraction, digits)}{_NARROW_SPACE}%"


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands separated by thin spaces; never a negative zero."""
    if value is None:
        return UNDEFINED
    rounded = round(value, digits) + 0.0
    return f"{rounded:,.{digits}f}".replace("-", _MINUS).replace(",", _NARROW_SPACE)


def signed(value: float | None, digits: int = 1) -> str:
    """A change: always with its sign, except for what rounds to 0."""
    if value is None:
        return UNDEFINED
    text = number(value, digits)
    return f"+{text}" if round(value, digits) > 0 else text


def tick(value: float) -> str:
    """A signed value at an axis, with as many decimals as it has."""
    digits = next((digits for digits in range(4) if math.isclose(value, round(value, digits), abs_tol=1e-9)), 4)
    return signed(value, digits)


def digits_for(estimate: Estimate, unit: str = "%") -> int:
    """Decimals of a change and its interval: three of nats, else one, none where a thousand percent make it noise."""
    if unit == "nats":
        return 3
    ends = (estimate.value, estimate.low, estimate.high)
    return 0 if any(value is not None and abs(value) >= 1000 for value in ends) else 1


def interval(estimate: Estimate, digits: int = 1, scale: float = 1.0, *, signs: bool = True) -> str:
    """The interval alone, as "low to high"; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    show = signed if signs else number
    return f"{show(scale * estimate.low, digits)} to {show(scale * estimate.high, digits)}"


def change(estimate: Estimate, unit: str) -> str:
    """A change with its unit and interval, for running text: "+12.3 % (+4.0 to +20.1)"."""
    if estimate.value is None:
        return "undefined"
    digits = digits_for(estimate, unit)
    ends = interval(estimate, digits)
    return f"{signed(estimate.value, digits)}{_NARROW_SPACE}{unit}" + (f" ({ends})" if ends else "")


def perplexity(value: float | None) -> str:
    """A perplexity with three significant digits, large ones without decimals."""
    if value is None:
        return UNDEFINED
    if value >= 100:
        return number(value) if value < 1e7 else f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
    return f"{value:.3g}" if value >= 10 else f"{value:.2f}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds is None:
        return UNDEFINED
    if seconds < 59.95:
        return f"{seconds:.1f}{_NARROW_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_NARROW_SPACE}min {rest:02d}{_NARROW_SPACE}s"
    return f"{minutes // 60}{_NARROW_SPACE}h {minutes % 60:02d}{_NARROW_SPACE}min"


def count(value: int | None, one: str, many: str = "") -> str:
    """A number of things: "1 row", "1 200 rows"."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def learning_rate(value: float) -> str:
    """A learning rate with at most four significant digits, always with an exponent: 5e-5, 1.5e-4."""
    mantissa, _, exponent = f"{value:.3e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) that lie within [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) + 0.0 for index in range(first, last + 1)]
