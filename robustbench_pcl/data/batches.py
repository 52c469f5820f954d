"""Images as tensors: a split for a notebook, and batches for training on the device."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from robustbench_pcl.data.dataset import Split
from robustbench_pcl.data.datasets import Augmentation
from robustbench_pcl.data.loader import load
from robustbench_pcl.errors import InvalidInputError

CROP_PADDING = 4

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class DeviceSplit:
    """A split that lives on a device as bytes, so that no batch waits for a loader.

    Attributes:
        images: uint8 (N, C, H, W), on the device.
        labels: int64 (N,), on the device.

    Args:
        split: the images.
        device: where they go.
        first: take only the first so many; all if None.
    """

    def __init__(self, split: Split, device: torch.device | str, first: int | None = None) -> None:
        # Copied, because the cache's arrays are read-only and PyTorch has no such tensors.
        self.images = torch.from_numpy(np.array(split.images[:first])).to(device)
        self.labels = torch.from_numpy(np.array(split.labels[:first])).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def epoch(
        self,
        batch_size: int,
        generator: torch.Generator,
        augmentation: Collection[Augmentation] = (),
    ) -> Iterator[Batch]:
        """Go once through all images in random order.

        A last batch of a single image is left out, because batch norm has no variance there.

        Args:
            batch_size: images per batch; the last one may be smaller.
            generator: on the CPU, whatever the device, so that all devices see the same images.
            augmentation: what to do to every image, see `augment`.

        Yields:
            images: float32 (B, C, H, W) in [0, 1], on the device.
            labels: int64 (B,), on the device.
            indices: int64 (B,), of the images in this split, on the device.
        """
        order = torch.randperm(len(self), generator=generator)
        for start in range(0, len(self), batch_size):
            chosen = order[start : start + batch_size]
            if len(chosen) == 1 < batch_size:
                return
            indices = chosen.to(self.images.device)
            images = augment(self.images[indices], generator, augmentation)
            yield pixels(images), self.labels[indices], indices


def load_images(
    dataset: str,
    n: int | None = None,
    *,
    split: Literal["train", "test"] = "test",
    data_root: Path | str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Load the images of a data set as tensors, in the order in which pclbench measures them.

        images, labels = load_images("cifar10", n=500)

    Args:
        dataset: a name that ``pclbench data list`` shows. "digits" needs no download.
        n: how many images, from the first one on; all images of the split if None.
        split: "test" or "train".
        data_root: a folder in torchvision's layout; the variable PCLBENCH_DATA if None.

    Returns:
        images: float32 (n, C, H, W), pixels in [0, 1], on the CPU.
        labels: int64 (n,), on the CPU.

    Raises:
        UserError: the name is unknown, or the data set was not found.
        InvalidInputError: ``n`` is not between 1 and the number of images of the split, or there
            is no such split.
    """
    if split not in ("train", "test"):
        raise InvalidInputError(f"There is no split {split!r}.", 'Say split="test" or "train".')
    found = load(dataset, None if data_root is None else Path(data_root))
    chosen = found.train if split == "train" else found.test
    if n is not None and not 1 <= n <= len(chosen):
        cause = f"n is {n}, and the {split} split of {dataset} has {len(chosen)} images."
        raise InvalidInputError(cause, f"Give n from 1 to {len(chosen)}, or leave it out.")
    loaded = DeviceSplit(chosen, "cpu", n)
    return pixels(loaded.images), loaded.labels


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Levels as the pixels that models take: 0..255 to float32 [0, 1], any type and shape.

    They are the same on every device: divided by a number, CUDA would multiply by its inverse, and
    126 of the 256 grey levels would differ in their last bit from those that are stored.
    """
    return images.float() / torch.full((), 255.0, device=images.device)


def augment(
    images: torch.Tensor, generator: torch.Generator, augmentation: Collection[Augmentation]
) -> torch.Tensor:
    """Shift and mirror every image by draws of its own.

    "crop" cuts each image, padded with 4 black pixels on all sides, back to its size at a place
    drawn from all 9 x 9; "flip" then mirrors it left to right with probability 1/2. The vertical
    shifts are drawn first, then the horizontal ones, then the mirrorings.

    Args:
        images: (B, C, H, W), any type.
        generator: on the CPU, whatever the device.
        augmentation: which of the two.
    """
    if not augmentation:
        return images
    count, channels, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(count, height)
    columns = torch.arange(width, device=device).expand(count, width)
    if "crop" in augmentation:
        shifts = torch.randint(2 * CROP_PADDING + 1, (2, count, 1), generator=generator).to(device)
        rows, columns = rows + shifts[0], columns + shifts[1]
        images = F.pad(images, (CROP_PADDING,) * 4)
    if "flip" in augmentation:
        mirrored = (torch.rand((count, 1), generator=generator) < 0.5).to(device)
        columns = torch.where(mirrored, columns.flip(1), columns)
    places = (rows[:, :, None] * images.shape[3] + columns[:, None, :]).view(count, 1, -1)
    taken = images.flatten(2).gather(2, places.expand(-1, channels, -1))
    return taken.view(count, channels, height, width)
