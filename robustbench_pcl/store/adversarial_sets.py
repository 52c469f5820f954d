"""Adversarial sets: HDF5, written shard by shard so that nothing finished is ever lost.

A shard is a small file of its own (``<id>.parts/000512.h5``), written whole and renamed into
place; the finished set joins them into ``<id>.h5``. Images are float32: an 8-bit file would change
verdicts (a perturbation of 8/255 is eight grey levels).
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from robustbench_pcl.errors import UserError
from robustbench_pcl.specs.base import ID_LENGTH, Part, Spec, digest
from robustbench_pcl.specs.names import CraftingMode
from robustbench_pcl.store.atomic import replacing
from robustbench_pcl.store.records import DataRecord, Environment, ModelRecord

Array = np.ndarray[Any, Any]
CHUNK = 32
FIELDS = ("images", "indices", "labels", "predictions")
UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError)
"""What h5py raises on a damaged file: it depends on which byte is wrong."""


class SetSpec(Spec):
    """What an adversarial set is made from; its digest is the set's id.

    Attributes:
        source: the model the images are crafted on.
        attack: the attack with all its parameters.
        norm: the norm of the threat model ("linf" or "l2").
        data: the clean images.
        n: how many, the first of the split.
        seed: of random starts.
        crafting: how they are made; sets that do not say are exact.
    """

    source: ModelRecord
    attack: Part
    norm: str
    data: DataRecord
    n: int
    seed: int
    crafting: CraftingMode = "exact"

    @property
    def id(self) -> str:
        """The id: the source's key, attack, pixels, n, seed and crafting decide it."""
        made_from = {
            "source": self.source.key,
            "attack": self.attack.content(),
            "data": self.data.digest,
            "n": self.n,
            "seed": self.seed,
        }
        if self.crafting != "exact":
            made_from["crafting"] = self.crafting
        return digest(made_from)


class SetSummary(Spec):
    """What is known of a finished set.

    Attributes:
        largest_linf: largest L-infinity perturbation, in pixels of [0, 1].
        mean_l2: mean L2 perturbation, in pixels of [0, 1].
        seconds: of crafting.
        forward_passes: images passed forward.
        backward_passes: images passed backward.
        environment: where it was crafted.
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
    images_digest: str = ""
    precision: str = "float32"


@dataclass(frozen=True)
class Shard:
    """A run of adversarial images.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1].
        indices: int64 (N,), positions in the clean split.
        labels: int64 (N,), true classes.
        predictions: int64 (N,), the source's classes on the adversarial images.
        seconds: of crafting.
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
    """A finished set on the disk; images are read in chunks, never all at once."""

    path: Path
    spec: SetSpec
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
                raise _damaged(self.path, _first_line(error)) from error
            yield batch

    def source_verdicts(self) -> Array:
        """Boolean (N,): the source classifies the image as its label, as seen when it was crafted.

        Raises:
            UserError: a part of the file cannot be read or does not match its checksum.
        """
        try:
            with h5py.File(self.path, "r") as file:
                return np.asarray(file["predictions"][:] == file["labels"][:])
        except UNREADABLE as error:
            raise _damaged(self.path, _first_line(error)) from error

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


def set_path(folder: Path, identity: str) -> Path:
    """The file of a finished set."""
    return folder / f"{identity}.h5"


def find_set(folder: Path, identity: str) -> AdversarialSet | None:
    """The finished set with that id, or None."""
    path = set_path(folder, identity)
    return open_set(path) if path.exists() else None


def open_set(path: Path) -> AdversarialSet:
    """A finished set by its file.

    Raises:
        UserError: the file is missing, truncated, not HDF5, or unfinished.
    """
    try:
        with h5py.File(path, "r") as file:
            if not file.attrs.get("complete", False):
                raise _damaged(path, "it was never finished")
            spec = SetSpec.model_validate_json(file.attrs["spec"])
            summary = SetSummary.model_validate_json(file.attrs["summary"])
            if any(name not in file or len(file[name]) != spec.n for name in FIELDS):
                raise _damaged(path, "a part of it is missing")
    except UNREADABLE as error:  # pydantic's ValidationError is a ValueError
        raise _damaged(path, _first_line(error)) from error
    return AdversarialSet(path, spec, summary)


