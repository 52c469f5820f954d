"""The images that are worked on: a data set's first ones, gone through again where they are few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.dataset import Split
from robustbench_pcl.jobs.bench import Bench


def first(split: Split, count: int) -> Split:
    """So many images of a split, its digest left as it was."""
    rows = np.arange(count) % len(split)
    return replace(split, images=split.images[rows], labels=split.labels[rows])


def test_images(bench: Bench, dataset: str, count: int) -> tuple[Tensor, Tensor]:
    """Test images (N, C, H, W) in [0, 1] and their labels (N,), on the bench's device."""
    split = first(bench.dataset(dataset).test, count)
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    return pixels(images.to(bench.device)), labels.to(bench.device)
