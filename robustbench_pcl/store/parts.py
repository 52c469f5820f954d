"""Parts of an adversarial set in the making: what is done is never lost.

A part is a small HDF5 file of its own (``<id>.parts/part-000012.h5``), written whole and renamed
into place. It holds images that have been through one stage of an attack, in any order. When all
are done, the parts are joined to the set.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from robustbench_pcl.configuration import digest
from robustbench_pcl.environment import Environment
from robustbench_pcl.errors import DamagedSetError, in_one_line, refused
from robustbench_pcl.store.adversarial_sets import (
    BLOCK,
    AdversarialSet,
    SetSpecification,
    write_set,
)
from robustbench_pcl.store.atomic import replacing
from robustbench_pcl.store.claims import Process
from robustbench_pcl.store.hdf5 import LARGEST_CHUNK, UNREADABLE, VERSION, Contents, open_hdf5
from robustbench_pcl.store.reading import check_file, damaged

Array = np.ndarray[Any, Any]
ROWS = {
    "indices": np.dtype(np.int64),
    "predictions": np.dtype(np.int64),
    "margins": np.dtype(np.float64),
    "fooled": np.dtype(bool),
    "better": np.dtype(bool),
    "blind": np.dtype(bool),
}
"""What is kept of each image, and its type."""
COSTS = ("seconds", "forward_passes", "backward_passes")
LARGEST_PART = 2**32
"""Bytes of a part."""
MOST_ROWS = 2**20
"""Images of a part."""
UNDIGESTED = "it was made before parts had digests"
"""Why a part is made again that may be sound."""
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""What file systems say that know no links, where a name may be taken by two at the same moment."""


@dataclass(frozen=True, eq=False)
class Part:
    """Images that have been through one stage.

    Attributes:
        stage: its number, from 0.
        indices: int64 (N,), positions in the clean split.
        predictions: int64 (N,), the source's classes of the adversarial images.
        margins: float64 (N,), their logit margins, positive where they fool the source.
        fooled: boolean (N,), which do.
        better: boolean (N,), whose image is the best of all stages up to then.
        blind: boolean (N,), whose gradient was not finite in any pixel, in some pass.
        images: float32 (M, C, H, W) in [0, 1], of those that are better, in their order; empty
            where the part was read without them.
        seconds: that they took.
        forward_passes: images passed forward.
        backward_passes: images passed backward.
        precision: of the gradients.
        path: where it is stored.
    """

    stage: int
    indices: Array
    predictions: Array
    margins: Array
    fooled: Array
    better: Array
    blind: Array
    images: Array
    seconds: float = 0.0
    forward_passes: int = 0
    backward_passes: int = 0
    precision: str = "float32"
    path: Path = field(default=Path())

    def read_images(self, positions: Array) -> Array:
        """Images float32 (M, C, H, W) by their positions among those that are better, ascending.

        Raises:
            UserError: the file is damaged.
        """
        try:
            with open_hdf5(self.path) as contents:
                images = contents.arrays["images"]
                return np.concatenate([images.read(place, place + 1) for place in positions])
        except UNREADABLE as error:
            raise damaged(self.path, error) from error

    def content_digest(self, identity: str, images: Iterator[Array]) -> str:
        """Of all that is kept of the images, and of the set they are for.

        Args:
            identity: of the set.
            images: some at a time.
        """
        arrays = {
            name: hashlib.sha256(getattr(self, name).astype(kind)).hexdigest()
            for name, kind in ROWS.items()
        }
        pixels = hashlib.sha256()
        for some in images:
            pixels.update(some.astype("<f4").tobytes())
        costs = {name: getattr(self, name) for name in ("stage", "precision", *COSTS)}
        return digest({"set": identity, **arrays, "images": pixels.hexdigest(), **costs})


def save_part(folder: Path, identity: str, part: Part) -> Part:
    """Store a part behind those that are there; return it as it can be read again.

    Raises:
        UserError: the disk does not take it.
    """
    parts = folder / f"{identity}.parts"
    own = parts / f"{Process.own().token}.h5"
    with replacing(own) as temporary, h5py.File(temporary, "w", libver=VERSION) as file:
        for name, kind in ROWS.items():
            file[name] = getattr(part, name).astype(kind)
        file["images"] = part.images.astype("<f4")
        file.attrs["stage"] = part.stage
        file.attrs["precision"] = np.bytes_(part.precision)
        file.attrs["cost"] = [float(getattr(part, name)) for name in COSTS]
        file.attrs["digest"] = np.bytes_(part.content_digest(identity, iter([part.images])))
    return replace(part, path=_numbered(own), images=part.images[:0])


def _numbered(own: Path) -> Path:
    """Give a part the number after those that are there, damaged ones among them.

    By a link, which replaces nothing: another process that works on the same set counts the same.
    """
    numbers = [int(path.name[5:11]) for path in own.parent.glob("part-[0-9]*.h5*")]
    try:
        for number in count(max(numbers, default=-1) + 1):
            path = own.with_name(f"part-{number:06d}.h5")
            with contextlib.suppress(FileExistsError):
                os.link(own, path)
                break
        own.unlink()
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise refused(error, path, "write") or error from error
        own.replace(path)
    return path


