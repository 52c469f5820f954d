"""Adversarial sets: what they are made from, how they are written and read.

Images are float32: an 8-bit file would change the models' answers (a perturbation of 8/255 is eight
grey levels).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from robustbench_pcl.configuration import ID_LENGTH, Count, Description, Dump, Mode, digest
from robustbench_pcl.environment import Environment
from robustbench_pcl.store.atomic import replacing
from robustbench_pcl.store.formats import FORMAT, LARGEST_FILE, other_format
from robustbench_pcl.store.hdf5 import UNREADABLE, VERSION, Attribute, Contents, open_hdf5
from robustbench_pcl.store.reading import check_file, damaged, parse_json
from robustbench_pcl.store.records import DataRecord, ModelRecord
from robustbench_pcl.store.rules import set_id

Array = np.ndarray[Any, Any]
CHUNK = 32
LARGEST_CHUNK = 2**26
"""Bytes of a chunk of images; it has one image at least."""
MOST_IMAGES = 2 * 10**6
FIELDS = ("images", "indices", "labels", "predictions")
COLUMNS = ("indices", "labels", "predictions", "felled_by")
"""What is kept of each image; sets that were made before there were stages have no last one."""
TEXTS = ("stages", "spec", "summary")
"""Attributes that are JSON."""
ATTRIBUTES = (*TEXTS, "format", "complete")
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
        return set_id(
            self.source, self.attack, self.data.digest, n=self.n, seed=self.seed, mode=self.mode
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
        content_digest: of all else in the set and of ``images_digest``, see
            :func:`content_digest`; None in sets that were made before it was kept.
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
    content_digest: str | None = None
    precision: str


@dataclass(frozen=True)
class AdversarialSet:
    """A finished set on the disk; images are read in chunks, never all at once.

    What is read is checked: against the digests that the set keeps, and that pixels are numbers in
    [0, 1]. :mod:`robustbench_pcl.evaluation.checked` holds it against its clean images, too.

    Attributes:
        path: its file.
        spec: what it was made from.
        summary: what is known of it.
        stages: the titles of the attack's stages; empty in sets that were made before there were
            stages.
        shape: (C, H, W) of its images.
    """

    path: Path
    spec: SetSpecification
    summary: SetSummary
    stages: tuple[str, ...]
    shape: tuple[int, ...]

    @cached_property
    def columns(self) -> Mapping[str, Array]:
        """What is kept of each image, int64 (N,) each, by :data:`COLUMNS`.

        Raises:
            UserError: it cannot be read, or does not match its digest.
        """
        with _opened(self.path) as contents:
            arrays = contents.arrays
            found = {name: arrays[name].read() for name in COLUMNS if name in arrays}
            kept = self.summary.content_digest
            if kept is not None and kept != content_digest(contents.attributes, found):
                raise ValueError("its labels, predictions or description do not match their digest")
            if (np.diff(found["indices"], prepend=-1) < 1).any():
                raise ValueError("its indices do not rise")
        return found

    def batches(self, size: int) -> Iterator[tuple[Array, Array]]:
        """Yield (images float32 (B, C, H, W), labels int64 (B,)) in the set's order.

        Pixels are compared with their digest behind the last batch.

        Raises:
            UserError: the file cannot be read, does not match its digests, or a pixel is outside
                [0, 1] or not a number.
        """
        labels, total = self.columns["labels"], hashlib.sha256()
        with _opened(self.path) as contents:
            for start in range(0, self.spec.n, size):
                images = contents.arrays["images"].read(start, start + size)
                if not 0 <= images.min() <= images.max() <= 1:
                    raise ValueError("it holds pixels outside [0, 1], or that are no numbers")
                total.update(images.tobytes())
                yield images, labels[start : start + size]
            if total.hexdigest()[:ID_LENGTH] != self.summary.images_digest:
                raise ValueError("its pixels do not match their digest")

    def source_verdicts(self) -> Array:
        """Boolean (N,): the source classifies the image as its label, as seen by the attack.

        Raises:
            UserError: see :attr:`columns`.
        """
        return np.asarray(self.columns["predictions"] == self.columns["labels"])

    def felled_by(self) -> Array:
        """Which stage felled each image, int64 (N,): a position in ``stages``, -1 or -2.

        -1: it withstood all of them; -2: the source had it wrong already, so it was not attacked.

        Raises:
            UserError: see :attr:`columns`.
        """
        if not self.stages:
            return np.where(self.source_verdicts(), -1, 0)
        return self.columns["felled_by"]

    def verify(self) -> None:
        """Compare all that is stored with its digests.

        Raises:
            UserError: something differs, or a pixel is outside [0, 1] or not a number.
        """
        for _ in self.batches(BLOCK):
            pass


def content_digest(attributes: Mapping[str, Attribute], columns: Mapping[str, Array]) -> str:
    """The digest of all that a set keeps but its pixels, whose own digest is a part of it.

    It is of the stored text, not of what this version makes of it: fields may be added later.

    Args:
        attributes: the stages' titles, the specification and the summary, as JSON.
        columns: int64 (N,) each.
    """
    texts = {name: json.loads(str(attributes.get(name, "[]"))) for name in TEXTS}
    texts["summary"].pop("content_digest", None)
    for name, column in columns.items():
        texts[name] = hashlib.sha256(column.astype("<i8").tobytes()).hexdigest()
    return digest(texts)


def has_set(folder: Path, identity: str) -> bool:
    """Whether there is a file of the set with that id; it is not opened."""
    return (folder / f"{identity}.h5").exists()


def find_set(folder: Path, identity: str) -> AdversarialSet | None:
    """The finished set with that id, or None.

    Raises:
        UserError: the file is there but is not a finished set, is that of another specification, or
            is a link that leads out of the workspace's results.
    """
    path = folder / f"{identity}.h5"
    if not os.path.lexists(path):
        return None
    found = open_set(path, within=folder.parent)
    if found.spec.id != identity:
        raise damaged(path, f"it holds {found.spec.id}, which is another one")
    return found


def open_set(path: Path, within: Path | None = None) -> AdversarialSet:
    """A finished set by its file, which may come from anywhere.

    Args:
        path: the file.
        within: a folder that a link may not leave; None where the user named the file.

    Raises:
        UserError: the file is missing, truncated, not HDF5 as it is written here, unfinished, or of
            another format; or it is no regular file, or a link that leads out.
    """
    check_file(path, LARGEST_FILE, "adversarial set", within)
    with _opened(path) as contents:
        attributes, arrays = contents.attributes, contents.arrays
        if not attributes.get("complete", False):
            raise ValueError("it was never finished")
        if attributes.get("format") != FORMAT:
            raise other_format(path, attributes.get("format"))
        what = f"{path} is not a whole adversarial set"
        texts = {name: parse_json(str(attributes[name]), what) for name in ("spec", "summary")}
        spec = SetSpecification.model_validate(texts["spec"])
        summary = SetSummary.model_validate(texts["summary"])
        stages = tuple(map(str, parse_json(str(attributes.get("stages", "[]")), what)))
        if not {*FIELDS, *(COLUMNS if stages else ())} <= arrays.keys():
            raise ValueError("a part of it is missing")
        if not (arrays.keys() <= {*FIELDS, *COLUMNS} and attributes.keys() <= {*ATTRIBUTES}):
            raise ValueError("it holds more than a set")
        if spec.n > MOST_IMAGES:
            raise ValueError(f"it has {spec.n:,} images")
        kinds = {(arrays[name].shape, arrays[name].dtype.str) for name in arrays if name in COLUMNS}
        if kinds != {((spec.n,), "<i8")}:
            raise ValueError("it does not keep one label and one class of each image")
        count, *shape = arrays["images"].shape
        if count != spec.n or len(shape) != 3 or arrays["images"].dtype != np.float32:
            raise ValueError("its images are others")
    return AdversarialSet(path, spec, summary, stages, tuple(shape))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Contents]:
    """A set's file.

    Raises:
        UserError: it is not HDF5 as it is written here, or something else is wrong with it.
    """
    try:
        with open_hdf5(path) as contents:
            yield contents
    except UNREADABLE as error:  # pydantic's ValidationError is a ValueError
        raise damaged(path, error) from error


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
    with replacing(path) as temporary, h5py.File(temporary, "w", libver=VERSION) as file:
        images = _new_arrays(file, (spec.n, *clean.shape[1:]), columns)
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
        described = (json.dumps(stages), spec.model_dump_json(), summary.model_dump_json())
        texts = dict(zip(TEXTS, described, strict=True))
        summary = summary.changed(content_digest=content_digest(texts, columns))
        _write_attributes(file, {**texts, "summary": summary.model_dump_json()})
    return AdversarialSet(path, spec, summary, stages, clean.shape[1:])


def copy_set(images: AdversarialSet, path: Path) -> None:
    """Write a finished set anew, as new sets are written, with the same content.

    Raises:
        UserError: the set cannot be read, or does not match its digests.
    """
    with _opened(images.path) as contents:
        texts = {name: str(contents.attributes.get(name, "[]")) for name in TEXTS}
    with h5py.File(path, "w", libver=VERSION) as file:
        copied, start = _new_arrays(file, (images.spec.n, *images.shape), images.columns), 0
        for block, _ in images.batches(BLOCK):
            copied[start : start + len(block)] = block
            start += len(block)
        _write_attributes(file, texts)


def _new_arrays(
    file: h5py.File, shape: tuple[int, ...], columns: Mapping[str, Array]
) -> h5py.Dataset:
    """Write what is kept of each image; the images themselves, which are still to be filled in."""
    for name, values in columns.items():
        file.create_dataset(name, data=values, dtype="i8", fletcher32=True)
    n, *sides = shape
    rows = min(CHUNK, n, max(1, LARGEST_CHUNK // (4 * math.prod(sides))))
    return file.create_dataset(
        "images",
        shape,
        dtype="f4",
        chunks=(rows, *sides),
        compression="gzip",
        compression_opts=1,  # measured: no shuffle filter, which makes float noise larger
    )


def _write_attributes(file: h5py.File, texts: Mapping[str, str]) -> None:
    """Write what describes a set; its last attribute says that it is finished.

    Text has a fixed length: of any length, it lies in a heap, which may be damaged.
    """
    for name, text in texts.items():
        file.attrs[name] = np.bytes_(text.encode())
    file.attrs["format"] = FORMAT
    file.attrs["complete"] = True


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
