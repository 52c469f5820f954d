"""One job in a process of its own: ``python -m robustbench_pcl.jobs.worker JOB.json``."""

from __future__ import annotations

import sys
from pathlib import Path

from robustbench_pcl.errors import UserError
from robustbench_pcl.jobs.ticket import Ticket
from robustbench_pcl.plugins import load_installed
from robustbench_pcl.progress import TerminalProgress


def main(path: str) -> int:
    """Run the job of a ticket unless its artefact is stored; the exit code."""
    try:
        load_installed()
        job, bench = Ticket.read(Path(path)).open(TerminalProgress())
        if not job.done(bench):
            job.run(bench)
    except UserError as error:
        print(f"pclbench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
