"""Adversarial images of other tools, from files that may come from anywhere.

Nothing is read before its shape and type are known to be those of the data set's images: a file
that says it holds more is refused, not opened. Nothing is unpickled but tensors.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import h5py
import numpy as np
from safetensors import SafetensorError, safe_open

from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]

IMAGES = ("adversarial", "x_adv", "adv", "adv_inputs", "adv_complete", "images", "x")
"""Names of adversarial images, the clearest first: some tools keep clean ones as ``images``."""
LABELS = ("labels", "label", "y")
INDICES = ("indices", "index")
ROUNDING = 1e-5
"""float32 pixels may leave their range or budget by a rounding error; 1/255 is 4e-3."""
WIDEST = np.dtype(np.float64).itemsize
ROOM = 4
"""A file may hold as many times what the images take, for clean ones, labels and answers."""
SMALL = 2**20
"""Bytes that headers and the like may take."""
MOST_NAMES = 100
UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError),
    SafetensorError,
)
"""What the readers raise on a damaged file, by format and by kind of damage."""
KEPT = "np.savez('adversarial.npz', images=images, labels=labels)"


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


@dataclass(frozen=True)
class Stored:
    """An array in a file, which is not read yet.

    Attributes:
        shape: its shape.
        dtype: its type.
        read: reads it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Array]


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
    reader = READERS.get(path.suffix.lower())
    if not path.is_file():
        raise UserError(f"There is no file {path}.", "Check its name: --from FILE.")
    if reader is None:
        raise UserError(f"{path} is no kind of file that is read: {', '.join(READERS)}.", _again())
    limit = ROOM * most * math.prod(shape) * WIDEST + SMALL
    try:
        with reader(path, limit) as arrays:
            name = _find_images(path, arrays)
            layout = _layout(arrays[name], shape, most)
            n = arrays[name].shape[0]
            labels = _integers(path, arrays, LABELS, n)
            indices = _integers(path, arrays, INDICES, n)
            pixels = _pixels(path, layout(arrays[name].read()))
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"{path} cannot be read: {reason}.", _again()) from error
    return ForeignImages(pixels, labels, indices)


def _find_images(path: Path, arrays: Mapping[str, Stored]) -> str:
    only = tuple(arrays) if len(arrays) == 1 else ()
    for name in (*IMAGES, *only):
        if name in arrays:
            return name
    held = textwrap.shorten(", ".join(map(repr, arrays)), 60, placeholder=" ...")
    raise UserError(
        f"{path} has no images: it holds {held or 'no array'}.",
        f"They are looked for as {', '.join(IMAGES)}: {KEPT}",
    )


def _layout(images: Stored, shape: tuple[int, int, int], most: int) -> Callable[[Array], Array]:
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
            f"There are {images.shape[0]:,} images; the data set has {most:,} to test on.",
            "Store the adversarial images of its test images only.",
        )
    return found


def _is_float(dtype: np.dtype[Any]) -> bool:
    return np.issubdtype(dtype, np.floating) and dtype.itemsize <= WIDEST


def _integers(
    path: Path, arrays: Mapping[str, Stored], names: tuple[str, ...], n: int
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


@contextlib.contextmanager
def _hdf5(path: Path, limit: int) -> Iterator[dict[str, Stored]]:
    """The arrays of an HDF5 file that lie in it, not behind a link to another one."""
    with h5py.File(path, "r") as file:
        inside = {
            name: file[name]
            for name in islice(file, MOST_NAMES)
            if isinstance(file.get(name, getlink=True), h5py.HardLink)
            and _lies_inside(file[name], limit)
        }
        yield {
            name: Stored(array.shape, array.dtype, partial(array.__getitem__, ()))
            for name, array in inside.items()
        }


def _lies_inside(item: object, limit: int) -> bool:
    """Whether an item is an array whose bytes are in the file itself, in chunks of usual size."""
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        return False
    chunk = math.prod(item.chunks or ()) * item.dtype.itemsize
    return not item.is_virtual and not item.external and chunk <= limit


@contextlib.contextmanager
def _npz(path: Path, limit: int) -> Iterator[dict[str, Stored]]:
    """The arrays of an archive of .npy files."""
    with zipfile.ZipFile(path) as archive:
        found = {}
        for member in archive.infolist()[:MOST_NAMES]:
            usual = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if usual and member.file_size <= limit and member.filename.endswith(".npy"):
                name = member.filename.removesuffix(".npy")
                found[name] = _npy_array(partial(archive.open, member.filename))
        yield found


@contextlib.contextmanager
def _npy(path: Path, limit: int) -> Iterator[dict[str, Stored]]:
    """The one array of a .npy file."""
    _check_size(path, path.stat().st_size, limit)
    yield {path.stem: _npy_array(lambda: path.open("rb"))}


def _npy_array(opened: Callable[[], IO[bytes]]) -> Stored:
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with opened() as stream:
        shape, _, dtype = headers[np.lib.format.read_magic(stream)](stream)

    def read() -> Array:
        with opened() as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    return Stored(shape, dtype, read)


@contextlib.contextmanager
def _safetensors(path: Path, limit: int) -> Iterator[dict[str, Stored]]:
    """The arrays of a safetensors file."""
    _check_size(path, path.stat().st_size, limit)
    with safe_open(path, framework="pt") as file:
        yield {name: _tensor(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _torch(path: Path, limit: int) -> Iterator[dict[str, Stored]]:
    """The tensors that ``torch.save`` wrote: one, a mapping of some, or images and labels."""
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not what torch.save writes since version 1.6")
    with zipfile.ZipFile(path) as archive:
        _check_size(path, sum(member.file_size for member in archive.infolist()), limit)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, and is not opened for that reason.",
            f"Save tensors: torch.save({{'images': images, 'labels': labels}}, {path.name!r})",
        ) from error
    if isinstance(content, torch.Tensor):
        content = {"images": content}
    elif isinstance(content, tuple | list):
        content = dict(zip(("images", "labels"), content, strict=False))
    elif not isinstance(content, Mapping):
        content = {}
    yield {
        name: _tensor(value)
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }


def _tensor(tensor: Tensor) -> Stored:
    kind = tensor.dtype
    if kind in (torch.float16, torch.bfloat16):  # numpy knows one of them only
        kind = torch.float32
    name = str(kind).removeprefix("torch.")
    return Stored(tuple(tensor.shape), np.dtype(name), lambda: tensor.detach().to(kind).numpy())


def _check_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise UserError(
            f"{path} takes {size:,} bytes, more than {ROOM} times what the data set's test images "
            "take.",
            "Store the adversarial images and their labels only.",
        )


def _again() -> str:
    return f"Store the images anew: {KEPT}"


READERS: dict[str, Callable[[Path, int], contextlib.AbstractContextManager[dict[str, Stored]]]] = {
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".npz": _npz,
    ".npy": _npy,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _safetensors,
}
