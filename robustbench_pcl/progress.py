"""Progress reporters, and the words for counts, sizes and times in what they say."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from robustbench_pcl.errors import UserError, visible

T = TypeVar("T")
_UNITS = (86400, 3600, 60, 1)
_DURATION = re.compile(
    r"\s*".join(rf"(?:(\d{{1,9}}(?:\.\d{{1,9}})?)\s*{unit})?" for unit in "dhms"), re.IGNORECASE
)
Advance = Callable[[float, str], None]
"""(units done since the last call, what to show beside the bar) -> None."""
PATIENCE_SECONDS = 2.0
"""A task that takes longer leaves a line when it is done."""
PLURALS = {"diagnosis": "diagnoses", "process": "processes"}
"""Words whose plural is not the word and an s."""


class Progress:
    """Reports nothing: the default of the Python API."""

    @contextlib.contextmanager
    def task(self, title: str, total: float) -> Iterator[Advance]:  # noqa: ARG002 - shows nothing
        """Report on a task of ``total`` units; call the result to advance it. Tasks may nest."""
        yield _ignore

    def say(self, message: str) -> None:
        """Print a line for the user."""


class TerminalProgress(Progress):
    """Bars with the time left where there is a terminal; a line for each long task when done."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", markup=False, style="dim"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    @contextlib.contextmanager
    def task(self, title: str, total: float) -> Iterator[Advance]:
        """A bar that vanishes when done; the outermost one starts and stops the display."""
        note, start = "", time.monotonic()
        outermost = not self._bars.tasks
        title = visible(title)
        row = self._bars.add_task(title, total=total, note="")

        def advance(done: float, words: str) -> None:
            nonlocal note
            note = visible(words) or note
            self._bars.update(row, advance=done, note=note)

        try:
            if outermost:
                self._bars.start()
            yield advance
        finally:
            self._bars.remove_task(row)
            if outermost:
                self._bars.stop()
        seconds = time.monotonic() - start
        if seconds > PATIENCE_SECONDS:
            self.say(f"{title}: {spoken(seconds)}{', ' + note if note else ''}")

    def say(self, message: str) -> None:
        """Print the line above any bar."""
        self._console.print(visible(message), markup=False, soft_wrap=True)


def tracked(items: Iterable[T], title: str, total: int, progress: Progress) -> Iterator[T]:
    """Pass ``items`` on and show how far they are; ``total`` is about how many there are."""
    with progress.task(title, total) as advance:
        for item in items:
            yield item
            advance(1, "")


def counted(count: int, thing: str) -> str:
    """How many things there are: ``1 task``, ``2,000 tasks``."""
    return f"{count:,} {thing if count == 1 else PLURALS.get(thing, f'{thing}s')}"


def spoken(seconds: float) -> str:
    """A duration in words: ``4.2 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def sized(count: float) -> str:
    """Bytes in words: ``0.3 MB``, ``74 MB``, ``1.2 GB``."""
    unit = "GB" if count >= 1e9 else "MB"
    number = count / (1e9 if unit == "GB" else 1e6)
    return f"{number:.1f} {unit}" if number < 10 else f"{number:,.0f} {unit}"


def read_duration(text: str) -> float:
    """Seconds from ``90s``, ``30m``, ``2h``, ``1h30m`` or ``1 d 12 h``.

    Raises:
        UserError: it is none.
    """
    found = _DURATION.fullmatch(text.strip())
    parts = found.groups(default="0") if found and text.strip() else ()
    seconds = sum(float(part) * unit for part, unit in zip(parts, _UNITS, strict=False))
    if not 0 < seconds < math.inf:
        raise UserError(f"{text!r} is no length of time.", "Write 90s, 30m, 2h or 1h30m.")
    return seconds


def _ignore(done: float, note: str) -> None:
    """Report nothing."""
