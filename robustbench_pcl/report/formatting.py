"""Numbers and names as readers see them, in every format the same."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, TypeVar

from robustbench_pcl.paper.tables import Quantity

if TYPE_CHECKING:
    import pandas as pd

K = TypeVar("K", bound=Hashable)

MISSING = "–"
USUAL_STEPS = 17
"""Budgets up to 16/255 are commonly written so; larger ones that happen to fit are not."""
MINUS = "\N{MINUS SIGN}"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet begins to compute at."""
DIGITS = 10
"""Decimals that are kept, so that 0.565 is 56.5 per cent in files too."""
BYTES = ("kB", "MB", "GB", "TB")
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def per_cent(fraction: float) -> float:
    """A fraction in per cent, without the rounding errors of binary fractions."""
    return round(100 * fraction, DIGITS)


def show_measured(value: float | None, quantity: Quantity = "accuracy") -> str:
    """A measured number: per cent and seconds to one decimal, epochs whole.

    Seconds below ten keep two digits, because a small model's epoch takes a fraction of a second.
    """
    if value is None:
        return MISSING
    if quantity == "epochs":
        return f"{value:.0f}"
    if quantity == "seconds_per_epoch" and 0 < value < 10:
        return f"{value:#.2g}".rstrip(".")
    return f"{value:.1f}".replace("100.0", "100")  # one column narrower


def show_published(value: float | None, quantity: Quantity = "accuracy") -> str:
    """A published number with the paper's one or two decimals."""
    if value is None:
        return MISSING
    if quantity == "epochs":
        return f"{value:.0f}"
    return f"{value:.1f}" if value == round(value, 1) else f"{value:.2f}"


def show_difference(value: float | None, quantity: Quantity = "accuracy") -> str:
    """How far a measured number is from the published one, with its sign; "" if one is missing."""
    if value is None:
        return ""
    size = show_measured(abs(value), quantity)
    if float(size) == 0:
        return size
    return f"{'+' if value > 0 else MINUS}{size}"


def show_bytes(size: float) -> str:
    """A size on the disk: "812 B", "4.2 kB", "1.3 GB"."""
    if size < 1000:
        return f"{size:.0f} B"
    power = min(int(math.log(size, 1000)), len(BYTES))
    return f"{size / 1000**power:.1f} {BYTES[power - 1]}"


def show_interval(interval: tuple[float, float]) -> str:
    """An interval in per cent, "86.9 to 88.2"."""
    return " to ".join(map(show_measured, interval))


def show_budget(eps: float | None, c: float | None) -> str:
    """A section's attack budgets, for instance ``eps = 8/255, c = 0.1``."""
    parts = []
    if eps is not None:
        steps = eps * 255
        usual = steps < USUAL_STEPS and abs(steps - round(steps)) < 1e-6 and len(f"{eps:g}") > 5
        parts.append(f"eps = {steps:.0f}/255" if usual else f"eps = {eps:.3g}")
    if c is not None:
        parts.append(f"c = {c:g}")
    return ", ".join(parts)


def short_code(code: str) -> str:
    """A verdict's code where a heading says what it is: "103" for "PCL103"."""
    return code.replace("PCL", "")


def superscript(number: int) -> str:
    """A remark's number, raised."""
    return str(number).translate(_SUPERSCRIPTS)


def percent(value: float | str) -> str:
    """A share with its sign, which no line break parts from it."""
    number = value if isinstance(value, str) else f"{value:.1f}"
    return f"{number}\N{NO-BREAK SPACE}%"


def listed(words: Iterable[str]) -> str:
    """Words as a sentence lists them: "", "a", "a and b", "a, b and c"."""
    *first, last = words or ("",)
    return f"{', '.join(first)} and {last}" if first else last


def span(numbers: Iterable[float]) -> str:
    """Numbers as their range: "15" or "500 to 1,000"."""
    values = set(numbers)
    low, high = min(values), max(values)
    return f"{low:,g}" if low == high else f"{low:,g} to {high:,g}"


def csv_text(frame: pd.DataFrame, *, header: bool = True) -> str:
    """A frame as CSV. A cell that a spreadsheet would take for a formula begins with ``'`` there.

    Numbers are numbers, also negative ones and those that are text.
    """
    safe = frame.copy()
    for name in frame.select_dtypes(["object", "string"]):
        cells = [_no_formula(cell) for cell in frame[name]]
        safe[name] = type(frame[name])(cells, index=frame.index, dtype=object)
    text: str = safe.to_csv(index=False, header=header, lineterminator="\n")
    return text


def _no_formula(cell: object) -> object:
    if not isinstance(cell, str) or not cell.startswith(FORMULA):
        return cell
    with contextlib.suppress(ValueError):
        float(cell)
        return cell
    return f"'{cell}"


def grouped(pairs: Iterable[tuple[K, str]]) -> dict[K, list[str]]:
    """What each key goes with, in order, once."""
    groups: dict[K, dict[str, None]] = defaultdict(dict)
    for key, value in pairs:
        groups[key][value] = None
    return {key: list(values) for key, values in groups.items()}
