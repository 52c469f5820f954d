"""Adversarial images of other tools: under which names, in which layouts and ranges they are read.

Nothing is read before its shape and type are known to be those of the data set's images.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_pcl.data.array_files import KEPT, StoredArray, open_arrays
from robustbench_pcl.errors import UserError
from robustbench_pcl.progress import counted
from robustbench_pcl.store.rules import ROUNDING

Array = np.ndarray[Any, Any]

IMAGES = ("adversarial", "x_adv", "adv", "adv_inputs", "adv_complete", "images", "x")
"""Names of adversarial images, the clearest first: some tools keep clean ones as ``images``."""
LABELS = ("labels", "label", "y")
INDICES = ("indices", "index")
WIDEST = np.dtype(np.float64).itemsize
ROOM = 4
"""A file may hold as many times what the images take, for clean ones, labels and answers."""
SMALL = 2**20
"""Bytes that headers and the like may take."""


@dataclass(frozen=True, eq=False)
class ForeignImages:
    """Images as a file has them, in the file's order.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,), true classes; None where the file has none.
        indices: int64 (N,), positions in the clean split; None where the file has none.
    """

    images: Array
    labels: Array | None
    indices: Array | None


def read_foreign(path: Path, shape: tuple[int, int, int], most: int) -> ForeignImages:
    """Read images from HDF5, .npz, .npy, .pt, .pth or .safetensors.

    The images lie under one of :data:`IMAGES` or are the only array; labels and positions are
    optional. Images are uint8, or floats in [0, 1], channels before or after height and width.

    Args:
        path: the file.
        shape: (C, H, W) of the data set's images.
        most: how many images there are at most.

    Raises:
        UserError: there is no such file, or it is damaged, too large, or holds something else.
    """
    limit = ROOM * most * math.prod(shape) * WIDEST + SMALL
    with open_arrays(path, limit) as arrays:
        name = _find_images(path, arrays)
        layout = _layout(arrays[name], shape, most)
        n = arrays[name].shape[0]
        labels = _integers(path, arrays, LABELS, n)
        indices = _integers(path, arrays, INDICES, n)
        pixels = _pixels(path, layout(arrays[name].read()))
    return ForeignImages(pixels, labels, indices)


def _find_images(path: Path, arrays: Mapping[str, StoredArray]) -> str:
    only = tuple(arrays) if len(arrays) == 1 else ()
    for name in (*IMAGES, *only):
        if name in arrays:
            return name
    held = textwrap.shorten(", ".join(map(repr, arrays)), 60, placeholder=" ...")
    raise UserError(
        f"{path} has no images: it holds {held or 'no array'}.",
        f"They are looked for as {', '.join(IMAGES)}: {KEPT}",
    )


def _layout(
    images: StoredArray, shape: tuple[int, int, int], most: int
) -> Callable[[Array], Array]:
    """What brings images into (N, C, H, W).

    Raises:
        UserError: they are not of that data set, too many, none, or of a type without a rule.
    """
    if not (images.dtype == np.uint8 or _is_float(images.dtype)):
        raise UserError(
            f"The images are {images.dtype}, not uint8 or floats in [0, 1].",
            "Convert them: images.astype(np.float32).",
        )
    channels, height, width = shape
    layouts: dict[tuple[int, ...], Callable[[Array], Array]] = {
        (height, width, channels): lambda array: array.transpose(0, 3, 1, 2),
        shape: lambda array: array,
    }
    if channels == 1:
        layouts[height, width] = lambda array: array[:, None]
    found = layouts.get(images.shape[1:])
    if found is None:
        raise UserError(
            f"The images are {images.shape}; those of the data set are {channels} x {height} x "
            f"{width}.",
            "Name the data set they were made on with --dataset.",
        )
    if not 0 < images.shape[0] <= most:
        raise UserError(
            f"The file has {counted(images.shape[0], 'image')}; the data set has {most:,} test "
            "images.",
            "Store the adversarial images of its test images only.",
        )
    return found


def _is_float(dtype: np.dtype[Any]) -> bool:
    return np.issubdtype(dtype, np.floating) and dtype.itemsize <= WIDEST


def _integers(
    path: Path, arrays: Mapping[str, StoredArray], names: tuple[str, ...], n: int
) -> Array | None:
    """One number for each image, int64 (N,), or None where the file has none."""
    name = next((name for name in names if name in arrays), None)
    if name is None:
        return None
    found = arrays[name]
    if found.dtype.kind not in "iu" or found.shape != (n,):
        raise UserError(
            f"{name} in {path} is {found.dtype} {found.shape}, not one integer for each of "
            f"{n:,} images.",
            f"Store integers, such as {name}.argmax(axis=1), or leave them out.",
        )
    return found.read().astype(np.int64)


def _pixels(path: Path, images: Array) -> Array:
    """The images as float32 in [0, 1].

    Raises:
        UserError: they are not finite, or in another range.
    """
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images, dtype=np.float32) / 255
    low, high = float(images.min()), float(images.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(
            f"{path} holds pixels that are NaN or infinite.",
            "Leave those images out, and store the positions of the others as indices.",
        )
    if low < -ROUNDING or high > 1 + ROUNDING:
        cure = "They seem to be normalised: store images * std + mean."
        if low >= 0 and high <= 255:
            cure = "They seem to run from 0 to 255: store images / 255."
        raise UserError(
            f"The pixels in {path} run from {low:.3g} to {high:.3g}, not in [0, 1].", cure
        )
    return np.ascontiguousarray(images.clip(0, 1), dtype=np.float32)
