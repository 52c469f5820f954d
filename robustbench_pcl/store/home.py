"""Where artefacts live."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from robustbench_pcl import __version__
from robustbench_pcl.store.records import Environment


@dataclass(frozen=True)
class Home:
    """The folder that holds ``checkpoints/`` and ``results/``."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        """Trained models, one safetensors file each."""
        return self.root / "checkpoints"

    @property
    def partial(self) -> Path:
        """Training runs that were interrupted."""
        return self.checkpoints / "partial"

    @property
    def results(self) -> Path:
        """Everything that was made from checkpoints."""
        return self.root / "results"

    @property
    def adversarial_sets(self) -> Path:
        """Adversarial images, one HDF5 file a set."""
        return self.results / "adversarial_sets"

    @property
    def embeddings(self) -> Path:
        """Features as points in the plane, one safetensors file each."""
        return self.results / "embeddings"


def now() -> str:
    """The time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment(torch_version: str, device: str, threads: int) -> Environment:
    """Describe this machine in the words that a footnote needs, without naming it."""
    return Environment(
        pclbench=__version__,
        python=platform.python_version(),
        torch=torch_version,
        platform=f"{platform.system()} {platform.machine()}",
        device=device,
        threads=threads,
    )
