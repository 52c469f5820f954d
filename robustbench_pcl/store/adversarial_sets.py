"""Adversarial sets: HDF5, written shard by shard so that nothing finished is ever lost.

A shard is a small file of its own (``<id>.parts/000512.h5``), written whole and renamed into
place; the finished set joins them into ``<id>.h5``. Images are float32: an 8-bit file would change
the models' answers (a perturbation of 8/255 is eight grey levels).
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from robustbench_pcl.configuration import ID_LENGTH, Count, Description, Dump, Mode, digest
from robustbench_pcl.environment import Environment
from robustbench_pcl.errors import UserError
from robustbench_pcl.store.atomic import replacing
from robustbench_pcl.store.records import FORMAT, DataRecord, ModelRecord, other_format

Array = np.ndarray[Any, Any]
CHUNK = 32
FIELDS = ("images", "indices", "labels", "predictions")
UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError)
"""What h5py raises on a damaged file: it depends on which byte is wrong."""


class SetSpecification(Description):
    """What an adversarial set is made from; its digest is the set's id.

    Attributes:
        source: the model that is attacked.
        attack: the complete configuration of the attack.
        norm: the norm of the threat model ("linf" or "l2").
        data: the clean images.
        n: how many, the first of the split.
        seed: of random starts.
        mode: how the images are made.
    """

    source: ModelRecord
    attack: Dump
    norm: str
    data: DataRecord
    n: Count
    seed: int
    mode: Mode

    @cached_property
    def id(self) -> str:
        """The id: the source's key, attack, pixels, n, seed and mode decide it."""
        return digest(
            {
                "source": self.source.key,
                "attack": self.attack,
                "data": self.data.digest,
                "n": self.n,
                "seed": self.seed,
                "mode": self.mode,
            }
        )


class SetSummary(Description):
    """What is known of a finished set.

    Attributes:
        largest_linf: largest L-infinity perturbation, in pixels of [0, 1].
        mean_l2: mean L2 perturbation, in pixels of [0, 1].
        seconds: that the attack took.
        forward_passes: images passed forward.
        backward_passes: images passed backward.
        environment: where it was made.
        images_digest: of the stored pixels.
        precision: of the gradients, "float32", "bfloat16", or both where a run was resumed on
            another device; the source's classes are float32's.
    """

    largest_linf: float
    mean_l2: float
    seconds: float
    forward_passes: int
    backward_passes: int
    environment: Environment
    images_digest: str
    precision: str


@dataclass(frozen=True, eq=False)
class Shard:
    """Consecutive adversarial images.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1].
        indices: int64 (N,), positions in the clean split.
        labels: int64 (N,), true classes.
        predictions: int64 (N,), the source's classes of the adversarial images.
        seconds: that they took.
        forward_passes: images passed forward.
        backward_passes: images passed backward.
        precision: of the gradients.
    """

    images: Array
    indices: Array
    labels: Array
    predictions: Array
    seconds: float
    forward_passes: int
    backward_passes: int
    precision: str = "float32"


@dataclass(frozen=True)
class AdversarialSet:
    """A finished set on the disk; images are read in chunks, never all at once.

    Attributes:
        path: its file.
        spec: what it was made from.
        summary: what is known of it.
    """

    path: Path
    spec: SetSpecification
    summary: SetSummary

    def batches(self, size: int) -> Iterator[tuple[Array, Array]]:
        """Yield (images float32 (B, C, H, W), labels int64 (B,)) in the set's order.

        Raises:
            UserError: a part of the file cannot be read or does not match its checksum.
        """
        for start in range(0, self.spec.n, size):
            stop = min(start + size, self.spec.n)
            try:
                with h5py.File(self.path, "r") as file:
                    batch = file["images"][start:stop], file["labels"][start:stop]
            except UNREADABLE as error:
                raise _damaged(self.path, error) from error
            yield batch

    def source_verdicts(self) -> Array:
        """Boolean (N,): the source classifies the image as its label, as seen by the attack.

        Raises:
            UserError: a part of the file cannot be read or does not match its checksum.
        """
        try:
            with h5py.File(self.path, "r") as file:
                return np.asarray(file["predictions"][:] == file["labels"][:])
        except UNREADABLE as error:
            raise _damaged(self.path, error) from error

    def verify(self) -> None:
        """Compare the stored pixels with their digest.

        Raises:
            UserError: they differ.
        """
        total = hashlib.sha256()
        for images, _ in self.batches(512):
            total.update(images.tobytes())
        if total.hexdigest()[:ID_LENGTH] != self.summary.images_digest:
            raise _damaged(self.path, "its pixels do not match their digest")


def find_set(folder: Path, identity: str) -> AdversarialSet | None:
    """The finished set with that id, or None.

    Raises:
        UserError: the file is there but is not a finished set.
    """
    path = folder / f"{identity}.h5"
    return open_set(path) if path.exists() else None


