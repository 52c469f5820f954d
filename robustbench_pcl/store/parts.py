"""Parts of an adversarial set in the making: what is done is never lost.

A part is a small HDF5 file of its own (``<id>.parts/part-000012.h5``), written whole and renamed
into place. It holds images that have been through one stage of an attack, in any order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from robustbench_pcl.errors import UserError, refused
from robustbench_pcl.store.atomic import replacing

Array = np.ndarray[Any, Any]
UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError)
"""What h5py raises on a damaged file: it depends on which byte is wrong."""
ROWS = ("indices", "predictions", "margins", "fooled", "better", "blind")
COSTS = ("seconds", "forward_passes", "backward_passes")


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
            with h5py.File(self.path, "r") as file:
                return np.asarray(file["images"][positions])
        except UNREADABLE as error:
            raise damaged(self.path, error) from error


def save_part(folder: Path, identity: str, part: Part) -> Part:
    """Store a part behind those that are there; return it as it can be read again.

    Raises:
        UserError: the disk does not take it.
    """
    with (
        _reserved(folder / f"{identity}.parts") as path,
        replacing(path) as temporary,
        h5py.File(temporary, "w") as file,
    ):
        for name in (*ROWS, "images"):
            file[name] = getattr(part, name)
        file.attrs["stage"] = part.stage
        file.attrs["precision"] = part.precision
        file.attrs["cost"] = [getattr(part, name) for name in COSTS]
    return replace(part, path=path, images=part.images[:0])


def load_parts(folder: Path, identity: str) -> list[Part]:
    """The parts that are there and can be read, without their images, the oldest first."""
    found = []
    for path in _files(folder / f"{identity}.parts"):
        with contextlib.suppress(*UNREADABLE), h5py.File(path, "r") as file:
            seconds, forward, backward = file.attrs["cost"]
            rows = {name: file[name][:] for name in ROWS}
            if len(file["images"]) != rows["better"].sum():
                continue
            part = Part(
                **rows,
                stage=int(file.attrs["stage"]),
                images=np.empty((0, *file["images"].shape[1:]), np.float32),
                seconds=float(seconds),
                forward_passes=int(forward),
                backward_passes=int(backward),
                precision=str(file.attrs["precision"]),
                path=path,
            )
            found.append(part)
    return found


def damaged(path: Path, why: Exception | str) -> UserError:
    """The error for a set, or a part of one, that cannot be read."""
    if isinstance(why, OSError) and (error := refused(why, path, "read")):
        return error  # as its owner left it, who reads it now may not
    reason = (str(why).splitlines() or [type(why).__name__])[0]
    return UserError(
        f"{path} is not a whole adversarial set: {reason}.",
        f"Move it away (mv {path.name} {path.name}.bad) and run the command again to make it.",
    )


@contextlib.contextmanager
def _reserved(parts: Path) -> Iterator[Path]:
    """The next part's file, empty as yet: another process on the same set takes the one after.

    Raises:
        UserError: the disk does not take it.
    """
    path = parts
    try:
        parts.mkdir(parents=True, exist_ok=True)
        for number in count(max((int(file.stem[5:]) for file in _files(parts)), default=-1) + 1):
            path = parts / f"part-{number:06d}.h5"
            with contextlib.suppress(FileExistsError):
                path.touch(exist_ok=False)
                break
    except OSError as error:
        raise refused(error, path, "write") or error from error
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _files(parts: Path) -> list[Path]:
    return sorted(parts.glob("part-[0-9]*.h5"))