def save_shard(folder: Path, identity: str, shard: Shard) -> None:
    """Store a run of images under the position of its first one."""
    path = _parts(folder, identity) / f"{int(shard.indices[0]):08d}.h5"
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for name in FIELDS:
            file[name] = getattr(shard, name)
        file.attrs["precision"] = shard.precision
        file.attrs["cost"] = [shard.seconds, shard.forward_passes, shard.backward_passes]
        file.attrs["complete"] = True


def stored_shards(folder: Path, identity: str) -> dict[int, int]:
    """First index -> number of images, of the shards that are already there and can be read."""
    found = {}
    for path in sorted(_parts(folder, identity).glob("[0-9]*.h5")):
        with contextlib.suppress(*UNREADABLE), h5py.File(path, "r") as file:
            found[int(path.stem)] = len(file["labels"])
    return found


def finish_set(
    folder: Path, spec: SetSpec, clean: Array, environment: Environment
) -> AdversarialSet:
    """Join the shards into the finished set and measure the perturbations.

    Args:
        folder: of the sets.
        spec: what the set is made from.
        clean: uint8 (>= n, C, H, W), the clean split.
        environment: where the set was crafted.

    Raises:
        UserError: the disk does not take it, or a shard is damaged.
    """
    path = set_path(folder, spec.id)
    parts = sorted(_parts(folder, spec.id).glob("[0-9]*.h5"))
    joined = 0
    largest, squared, cost, content = 0.0, 0.0, np.zeros(3), hashlib.sha256()
    precisions: set[str] = set()
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        _create(file, spec.n, clean.shape[1:])
        for part in parts:
            if int(part.stem) != joined:
                continue  # left over from a run with smaller shards
            shard = _load_shard(part)
            rows = slice(joined, joined + len(shard.labels))
            joined = rows.stop
            for name in FIELDS:
                file[name][rows] = getattr(shard, name)
            cost += (shard.seconds, shard.forward_passes, shard.backward_passes)
            content.update(shard.images.tobytes())
            precisions.add(shard.precision)
            difference = shard.images - clean[rows].astype(np.float32) / 255
            flat = difference.reshape(len(difference), -1)
            largest = max(largest, float(np.abs(flat).max()))
            squared += float(np.sqrt((flat.astype(np.float64) ** 2).sum(axis=1)).sum())
        if joined != spec.n:
            raise RuntimeError(f"{joined} of {spec.n} images are crafted")
        summary = SetSummary(
            largest_linf=largest,
            mean_l2=squared / spec.n,
            seconds=float(cost[0]),
            forward_passes=int(cost[1]),
            backward_passes=int(cost[2]),
            environment=environment,
            images_digest=content.hexdigest()[:ID_LENGTH],
            precision=" and ".join(sorted(precisions)),
        )
        file.attrs["spec"] = spec.model_dump_json()
        file.attrs["summary"] = summary.model_dump_json()
        file.attrs["complete"] = True
    shutil.rmtree(_parts(folder, spec.id), ignore_errors=True)
    return AdversarialSet(path, spec, summary)


def _load_shard(path: Path) -> Shard:
    try:
        with h5py.File(path, "r") as file:
            seconds, forward_passes, backward_passes = file.attrs["cost"]
            arrays = {name: file[name][:] for name in FIELDS}
            precision = str(file.attrs.get("precision", "float32"))
    except UNREADABLE as error:
        raise _damaged(path, _first_line(error)) from error
    return Shard(
        **arrays,
        seconds=float(seconds),
        forward_passes=int(forward_passes),
        backward_passes=int(backward_passes),
        precision=precision,
    )


def _create(file: h5py.File, n: int, shape: tuple[int, ...]) -> None:
    file.create_dataset(
        "images",
        (n, *shape),
        dtype="f4",
        chunks=(min(CHUNK, n), *shape),
        compression="gzip",
        compression_opts=1,  # measured: no shuffle filter, which makes float noise larger
    )
    for name in FIELDS[1:]:
        file.create_dataset(name, (n,), dtype="i8", fletcher32=True)


def _parts(folder: Path, identity: str) -> Path:
    return folder / f"{identity}.parts"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is not a whole adversarial set: {why}.",
        f"Move it away (mv {path.name} {path.name}.bad) and run the command again to craft it.",
    )
