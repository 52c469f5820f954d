"""Ctrl-C, SIGTERM and SIGHUP: what was finished is kept, and no traceback is shown.

At work the first signal raises, so that what is open is closed, kept or removed on the way out.
Before and after, while modules are imported or the interpreter ends, there is nothing to keep, and
the process leaves at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

KEPT = "What was finished is kept: the same command goes on."
SAME_PRESS_SECONDS = 0.5
"""Within so long, Ctrl-C is one press: a terminal and a wrapper (uv, nox) may both pass it on."""
_Handler = Callable[[int, FrameType | None], None]


class Terminated(KeyboardInterrupt):
    """The system asks the process to end, as Slurm does at a job's time limit.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell says of a process that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT)


def said(interrupt: KeyboardInterrupt) -> str:
    """What stopped the work, and what of it is kept, in one line.

    Who keeps something adds a note to the exception: "softmax is kept after epoch 3 of 4".
    """
    by = ""
    if isinstance(interrupt, Terminated):
        by = f" by {signal.Signals(interrupt.number).name}"
    kept = "; ".join(getattr(interrupt, "__notes__", [])) or "what was finished is kept"
    return f"Stopped{by}: {kept}."


def leave_at_once() -> None:
    """From now on a signal ends the process in two lines, in whatever it is."""
    _handle(_leave)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Within the block the first signal raises KeyboardInterrupt, or :class:`Terminated`.

    A second Ctrl-C leaves at once; other signals are often sent twice, and must not cut short what
    the first one began. Elsewhere than in the main thread nothing changes.
    """
    before = _handle(_raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(handler: _Handler) -> dict[int, Any]:
    """Set the handlers of all signals that are not ignored (nohup); those that were there."""
    before: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread():
        return before
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, handler)
    return before


def _raise(number: int, _: FrameType | None) -> None:
    pressed = time.monotonic()

    def again(repeated: int, _: FrameType | None) -> None:
        if repeated == signal.SIGINT and time.monotonic() - pressed > SAME_PRESS_SECONDS:
            os._exit(128 + repeated)

    _handle(again)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


def _leave(number: int, _: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"\npclbench: Stopped.\n  {KEPT}\n".encode())
    os._exit(128 + number)
