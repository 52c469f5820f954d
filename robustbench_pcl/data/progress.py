"""A progress bar for what turns out to take long."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

T = TypeVar("T")
PATIENCE_SECONDS = 2.0


def tracked(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Pass ``items`` on, and show on standard error how far they are once that takes long.

    Args:
        items: what is worked through.
        description: before the bar.
        total: about how many there will be.
    """
    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(escape(description), total=total)
    start = time.monotonic()
    try:
        for item in items:
            yield item
            progress.advance(task)
            if not progress.live.is_started and time.monotonic() - start > PATIENCE_SECONDS:
                progress.start()
    finally:
        if progress.live.is_started:
            progress.stop()
