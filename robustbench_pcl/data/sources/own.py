"""The source that a data set from outside the package brought along."""

from __future__ import annotations

from pathlib import Path

from robustbench_pcl.data.catalogue import OWN_SOURCES
from robustbench_pcl.data.dataset import RawDataset
from robustbench_pcl.data.sources.base import Find
from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.registry import resolve


def find(spec: DatasetSpec, data_root: Path | None) -> RawDataset | None:
    """Ask the data set's own function, if it has one."""
    if spec.name not in OWN_SOURCES:
        return None
    own: Find = resolve(f"source of data set {spec.name}", OWN_SOURCES[spec.name])
    return own(spec, data_root)
