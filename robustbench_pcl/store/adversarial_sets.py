"""Adversarial sets: HDF5, joined from parts so that nothing finished is ever lost.

Images are float32: an 8-bit file would change the models' answers (a perturbation of 8/255 is eight
grey levels).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from robustbench_pcl.configuration import ID_LENGTH, Count, Description, Dump, Mode, digest
from robustbench_pcl.environment import Environment
from robustbench_pcl.store.atomic import replacing
from robustbench_pcl.store.formats import FORMAT, other_format
from robustbench_pcl.store.parts import UNREADABLE, Part, damaged
from robustbench_pcl.store.records import DataRecord, ModelRecord

Array = np.ndarray[Any, Any]
CHUNK = 32
FIELDS = ("images", "indices", "labels", "predictions")
TEXTS = ("stages", "spec", "summary")
"""Attributes that are JSON."""
BLOCK = 512
"""Images that are joined at a time: memory is flat in their number."""


class SetSpecification(Description):
    """What an adversarial set is made from; its digest is the set's id.

    Attributes:
        source: the model that is attacked; None for images that were crafted elsewhere.
        attack: the complete configuration of the attack.
        norm: the norm of the threat model ("linf" or "l2").
        data: the clean images.
        n: how many, the first of the split.
        seed: of random starts.
        mode: how the images are made.
    """

    source: ModelRecord | None
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
                "source": self.source and self.source.key,
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
        largest_l2: largest L2 perturbation; None in sets that were made before it was kept.
        mean_l2: mean L2 perturbation, in pixels of [0, 1].
        blind: images that withstood, but in some pass no pixel's gradient was finite.
        seconds: that the attack took.
        forward_passes: images passed forward.
        backward_passes: images passed backward.
        environment: where it was made.
        images_digest: of the stored pixels.
        precision: of the gradients, "float32", "bfloat16", or both where a run was resumed on
            another device; the source's classes are float32's.
    """

    largest_linf: float
    largest_l2: float | None = None
    mean_l2: float
    blind: int = 0
    seconds: float
    forward_passes: int
    backward_passes: int
    environment: Environment
    images_digest: str
    precision: str


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


@dataclass(frozen=True)
class AdversarialSet:
    """A finished set on the disk; images are read in chunks, never all at once.

    Attributes:
        path: its file.
        spec: what it was made from.
        summary: what is known of it.
        stages: the titles of the attack's stages; empty in sets that were made before there were
            stages.
    """

    path: Path
    spec: SetSpecification
    summary: SetSummary
    stages: tuple[str, ...] = ()

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
                raise damaged(self.path, error) from error
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
            raise damaged(self.path, error) from error

    def felled_by(self) -> Array:
        """Which stage felled each image, int64 (N,): a position in ``stages``, -1 or -2.

        -1: it withstood all of them; -2: the source had it wrong already, so it was not attacked.

        Raises:
            UserError: a part of the file cannot be read or does not match its checksum.
        """
        if not self.stages:
            return np.where(self.source_verdicts(), -1, 0)
        try:
            with h5py.File(self.path, "r") as file:
                return np.asarray(file["felled_by"][:])
        except UNREADABLE as error:
            raise damaged(self.path, error) from error

    def column(self, name: str) -> Array:
        """What is kept of each image, (N,): its "indices", "labels" or "predictions".

        Raises:
            UserError: a part of the file cannot be read or does not match its checksum.
        """
        try:
            with h5py.File(self.path, "r") as file:
                return np.asarray(file[name][:])
        except UNREADABLE as error:
            raise damaged(self.path, error) from error

    def verify(self) -> None:
        """Compare the stored pixels with their digest.

        Raises:
            UserError: they differ.
        """
        total = hashlib.sha256()
        for images, _ in self.batches(512):
            total.update(images.tobytes())
        if total.hexdigest()[:ID_LENGTH] != self.summary.images_digest:
            raise damaged(self.path, "its pixels do not match their digest")


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
                raise damaged(path, "it was never finished")
            if file.attrs.get("format") != FORMAT:
                raise other_format(path, file.attrs.get("format"))
            spec = SetSpecification.model_validate_json(file.attrs["spec"])
            summary = SetSummary.model_validate_json(file.attrs["summary"])
            stages = tuple(map(str, json.loads(file.attrs.get("stages", "[]"))))
            if any(name not in file or len(file[name]) != spec.n for name in FIELDS):
                raise damaged(path, "a part of it is missing")
    except UNREADABLE as error:  # pydantic's ValidationError is a ValueError
        raise damaged(path, error) from error
    return AdversarialSet(path, spec, summary, stages)


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