def open_set(path: Path) -> AdversarialSet:
    """A finished set by its file.

    Raises:
        UserError: the file is missing, truncated, not HDF5, unfinished, or of another format.
    """
    try:
        with h5py.File(path, "r") as file:
            if not file.attrs.get("complete", False):
                raise _damaged(path, "it was never finished")
            if file.attrs.get("format") != FORMAT:
                raise other_format(path, file.attrs.get("format"))
            spec = SetSpecification.model_validate_json(file.attrs["spec"])
            summary = SetSummary.model_validate_json(file.attrs["summary"])
            if any(name not in file or len(file[name]) != spec.n for name in FIELDS):
                raise _damaged(path, "a part of it is missing")
    except UNREADABLE as error:  # pydantic's ValidationError is a ValueError
        raise _damaged(path, error) from error
    return AdversarialSet(path, spec, summary)


def save_shard(folder: Path, identity: str, shard: Shard) -> None:
    """Store consecutive images under the position of their first one.

    Raises:
        UserError: the disk does not take it.
    """
    path = folder / f"{identity}.parts" / f"{int(shard.indices[0]):08d}.h5"
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for name in FIELDS:
            file[name] = getattr(shard, name)
        file.attrs["precision"] = shard.precision
        file.attrs["cost"] = [shard.seconds, shard.forward_passes, shard.backward_passes]


def stored_shards(folder: Path, identity: str) -> dict[int, int]:
    """First index -> number of images, of the shards that are already there and can be read."""
    found = {}
    for path in sorted(folder.glob(f"{identity}.parts/[0-9]*.h5")):
        with contextlib.suppress(*UNREADABLE), h5py.File(path, "r") as file:
            found[int(path.stem)] = len(file["labels"])
    return found


def finish_set(
    folder: Path, spec: SetSpecification, clean: Array, environment: Environment
) -> AdversarialSet:
    """Join the shards into the finished set and measure the perturbations.

    Args:
        folder: of the sets.
        spec: what the set is made from.
        clean: uint8 (>= n, C, H, W), the clean split.
        environment: where the set was made.

    Raises:
        UserError: the disk does not take it, or a shard is damaged.
    """
    path, parts = folder / f"{spec.id}.h5", folder / f"{spec.id}.parts"
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset(
            "images",
            (spec.n, *clean.shape[1:]),
            dtype="f4",
            chunks=(min(CHUNK, spec.n), *clean.shape[1:]),
            compression="gzip",
            compression_opts=1,  # measured: no shuffle filter, which makes float noise larger
        )
        for name in FIELDS[1:]:
            file.create_dataset(name, (spec.n,), dtype="i8", fletcher32=True)
        summary = _join(parts, file, clean[: spec.n], environment)
        file.attrs["format"] = FORMAT
        file.attrs["spec"] = spec.model_dump_json()
        file.attrs["summary"] = summary.model_dump_json()
        file.attrs["complete"] = True
    shutil.rmtree(parts, ignore_errors=True)
    return AdversarialSet(path, spec, summary)


def _join(parts: Path, file: h5py.File, clean: Array, environment: Environment) -> SetSummary:
    """Copy the shards in ``parts`` into a set's file, one after the other, and sum them up."""
    joined, largest, squared, cost, content = 0, 0.0, 0.0, np.zeros(3), hashlib.sha256()
    precisions: set[str] = set()
    for path in sorted(parts.glob("[0-9]*.h5")):
        if int(path.stem) != joined:
            continue  # left over from a run with smaller shards
        try:
            with h5py.File(path, "r") as shard:
                arrays = {name: shard[name][:] for name in FIELDS}
                cost += shard.attrs["cost"]
                precisions.add(str(shard.attrs["precision"]))
        except UNREADABLE as error:
            raise _damaged(path, error) from error
        images = arrays["images"]
        rows = slice(joined, joined + len(images))
        joined = rows.stop
        for name, array in arrays.items():
            file[name][rows] = array
        content.update(images.tobytes())
        flat = (images - clean[rows].astype(np.float32) / 255).reshape(len(images), -1)
        largest = max(largest, float(np.abs(flat).max()))
        squared += float(np.sqrt((flat.astype(np.float64) ** 2).sum(axis=1)).sum())
    if joined != len(clean):
        raise RuntimeError(f"{joined} of {len(clean)} images are there")
    return SetSummary(
        largest_linf=largest,
        mean_l2=squared / joined,
        seconds=float(cost[0]),
        forward_passes=int(cost[1]),
        backward_passes=int(cost[2]),
        environment=environment,
        images_digest=content.hexdigest()[:ID_LENGTH],
        precision=" and ".join(sorted(precisions)),
    )


def _damaged(path: Path, why: Exception | str) -> UserError:
    reason = (str(why).splitlines() or [type(why).__name__])[0]
    return UserError(
        f"{path} is not a whole adversarial set: {reason}.",
        f"Move it away (mv {path.name} {path.name}.bad) and run the command again to make it.",
    )
