"""The images that are worked on: a data set's first ones, gone through again where they are few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.dataset import Split
from robustbench_pcl.pipeline.workspace import Workspace


def first(split: Split, count: int) -> Split:
    """So many images of a split, its digest left as it was."""
    rows = np.arange(count) % len(split)
    return replace(split, images=split.images[rows], labels=split.labels[rows])


def test_images(workspace: Workspace, dataset: str, count: int) -> tuple[Tensor, Tensor]:
    """Test images (N, C, H, W) in [0, 1] and their labels (N,), on the workspace's device."""
    split = first(workspace.dataset(dataset).test, count)
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    return pixels(images.to(workspace.device)), labels.to(workspace.device)