def write_set(
    folder: Path,
    spec: SetSpecification,
    blocks: Iterable[Array],
    clean: Array,
    *,
    columns: Mapping[str, Array],
    stages: tuple[str, ...] = (),
    **known: object,
) -> AdversarialSet:
    """Write a finished set and measure its perturbations.

    Args:
        folder: of the sets.
        spec: what the set is.
        blocks: its images, float32 (B, C, H, W) in [0, 1], some at a time.
        clean: uint8 (n, C, H, W), the clean images in the set's order.
        columns: int64 (n,) each: indices, labels, predictions and what else is kept of an image.
        stages: the titles of the attack's stages.
        known: the fields of the summary that do not follow from the images.

    Raises:
        UserError: the disk does not take it, or a block cannot be read.
    """
    path = folder / f"{spec.id}.h5"
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        images = file.create_dataset(
            "images",
            (spec.n, *clean.shape[1:]),
            dtype="f4",
            chunks=(min(CHUNK, spec.n), *clean.shape[1:]),
            compression="gzip",
            compression_opts=1,  # measured: no shuffle filter, which makes float noise larger
        )
        for name, values in columns.items():
            file.create_dataset(name, data=values, dtype="i8", fletcher32=True)
        start, largest, total, content = 0, np.zeros(2), 0.0, hashlib.sha256()
        for block in blocks:
            rows = slice(start, start + len(block))
            images[rows] = block
            start = rows.stop
            content.update(block.tobytes())
            linf, l2 = perturbation_sizes(block, clean[rows])
            largest = np.maximum(largest, [linf.max(), l2.max()])
            total += float(l2.sum())
        summary = SetSummary.model_validate(
            {
                **known,
                "largest_linf": float(largest[0]),
                "largest_l2": float(largest[1]),
                "mean_l2": total / spec.n,
                "images_digest": content.hexdigest()[:ID_LENGTH],
            }
        )
        file.attrs["format"] = FORMAT
        _write_text(file, "stages", json.dumps(stages))
        _write_text(file, "spec", spec.model_dump_json())
        _write_text(file, "summary", summary.model_dump_json())
        file.attrs["complete"] = True
    return AdversarialSet(path, spec, summary, stages)


def copy_set(images: AdversarialSet, path: Path) -> None:
    """Copy a finished set to a file whose text has a fixed length, as new sets have it.

    Raises:
        UserError: the set cannot be read.
    """
    shutil.copyfile(images.path, path)
    try:
        with h5py.File(path, "r+") as file:
            for name in TEXTS:
                if file.attrs.get_id(name).dtype.kind == "O":
                    _write_text(file, name, file.attrs[name])
    except UNREADABLE as error:
        raise damaged(images.path, error) from error


def _write_text(file: h5py.File, name: str, text: str) -> None:
    """Keep text at a fixed length: of any length, it lies in a heap that may be damaged.

    HDF5 does not return from some such heaps.
    """
    file.attrs[name] = np.bytes_(text.encode())


class Sizes(NamedTuple):
    """How far images are from the clean ones, float64 (N,) in each norm, in pixels of [0, 1]."""

    linf: Array
    l2: Array


def perturbation_sizes(images: Array, clean: Array) -> Sizes:
    """How far adversarial images are from the clean ones.

    Args:
        images: float32 (N, C, H, W) in [0, 1].
        clean: uint8 (N, C, H, W).
    """
    change = (images - clean.astype(np.float32) / 255).reshape(len(images), -1)
    l2 = np.sqrt((change.astype(np.float64) ** 2).sum(axis=1))
    return Sizes(np.abs(change).max(axis=1).astype(np.float64), l2)
