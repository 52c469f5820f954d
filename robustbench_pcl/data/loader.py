"""Get a data set: from the cache, or else from wherever it is found, once."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from robustbench_pcl.data.archives import assemble_idx, members, parse_idx_files
from robustbench_pcl.data.dataset import (
    CacheInfo,
    Dataset,
    RawDataset,
    cache_root,
    read,
    read_info,
    write,
)
from robustbench_pcl.data.datasets import OWN_SOURCES, DatasetSpec, dataset_spec
from robustbench_pcl.data.user_files import read_archive
from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.registry import resolve

sklearn_datasets = LazyModule("sklearn.datasets")

sklearn_selection = LazyModule("sklearn.model_selection")

torchvision = LazyModule("torchvision")

DEBIAN_FOLDER = Path("/usr/share/datasets")

DIGITS_SPLIT_SEED = 0

IDX_CLASSES = ("MNIST", "FashionMNIST")
"""Read here, because torchvision checks no sums of theirs, and may open a pickle instead."""


class NotHereError(Exception):
    """The data set could be here, but is not: where it was looked for, and why that failed."""


Find = Callable[[DatasetSpec, Path | None], RawDataset | None]
"""Look for a data set, given the folder of the user's own files if there is one.

Returns None if this source never has that data set, and raises ``NotHereError`` if it might have
had it.
"""


def own_source(spec: DatasetSpec, data_root: Path | None) -> RawDataset | None:
    """Ask the function that a data set from outside the package brought along, if it has one."""
    if spec.name not in OWN_SOURCES:
        return None
    own: Find = resolve(f"source of data set {spec.name}", OWN_SOURCES[spec.name])
    return own(spec, data_root)


def torchvision_files(spec: DatasetSpec, data_root: Path | None) -> RawDataset | None:
    """Read torchvision's files under ``data_root``, or under PCLBENCH_DATA if that is None."""
    if not spec.torchvision:
        return None
    root = data_root or os.environ.get("PCLBENCH_DATA")
    if not root:
        raise NotHereError("torchvision's files (neither --data-root nor PCLBENCH_DATA is set)")
    return _read_torchvision(spec, Path(root), "torchvision files")


def debian_package(spec: DatasetSpec, _data_root: Path | None) -> RawDataset | None:
    """Read the IDX files that the data set's Debian package installs."""
    if not spec.debian:
        return None
    folder = DEBIAN_FOLDER / spec.debian.removeprefix("dataset-")
    if not folder.is_dir():
        raise NotHereError(f"Debian's package {spec.debian} ({folder}: not installed)")
    try:
        return assemble_idx(parse_idx_files(members(folder)), f"Debian {spec.debian}")
    except UserError as error:
        raise NotHereError(f"Debian's package {spec.debian} ({error.cause.rstrip('.')})") from error


def sklearn_digits(spec: DatasetSpec, _data_root: Path | None) -> RawDataset | None:
    """Take the digits from scikit-learn, which has no split of its own.

    Values 0..16 become round(v * 255 / 16). The test images are drawn once, stratified by class,
    with ``DIGITS_SPLIT_SEED``; both splits keep scikit-learn's order.
    """
    if spec.name != "digits":
        return None
    values, labels = sklearn_datasets.load_digits(return_X_y=True)
    images = np.rint(values * 255 / 16).astype(np.uint8).reshape(-1, *spec.shape)
    train, test = sklearn_selection.train_test_split(
        np.arange(len(labels)),
        train_size=spec.train_images,
        test_size=spec.test_images,
        random_state=DIGITS_SPLIT_SEED,
        stratify=labels,
    )
    train.sort()
    test.sort()
    return RawDataset(images[train], labels[train], images[test], labels[test], "scikit-learn")


def torchvision_download(spec: DatasetSpec, _data_root: Path | None) -> RawDataset | None:
    """Let torchvision download into a temporary folder, md5 sums checked, and read from there."""
    if not spec.torchvision:
        return None
    with TemporaryDirectory(prefix="pclbench-") as folder:
        root = Path(folder)
        try:
            _open_torchvision(spec, root, download=True)
        except (OSError, RuntimeError, HTTPException) as error:
            reason = " ".join(str(error).split())
            raise NotHereError(f"torchvision's download ({reason})") from error
        return _read_torchvision(spec, root, "torchvision download")


LOCAL_SOURCES: tuple[Find, ...] = (own_source, torchvision_files, debian_package, sklearn_digits)

SOURCES: tuple[Find, ...] = (*LOCAL_SOURCES, torchvision_download)


def _read_torchvision(spec: DatasetSpec, root: Path, source: str) -> RawDataset:
    """Read the data set from torchvision's files under its ``root``.

    Raises:
        NotHereError: not there, incomplete, or not the published files.
        UserError: scipy is needed and missing.
    """
    if spec.torchvision in IDX_CLASSES:
        folder = root / spec.torchvision / "raw"
        if not folder.is_dir():
            raise NotHereError(f"torchvision's files ({folder}: not there)")
        try:
            return assemble_idx(parse_idx_files(members(folder)), source)
        except UserError as error:
            reason = error.cause.rstrip(".")
            raise NotHereError(f"torchvision's files ({folder}: {reason})") from error
    try:
        train, test = _open_torchvision(spec, root, download=False)
    except (OSError, RuntimeError) as error:
        raise NotHereError(
            f"torchvision's files ({root}: not there, or their md5 sums are not the published ones)"
        ) from error
    if spec.torchvision == "SVHN":
        return RawDataset(train.data, train.labels, test.data, test.labels, source)
    channels_first = (0, 3, 1, 2)
    return RawDataset(
        train.data.transpose(channels_first),
        np.asarray(train.targets),
        test.data.transpose(channels_first),
        np.asarray(test.targets),
        source,
    )


def _open_torchvision(spec: DatasetSpec, root: Path, download: bool) -> tuple[Any, Any]:
    """Torchvision's own objects for the training and the test images.

    The CIFAR batches are pickles, which run code when they are opened: torchvision compares their
    md5 sums with the published ones before it opens them, and refuses all others.

    Raises:
        OSError: the network or the disk refuses.
        RuntimeError: the files are not there or not those that were published.
        UserError: scipy is needed and missing.
    """
    svhn = spec.torchvision == "SVHN"
    if svhn and importlib.util.find_spec("scipy") is None:
        raise UserError(
            "SVHN's .mat files are read with scipy, which is missing.", "pip install scipy"
        )
    dataset = getattr(torchvision.datasets, spec.torchvision)
    splits = ("train", "test") if svhn else (True, False)
    train, test = (dataset(root, split, download=download) for split in splits)
    return train, test


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
    return read(dataset_spec(name)) or fetch(name, data_root, download)


def dataset_info(name: str) -> CacheInfo | None:
    """What the cache says about a data set, without opening its images; None if it is not there.

    Raises:
        UserError: unknown name, or broken cache.
    """
    return read_info(dataset_spec(name))


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
        f"{spec.title} was not found. Looked in the cache ({cache_root() / spec.name}: not there)"
        + "".join(f"; {failure}" for failure in failures)
        + ".",
        f"Add a copy of your own: pclbench data add {spec.name} FILE",
    )


def _keep(spec: DatasetSpec, raw: RawDataset) -> Dataset:
    write(spec, raw)
    dataset = read(spec)
    if dataset is None:
        raise UserError(
            f"{spec.title} has just been cached, but is gone.", "Another program deleted it: retry."
        )
    return dataset
