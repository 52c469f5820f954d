"""Keeps a worker at work: sends it cases, and starts another where one does not answer."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LONGEST = 20.0
"""Seconds of a processor that a file may take; an answer is waited for three times as long."""
STARTING = 120.0
"""Seconds that Python, torch and the package may take beside it, on a busy machine."""


class Driver:
    """Sends cases to a worker and collects what is wrong.

    Args:
        folder: of its own.
        longest: seconds that a file may take.
    """

    def __init__(self, folder: Path, longest: float = LONGEST) -> None:
        self.folder, self.longest = folder, longest
        self._process: subprocess.Popen[str] | None = None
        self._started = 0

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def failures(self, cases: Iterable[dict[str, str]]) -> tuple[list[str], dict[str, int]]:
        """What is wrong, one line for each case, and how often files were read and refused."""
        wrong, counts = [], {"data": 0, "refused": 0}
        for case in cases:
            outcome = self.outcome(case)
            if outcome in counts:
                counts[outcome] += 1
            else:
                wrong.append(f"{case}: {outcome}")
        return wrong, counts

    def outcome(self, case: dict[str, str]) -> str:
        """What the worker says of a case: "data", "refused", or what is wrong."""
        process = self._running()
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(case) + "\n")
        process.stdin.flush()
        waiting = 3 * self.longest + (0 if self._started else STARTING)
        ready, _, _ = select.select([process.stdout], [], [], waiting)
        line = process.stdout.readline() if ready else ""
        self._started += 1
        if not line:
            self._stop()
            return "it ended the process" if ready else "no answer"
        answer: dict[str, Any] = json.loads(line)
        if answer["seconds"] > self.longest:
            return f"{answer['seconds']} s, {answer['outcome']}"
        return str(answer["outcome"])

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._started = 0
            folder = self.folder / f"{len(list(self.folder.iterdir()))}"
            folder.mkdir()
            worker = Path(__file__).with_name("worker.py")
            self._process = subprocess.Popen(
                [sys.executable, str(worker), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PCLBENCH_CACHE": str(folder / "cache")},
            )
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
