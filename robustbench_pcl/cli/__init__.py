"""The command line: a command is a frozen set of options that can be called."""

from collections.abc import Sequence

from robustbench_pcl.interruption import leave_at_once

__all__ = ["main"]


def main(words: Sequence[str] | None = None) -> None:
    """Run a command and leave the process; the words are those that were typed if None.

    Most of the first half second is imports, so Ctrl-C is taken care of before them.
    """
    leave_at_once()
    from robustbench_pcl.cli.app import app

    app(words)
