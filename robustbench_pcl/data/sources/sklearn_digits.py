"""The digits that come with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustbench_pcl.data.dataset import RawDataset
from robustbench_pcl.data.spec import DatasetSpec

SPLIT_SEED = 0


def find(spec: DatasetSpec, _data_root: Path | None) -> RawDataset | None:
    """Take the digits from scikit-learn, which has no split of its own.

    Values 0..16 become round(v * 255 / 16). The test images are drawn once, stratified by class,
    with ``SPLIT_SEED``; both splits keep scikit-learn's order.
    """
    if spec.name != "digits":
        return None
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, labels = load_digits(return_X_y=True)
    images = np.rint(values * 255 / 16).astype(np.uint8).reshape(-1, *spec.shape)
    train, test = train_test_split(
        np.arange(len(labels)),
        train_size=spec.train_images,
        test_size=spec.test_images,
        random_state=SPLIT_SEED,
        stratify=labels,
    )
    train.sort()
    test.sort()
    return RawDataset(images[train], labels[train], images[test], labels[test], "scikit-learn")
