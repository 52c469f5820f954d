"""Where artefacts lie, and whether this version can read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import h5py
from safetensors import SafetensorError, safe_open

from robustbench_pcl.store.records import FORMAT, refuse_other_format


class Paths:
    """The folders of a workspace.

    Attributes:
        root: holds ``checkpoints/`` and ``results/``.
        checkpoints: trained models, one safetensors file each.
        partial: training runs that were interrupted.
        results: everything that was made from checkpoints.
        measurements: accuracies, one JSON file each.
        trainings: how checkpoints came to be, one JSON file each.
        adversarial_sets: adversarial images, one HDF5 file per set.
        embeddings: features as points in the plane, one safetensors file each.
        jobs: task files and logs of executors.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkpoints = root / "checkpoints"
        self.partial = self.checkpoints / "partial"
        self.results = root / "results"
        self.measurements = self.results / "measurements"
        self.trainings = self.results / "trainings"
        self.adversarial_sets = self.results / "adversarial_sets"
        self.embeddings = self.results / "embeddings"
        self.jobs = self.results / "jobs"


def check_format(paths: Paths) -> None:
    """Check that what is stored has this version's format, by one artefact of each kind.

    Raises:
        UserError: it was stored by an older or a newer version. Nothing is changed.
    """
    for folder, suffix in (
        (paths.measurements, ".json"),
        (paths.trainings, ".json"),
        (paths.checkpoints, ".safetensors"),
        (paths.embeddings, ".safetensors"),
        (paths.adversarial_sets, ".h5"),
    ):
        first = next(folder.glob(f"[!.]*{suffix}"), None)
        if first is not None:
            refuse_other_format(paths.root, _format_of(first))


def now() -> str:
    """The time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _format_of(path: Path) -> object:
    """The format that a file names, None if it names none; this version's for a damaged file.

    Damage is reported by whoever opens the file for its content.
    """
    try:
        if path.suffix == ".json":
            return json.loads(path.read_bytes()).get("format")
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                return int(file.attrs["format"]) if "format" in file.attrs else None
        with safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["pclbench"]).get("format")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError):
        return FORMAT
