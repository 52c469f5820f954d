"""Files in the layout that torchvision keeps under its ``root``."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_pcl.data.dataset import Images, RawDataset
from robustbench_pcl.data.sources import idx
from robustbench_pcl.data.sources.base import NotHereError
from robustbench_pcl.data.sources.members import members
from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.errors import UserError

IDX_CLASSES = ("MNIST", "FashionMNIST")
"""Read here, because torchvision checks no sums of theirs, and may open a pickle instead."""


def find(spec: DatasetSpec, data_root: Path | None) -> RawDataset | None:
    """Read the data set under ``data_root``, or under PCLBENCH_DATA if that is None."""
    if not spec.torchvision:
        return None
    root = data_root or os.environ.get("PCLBENCH_DATA")
    if not root:
        raise NotHereError("torchvision's files (neither --data-root nor PCLBENCH_DATA is set)")
    return read(spec, Path(root), "torchvision files")


def read(spec: DatasetSpec, root: Path, source: str) -> RawDataset:
    """Read the data set from torchvision's files.

    Args:
        spec: of a data set that torchvision has.
        root: torchvision's ``root``.
        source: what to call it in the provenance.

    Raises:
        NotHereError: not there, incomplete, or not the published files.
        UserError: scipy is needed and missing.
    """
    if spec.torchvision in IDX_CLASSES:
        return _read_idx(root / spec.torchvision / "raw", source)
    return _read_verified(spec, root, source)


def open_splits(spec: DatasetSpec, root: Path, download: bool) -> tuple[Any, Any]:
    """Torchvision's own objects for the training and the test images.

    The CIFAR batches are pickles, which run code when they are opened: torchvision compares their
    md5 sums with the published ones before it opens them, and refuses all others.

    Raises:
        OSError: the network or the disk refuses.
        RuntimeError: the files are not there or not those that were published.
        UserError: scipy is needed and missing.
    """
    if spec.torchvision == "SVHN" and importlib.util.find_spec("scipy") is None:
        raise UserError(
            "SVHN's .mat files are read with scipy, which is missing.", "pip install scipy"
        )
    import torchvision

    dataset = getattr(torchvision.datasets, spec.torchvision)
    if spec.torchvision == "SVHN":
        return dataset(root, "train", download=download), dataset(root, "test", download=download)
    return dataset(root, True, download=download), dataset(root, False, download=download)


def _read_idx(folder: Path, source: str) -> RawDataset:
    if not folder.is_dir():
        raise NotHereError(f"torchvision's files ({folder}: not there)")
    try:
        return idx.assemble(idx.parse_members(members(folder)), source)
    except UserError as error:
        raise NotHereError(f"torchvision's files ({folder}: {error.cause.rstrip('.')})") from error


def _read_verified(spec: DatasetSpec, root: Path, source: str) -> RawDataset:
    try:
        train, test = open_splits(spec, root, download=False)
    except (OSError, RuntimeError) as error:
        raise NotHereError(
            f"torchvision's files ({root}: not there, or their md5 sums are not the published ones)"
        ) from error
    if spec.torchvision == "SVHN":
        return RawDataset(train.data, train.labels, test.data, test.labels, source)
    return RawDataset(
        _channels_first(train.data),
        np.asarray(train.targets),
        _channels_first(test.data),
        np.asarray(test.targets),
        source,
    )


def _channels_first(images: Images) -> Images:
    return images.transpose(0, 3, 1, 2)
