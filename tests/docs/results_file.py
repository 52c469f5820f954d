"""The blocks of RESULTS.md that a command printed; run this file to print them anew.

A block stands between ``<!-- pclbench report ... -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from robustbench_pcl.cli.app import app

RESULTS = Path(__file__).parents[2] / "RESULTS.md"
BLOCK = re.compile(r"<!-- pclbench (.+?) -->\n.*?<!-- end -->", re.DOTALL)


def printed(command: str) -> str:
    """What a command of pclbench prints."""
    done = CliRunner().invoke(app, shlex.split(command), catch_exceptions=False)
    if done.exit_code:
        raise AssertionError(f"pclbench {command}: {done.stderr}")
    return done.stdout.strip("\n")


def filled(text: str, run: Callable[[str], str] = printed) -> str:
    """The document with what its commands print today."""

    def anew(block: re.Match[str]) -> str:
        lines = (
            f"<!-- pclbench {block[1]} -->",
            *("```text", f"$ pclbench {block[1]}", run(block[1]), "```"),
            "<!-- end -->",
        )
        return "\n".join(lines)

    return BLOCK.sub(anew, text)


if __name__ == "__main__":
    RESULTS.write_text(filled(RESULTS.read_text(encoding="utf-8")), encoding="utf-8")
