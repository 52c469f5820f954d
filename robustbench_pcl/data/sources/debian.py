"""Data sets that Debian and Ubuntu package."""

from __future__ import annotations

from pathlib import Path

from robustbench_pcl.data.dataset import RawDataset
from robustbench_pcl.data.sources import idx
from robustbench_pcl.data.sources.base import NotHereError
from robustbench_pcl.data.sources.members import members
from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.errors import UserError

INSTALL_FOLDER = Path("/usr/share/datasets")


def find(spec: DatasetSpec, _data_root: Path | None) -> RawDataset | None:
    """Read the IDX files that the data set's Debian package installs."""
    if not spec.debian:
        return None
    folder = INSTALL_FOLDER / spec.debian.removeprefix("dataset-")
    if not folder.is_dir():
        raise NotHereError(f"Debian's package {spec.debian} ({folder}: not installed)")
    try:
        return idx.assemble(idx.parse_members(members(folder)), f"Debian {spec.debian}")
    except UserError as error:
        raise NotHereError(f"Debian's package {spec.debian} ({error.cause.rstrip('.')})") from error
