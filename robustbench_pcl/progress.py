"""Progress with the time left, on standard error; silent unless someone is to see it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

Advance = Callable[[int, str], None]
"""(units done since the last call, what to show beside the bar) -> None."""


class Progress:
    """Shows nothing. The Python API's default."""

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:  # noqa: ARG002 - shows nothing
        """A piece of work of ``total`` units; call the result to advance it."""
        yield _ignore

    def say(self, message: str) -> None:
        """A line for the person."""


class TerminalProgress(Progress):
    """A bar with the time left where there is a terminal, a line at the end where there is none."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """A bar that vanishes when done, and a line that stays."""
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        note, start = "", time.monotonic()
        bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("[dim]{task.fields[note]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        with bars:
            row = bars.add_task(title, total=total, note="")

            def advance(done: int, words: str) -> None:
                nonlocal note
                note = words or note
                bars.update(row, advance=done, note=note)

            yield advance
        seconds = time.monotonic() - start
        self.say(f"{title}: {spoken(seconds)}{', ' + note if note else ''}")

    def say(self, message: str) -> None:
        """Print the line above any bar."""
        self._console.print(message, markup=False, soft_wrap=True)


def spoken(seconds: float) -> str:
    """A duration in words: ``4.2 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _ignore(done: int, note: str) -> None:
    """An advance that nobody sees."""
