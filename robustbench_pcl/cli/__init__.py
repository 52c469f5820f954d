"""The command line: a command is a frozen set of options that can be called."""

from robustbench_pcl.interruption import INTERRUPTED, leave, leave_at_once

__all__ = ["main"]


def main() -> None:
    """Run the command that was typed, and leave the process.

    Most of the first half second is imports, so Ctrl-C is taken care of before them.
    """
    leave_at_once()
    from robustbench_pcl.cli.app import app

    try:
        app()
    except SystemExit as end:
        if end.code in INTERRUPTED:
            leave(end.code)
        raise
