"""Ctrl-C, SIGTERM and SIGHUP: what was finished is kept, and no traceback is shown.

At work the first signal raises, so that what is open is closed, kept or removed on the way out.
Before and after, while modules are imported or the interpreter ends, there is nothing to keep, and
the process leaves at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

TYPE_CHECKING = False  # typing's own, and its import, would take longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any, NoReturn

INTERRUPTED = (129, 130, 143)
"""Exit codes after SIGHUP, SIGINT (Ctrl-C) and SIGTERM."""
KEPT = "What was finished is kept. Type the same command to continue."
SAME_PRESS_SECONDS = 0.5
"""Within so long, Ctrl-C is one press: a terminal and a wrapper (uv, nox) may both pass it on."""


class Interrupted(KeyboardInterrupt):
    """A signal asks the process to end: Ctrl-C, or SIGTERM, as Slurm sends it at a time limit.

    For Ctrl-C, too: a plain KeyboardInterrupt that passes through the import of some C extension
    makes Python end itself by SIGINT in the end, whatever the exit code.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell says of a process that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (interrupt.number if isinstance(interrupt, Interrupted) else signal.SIGINT)


def said(interrupt: KeyboardInterrupt) -> str:
    """What stopped the work, and what of it is kept, in one line.

    Who keeps something adds a note to the exception: "softmax is kept after epoch 3 of 4".
    """
    by, code = "", exit_code(interrupt)
    if code != 128 + signal.SIGINT:
        by = f" by {signal.Signals(code - 128).name}"
    kept = "; ".join(getattr(interrupt, "__notes__", [])) or "what was finished is kept"
    return f"Stopped{by}: {kept}."


def leave(code: int) -> NoReturn:
    """End the process now: nothing is left to do that a second Ctrl-C could cut short."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def leave_at_once() -> None:
    """From now on a signal ends the process in two lines, in whatever it is."""
    _handle(_leave)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Within the block the first signal raises :class:`Interrupted`.

    In the middle of an import it ends the process, as before the block: some extension modules
    (torch's among them) abort where an exception passes through their import.

    A second Ctrl-C leaves at once; other signals are often sent twice, and must not cut short what
    the first one began. Elsewhere than in the main thread nothing changes.
    """
    before = _handle(_raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Set the handlers of all signals that are not ignored (nohup); those that were there."""
    before: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # not in the main thread
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    return before


def _raise(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _leave(number, frame)
        frame = frame.f_back
    pressed = time.monotonic()

    def again(repeated: int, _: FrameType | None) -> None:
        if repeated == signal.SIGINT and time.monotonic() - pressed > SAME_PRESS_SECONDS:
            os._exit(128 + repeated)

    _handle(again)
    raise Interrupted(number)


def _leave(number: int, _: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"\npclbench: Stopped.\n  {KEPT}\n".encode())
    os._exit(128 + number)
