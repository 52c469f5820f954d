"""Get a data set: from the cache, or else from wherever it is found, once."""

from __future__ import annotations

from pathlib import Path

from robustbench_pcl.data import cache
from robustbench_pcl.data.cache import CacheInfo
from robustbench_pcl.data.dataset import Dataset, RawDataset
from robustbench_pcl.data.datasets import DatasetSpec, dataset_spec
from robustbench_pcl.data.sources import LOCAL_SOURCES, SOURCES, NotHereError
from robustbench_pcl.data.user_files import read_archive
from robustbench_pcl.errors import UserError


def load(name: str, data_root: Path | None = None, download: bool = True) -> Dataset:
    """Open a data set, from the cache if it is there.

    Args:
        name: of the data set.
        data_root: folder with files in torchvision's layout; PCLBENCH_DATA if None.
        download: whether to go to the network when nothing is found on this machine.

    Raises:
        UserError: unknown name, broken cache, or nothing found; the message says where it was
            looked for.
    """
    return cache.read(dataset_spec(name)) or fetch(name, data_root, download)


def dataset_info(name: str) -> CacheInfo | None:
    """What the cache says about a data set, without opening its images; None if it is not there.

    Raises:
        UserError: unknown name, or broken cache.
    """
    return cache.read_info(dataset_spec(name))


def fetch(name: str, data_root: Path | None = None, download: bool = True) -> Dataset:
    """Find a data set outside the cache, and cache it in place of what was there.

    Args:
        name: of the data set.
        data_root: folder with files in torchvision's layout; PCLBENCH_DATA if None.
        download: whether to go to the network when nothing is found on this machine.

    Raises:
        UserError: unknown name, or nothing found.
    """
    spec = dataset_spec(name)
    return _keep(spec, _search(spec, data_root, download))


def add(name: str, path: Path) -> Dataset:
    """Read a data set from an archive or folder, and cache it in place of what was there.

    Args:
        name: of the data set.
        path: a zip or tar archive or a folder, with images or IDX files.

    Raises:
        UserError: unknown name, or the file is not what it should be.
    """
    spec = dataset_spec(name)
    return _keep(spec, read_archive(spec, path))


def _search(spec: DatasetSpec, data_root: Path | None, download: bool) -> RawDataset:
    failures = []
    for find in SOURCES if download else LOCAL_SOURCES:
        try:
            raw = find(spec, data_root)
        except NotHereError as failure:
            failures.append(str(failure))
        else:
            if raw is not None:
                return raw
    raise UserError(
        f"{spec.title} was not found. Looked in the cache ({cache.folder_of(spec)}: not there)"
        + "".join(f"; {failure}" for failure in failures)
        + ".",
        f"Add a copy of your own: pclbench data add {spec.name} FILE",
    )


def _keep(spec: DatasetSpec, raw: RawDataset) -> Dataset:
    cache.write(spec, raw)
    dataset = cache.read(spec)
    if dataset is None:
        raise UserError(
            f"{spec.title} has just been cached, but is gone.", "Another program deleted it: retry."
        )
    return dataset
