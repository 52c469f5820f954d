"""Arrays in files that may come from anywhere: HDF5, .npz, .npy, .pt and .safetensors.

Shape and type of an array are known before it is read, and nothing is unpickled but tensors. What
would take more than the caller allows, or lies in another file, is not there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from robustbench_pcl.data import hdf5_worker
from robustbench_pcl.data.archives import open_zip
from robustbench_pcl.data.hdf5_worker import MOST_NAMES
from robustbench_pcl.errors import UserError, shortened
from robustbench_pcl.lazy import torch
from robustbench_pcl.store.reading import check_file

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(RuntimeError, MemoryError, AssertionError, OverflowError, SyntaxError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError, SafetensorError),
)
"""What the readers raise on a damaged file, by format and by kind of damage."""
LARGEST = 2**40
"""Bytes of a file; what of it is read is bounded by the images."""
KEPT = "np.savez('adversarial.npz', images=images, labels=labels)"
"""How images are stored so that they can be read."""


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, which is not read yet.

    Attributes:
        shape: its shape.
        dtype: its type.
        read: reads it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Array]


@contextlib.contextmanager
def open_arrays(path: Path, limit: int) -> Iterator[dict[str, StoredArray]]:
    """The arrays of a file, by name; they can be read as long as it is open.

    Args:
        path: the file; its name says the format.
        limit: bytes that it may take to read it.

    Raises:
        UserError: there is no such file, or it is damaged, too large, or of another format.
    """
    cure = f"Store the images again: {KEPT}"
    if not path.is_file():
        raise UserError(f"There is no file {path}.", "Check its name: --from FILE.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path} is no kind of file that is read: {', '.join(READERS)}.", cure)
    check_file(path, LARGEST, "file of images")
    try:
        with reader(path, limit) as arrays:
            yield arrays
    except UNREADABLE as error:
        reason = shortened((str(error).splitlines() or [type(error).__name__])[0], 200)
        raise UserError(f"{path} cannot be read: {reason}.", cure) from error


@contextlib.contextmanager
def _hdf5(path: Path, limit: int) -> Iterator[dict[str, StoredArray]]:
    """The arrays of an HDF5 file that lie in it, not behind a link to another one."""
    command = [sys.executable, "-P", "-m", hdf5_worker.__name__, str(path.absolute()), str(limit)]
    places = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "OPENBLAS_NUM_THREADS": "1",  # each thread takes memory from what is allowed
    }
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as worker:
        try:
            held = json.loads(_answer(worker, None) or "null")
            if not isinstance(held, dict):
                raise ValueError(held or "HDF5's library does not get through it")
            arrays = {}
            for name, (sides, kind) in held.items():
                shape, dtype = tuple(sides), np.dtype(kind)
                read = partial(_array_of, worker, name, shape, dtype)
                arrays[name] = StoredArray(shape, dtype, read)
            yield arrays
        finally:
            worker.kill()


def _array_of(
    worker: subprocess.Popen[bytes], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """An array that another process reads."""
    size = math.prod(shape) * dtype.itemsize
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(name).encode() + b"\n")
    worker.stdin.flush()
    data = _answer(worker, size)
    if len(data) != size:
        raise ValueError(f"HDF5's library does not get through {name!r}")
    return np.frombuffer(data, dtype).reshape(shape)


def _answer(worker: subprocess.Popen[bytes], size: int | None) -> bytes:
    """So many bytes of what a process writes, or one line; it is stopped if it takes too long."""
    seconds = hdf5_worker.SECONDS * (1 + (size or 0) / 2**30)
    timer = threading.Timer(seconds, worker.kill)
    timer.start()
    assert worker.stdout is not None
    try:
        return worker.stdout.readline() if size is None else worker.stdout.read(size)
    finally:
        timer.cancel()


@contextlib.contextmanager
def _npz(path: Path, limit: int) -> Iterator[dict[str, StoredArray]]:
    """The arrays of an archive of .npy files."""
    with open_zip(path) as archive:
        found = {}
        for member in archive.infolist()[:MOST_NAMES]:
            usual = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if usual and member.file_size <= limit and member.filename.endswith(".npy"):
                name = member.filename.removesuffix(".npy")
                found[name] = _npy_array(partial(archive.open, member.filename))
        yield found


@contextlib.contextmanager
def _npy(path: Path, limit: int) -> Iterator[dict[str, StoredArray]]:
    """The one array of a .npy file."""
    _check_size(path, path.stat().st_size, limit)
    yield {path.stem: _npy_array(lambda: path.open("rb"))}


def _npy_array(opened: Callable[[], IO[bytes]]) -> StoredArray:
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with opened() as stream:
        shape, _, dtype = headers[np.lib.format.read_magic(stream)](stream)

    def read() -> Array:
        with opened() as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    return StoredArray(shape, dtype, read)


@contextlib.contextmanager
def _safetensors(path: Path, limit: int) -> Iterator[dict[str, StoredArray]]:
    """The arrays of a safetensors file."""
    _check_size(path, path.stat().st_size, limit)
    with safe_open(path, framework="pt") as file:
        yield {name: _tensor(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _torch(path: Path, limit: int) -> Iterator[dict[str, StoredArray]]:
    """The tensors that ``torch.save`` wrote: one, a mapping of some, or images and labels."""
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not what torch.save writes since version 1.6")
    with open_zip(path) as archive:
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


def _tensor(tensor: Tensor) -> StoredArray:
    kind = tensor.dtype
    if kind in (torch.float16, torch.bfloat16):  # numpy knows one of them only
        kind = torch.float32
    name = str(kind).removeprefix("torch.")
    return StoredArray(
        tuple(tensor.shape), np.dtype(name), lambda: tensor.detach().to(kind).numpy()
    )


def _check_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise UserError(
            f"{path} takes {size:,} bytes, more than the {limit:,} that images may take.",
            "Store the adversarial images and their labels only.",
        )


READERS: dict[
    str, Callable[[Path, int], contextlib.AbstractContextManager[dict[str, StoredArray]]]
] = {
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".npz": _npz,
    ".npy": _npy,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _safetensors,
}