def load_parts(
    folder: Path, identity: str, say: Callable[[str], None] = lambda _: None
) -> list[Part]:
    """The parts that are there and whole, without their images, the oldest first.

    One that is not, or that is another set's, is set aside: what it held is made again.

    Args:
        folder: of the sets.
        identity: of the set.
        say: is told what is set aside.

    Raises:
        UserError: one is no regular file, or the system does not open it.
    """
    found = []
    for path in _files(folder / f"{identity}.parts"):
        try:
            found.append(open_part(path, identity))
        except DamagedSetError as error:
            path.replace(path.with_name(f"{path.name}.bad"))
            say(f"Made again: {in_one_line(error)}.")
    return found


def open_part(path: Path, identity: str) -> Part:
    """A part without its images, all of it checked against its digest.

    Raises:
        UserError: it is damaged, or a part of another set.
    """
    check_file(path, LARGEST_PART, "part of an adversarial set", within=path.parent.parent)
    try:
        with open_hdf5(path) as contents:
            part = _read_part(path, contents)
            images = contents.arrays["images"]
            each = (images.read(row, row + 1) for row in range(images.shape[0]))
            if "digest" not in contents.attributes:
                raise ValueError(UNDIGESTED)
            if contents.attributes["digest"] != part.content_digest(identity, each):
                raise ValueError("its content does not match its digest")
    except UNREADABLE as error:
        raise damaged(path, error) from error
    return part


def _read_part(path: Path, contents: Contents) -> Part:
    """A part without its images.

    Raises:
        KeyError: something is missing in it.
        ValueError: something in it is of another shape or type.
    """
    attributes, arrays = contents.attributes, contents.arrays
    n, images = arrays["indices"].shape, arrays["images"]
    kinds = {name: (arrays[name].shape, arrays[name].dtype) for name in ROWS}
    if len(n) != 1 or n[0] > MOST_ROWS or kinds != {name: (n, ROWS[name]) for name in ROWS}:
        raise ValueError("it keeps no row for each image")
    rows = {name: arrays[name].read() for name in ROWS}
    large = images.row_bytes > LARGEST_CHUNK
    if len(images.shape) != 4 or images.dtype != np.float32 or large:
        raise ValueError("its images are others")
    if images.shape[0] != rows["better"].sum():
        raise ValueError("its images are not as many as it says")
    cost, stage = attributes["cost"], attributes["stage"]
    if not isinstance(cost, list) or len(cost) != len(COSTS) or not isinstance(stage, int):
        raise ValueError("it does not say what it cost")
    return Part(
        **rows,
        stage=stage,
        images=np.empty((0, *images.shape[1:]), np.float32),
        seconds=cost[0],
        forward_passes=int(cost[1]),
        backward_passes=int(cost[2]),
        precision=str(attributes["precision"]),
        path=path,
    )


def _files(parts: Path) -> list[Path]:
    return sorted(parts.glob("part-[0-9]*.h5"))


@dataclass(frozen=True, eq=False)
class Draft:
    """A set whose images are all done, each in one of the parts.

    Attributes:
        stages: the titles of the attack's stages.
        labels: int64 (N,), true classes.
        predictions: int64 (N,), the source's classes of the adversarial images.
        felled_by: int64 (N,), the stage that felled each; see :meth:`AdversarialSet.felled_by`.
        blind: boolean (N,), withstood, but in some pass no pixel's gradient was finite.
        parts: which the images are taken from.
        part: int64 (N,), the number of each image's part, -1 for a clean image.
        position: int64 (N,), its position there.
    """

    stages: tuple[str, ...]
    labels: Array
    predictions: Array
    felled_by: Array
    blind: Array
    parts: Sequence[Part]
    part: Array
    position: Array


def finish_set(
    folder: Path, spec: SetSpecification, draft: Draft, clean: Array, environment: Environment
) -> AdversarialSet:
    """Join the parts into the finished set and measure the perturbations.

    Args:
        folder: of the sets.
        spec: what the set is made from.
        draft: where each image is, and what is known of it.
        clean: uint8 (>= n, C, H, W), the clean split.
        environment: where the set was made.

    Raises:
        UserError: the disk does not take it, or a part is damaged.
    """
    parts = draft.parts
    for part in parts:
        if open_part(part.path, spec.id).images.shape[1:] != clean.shape[1:]:
            raise damaged(part.path, "its images are of another size")
    names = ("labels", "predictions", "felled_by")
    found = write_set(
        folder,
        spec,
        _joined(draft, clean[: spec.n]),
        clean[: spec.n],
        columns={"indices": np.arange(spec.n), **{name: getattr(draft, name) for name in names}},
        stages=draft.stages,
        blind=int(draft.blind.sum()),
        seconds=sum(part.seconds for part in parts),
        forward_passes=sum(part.forward_passes for part in parts),
        backward_passes=sum(part.backward_passes for part in parts),
        environment=environment,
        precision=" and ".join(sorted({part.precision for part in parts})) or "float32",
    )
    shutil.rmtree(folder / f"{spec.id}.parts", ignore_errors=True)
    return found


def _joined(draft: Draft, clean: Array) -> Iterator[Array]:
    """The images, float32 (B, C, H, W), of all parts in the set's order, some at a time."""
    for start in range(0, len(clean), BLOCK):
        rows = slice(start, start + BLOCK)
        pixels = clean[rows].astype(np.float32) / 255
        for number in np.unique(draft.part[rows][draft.part[rows] >= 0]):
            here = np.flatnonzero(draft.part[rows] == number)
            order = np.argsort(draft.position[rows][here])
            positions = draft.position[rows][here][order]
            pixels[here[order]] = draft.parts[number].read_images(positions)
        yield pixels
