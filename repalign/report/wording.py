"""How numbers and names are written in every table, figure and page."""

import json
import math
import re
from collections.abc import Sequence

SHOWN_SKIPPED = 5


def number(value: float | int, digits: int = 2) -> str:
    """Write a score with a true minus sign; "undefined" when it is NaN."""
    if math.isnan(value):
        return "undefined"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def interval(low: float, high: float, digits: int = 2) -> str:
    """Write an interval as "[low, high]"."""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def probability(p: float) -> str:
    """Write a p- or q-value: three decimals, "<0.001" below, nothing where there is none."""
    if math.isnan(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def significant(value: float, digits: int = 3) -> str:
    """Write a number of any size with so many digits; "undefined" when it is NaN."""
    return "undefined" if math.isnan(value) else f"{value:.{digits}g}".replace("-", "−")


def per_cent(share: float) -> str:
    """Write a share, 0..1, as "83 %"; nothing where it is unknown."""
    return "" if math.isnan(share) else f"{100 * share:.0f} %"


def share(part: float) -> str:
    """Write a small share, 0..1, to two digits: "2.1 %", "<0.01 %"; nothing where it is unknown."""
    if math.isnan(part):
        return ""
    return "<0.01 %" if 0 < part < 1e-4 else f"{100 * part:.2g} %" if part < 0.1 else per_cent(part)


def listed(words: list[str], last: str = "and") -> str:
    """Join words as a sentence does: "a, b and c"."""
    return f" {last} ".join(part for part in (", ".join(words[:-1]), words[-1] if words else "") if part)


def counted(n: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun: "1,024 pictures", "1 group"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def big(n: float | int) -> str:
    """Write a number of parameters in short: "710 k", "8.6 M", "86 M", "912"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            short = n / size
            return f"{short:.2g} {unit}" if short < 10 else f"{short:.0f} {unit}"
    return f"{n:.0f}"


def shorten(name: str, most: int = 24) -> str:
    """Abbreviate a long dotted name and never cut a number in it.

    Words in front shrink to a letter ("e.l.11.output.dense"), then they go ("…11.output.dense"), then what follows
    the last number ("e.l.11.…"), and at last the middle.
    """
    parts = name.split(".")
    for k, part in enumerate(parts[:-1]):
        if len(".".join(parts)) > most and not part.isdigit():
            parts[k] = part[:1]
    numbers = [k for k, part in enumerate(parts) if part.isdigit()]
    tries = [".".join(parts)]
    if numbers:
        tries.append("…" + ".".join(parts[numbers[0] :]))
        tries.append(".".join(parts[: numbers[-1] + 1]) + ".…")
    return next(short for short in [*tries, clip(name, most)] if len(short) <= most)


def clip(text: str, most: int) -> str:
    """Cut the middle out of a text that is too long; its end keeps two thirds."""
    if len(text) <= most:
        return text
    head = (most - 1) // 3
    return f"{text[:head]}…{text[-(most - 1 - head) :]}"


def ticks(n: int, most: int) -> list[int]:
    """Choose at most `most` of n places, as evenly as whole steps allow, the first and the last among them."""
    if n <= most:
        return list(range(n))
    gaps = (n - 1) // math.ceil((n - 1) / (most - 1))
    return [round(k * (n - 1) / gaps) for k in range(gaps + 1)]


def slug(text: str) -> str:
    """Make a file name of a metric's id."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip(".-") or "metric"


def plain(value: object) -> str:
    """Write a value of the configuration as a person would."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and not any(isinstance(v, dict | list) for v in value):
        return ", ".join(plain(v) for v in value)
    return json.dumps(value, ensure_ascii=False)


def said_of_skipped(name: str, skipped: Sequence[Sequence[str]]) -> list[str]:
    """Say how many files of `name` were left out, the first of them with the reason; nothing when none was."""
    if not skipped:
        return []
    shown = "; ".join(f"{one} ({reason})" for one, reason in skipped[:SHOWN_SKIPPED])
    more = f"; and {len(skipped) - SHOWN_SKIPPED:,} more" if len(skipped) > SHOWN_SKIPPED else ""
    left = "is left out" if len(skipped) == 1 else "are left out"
    return [f"{counted(len(skipped), 'file')} of {name} could not be read and {left}: {shown}{more}."]
