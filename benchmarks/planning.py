"""``python -m benchmarks.planning SUITE HOME``: a dry run, its processor seconds and peak memory.

Nothing is imported that the command does not import.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from pathlib import Path

from robustbench_pcl.cli.app import app


def main() -> None:
    """Print the seconds and MiB."""
    words = ["run", "--suite", sys.argv[1], "--dry-run", "--device", "cpu", "--home", sys.argv[2]]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        app(words)
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = next(line for line in status if line.startswith("VmHWM"))
    print(time.process_time(), int(peak.split()[1]) / 1024)


if __name__ == "__main__":
    main()
