"""The images that an attack fooled first, as a small picture: clean, adversarial, difference."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from robustbench_pcl.data.dataset import Dataset, read
from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.checked import are_clean_images, checked_batches
from robustbench_pcl.store.adversarial_sets import AdversarialSet, find_set
from robustbench_pcl.store.reading import read_bounded
from robustbench_pcl.store.records import Measurement, Paths, find_measurement
from robustbench_pcl.store.rules import measurement_id

Array = np.ndarray[Any, Any]
MOST_SHOWN = 3
"""Images in a strip, one row each."""
ENLARGED = 10
"""By how much a difference is enlarged, around mid-grey."""
BATCH = 64
"""Images that are read at once: the first fooled ones are as a rule among the first."""
WRONG_WHEN_CLEAN = "01"
"""The two digits in ``Measurement.felled_by`` of an image that no attack was needed for."""
DESCRIPTION = "Description"
"""The PNG's own text that says in words what it shows."""
MOST_ON_A_PAGE = 4 * 2**20
"""Bytes of all strips of a page together."""
LARGEST_STRIP = 2**18
"""Bytes of a strip that is read from a file."""


def strip(paths: Paths, measurement: Measurement) -> bytes | None:
    """A PNG of at most 3 images that the attack fooled first, by index.

    One row per image: clean, adversarial, and their difference times 10 around mid-grey, each at
    its own resolution. The PNG's only text is its description (:func:`description`). The same
    images make the same bytes.

    Args:
        paths: of the workspace; a strip that lies in it (:func:`strip_file`) is taken as it is.
        measurement: of a model under an attack.

    Returns:
        The picture; None where nothing was fooled, where the adversarial images are no longer
        stored or are damaged, and where other clean images are here than those that were attacked.
    """
    file = strip_file(paths, measurement.id)
    try:
        if file.exists():
            return read_bounded(file, LARGEST_STRIP, "strip", within=paths.results)
        return _drawn(paths, measurement)
    except UserError:  # `pclbench verify` says what is wrong with a file
        return None


def stored_strips(paths: Paths) -> Callable[[str], bytes | None]:
    """Finds the strip of a measurement by its id, as a page asks for it.

    Args:
        paths: of the workspace.

    Returns:
        What returns a PNG, or None where there is none, and where the strips that were asked for
        before are as large as a page may be.
    """
    left = MOST_ON_A_PAGE

    def find(identity: str) -> bytes | None:
        nonlocal left
        measurement = find_measurement(paths, identity) if left > 0 else None
        png = strip(paths, measurement) if measurement else None
        left -= len(png or b"")
        return png

    return find


def strip_file(paths: Paths, identity: str) -> Path:
    """Where a measurement's strip lies, if it was written.

    Args:
        paths: of the workspace.
        identity: of the measurement.
    """
    return paths.results / "strips" / f"{identity}.png"


def description(png: bytes) -> str:
    """What a strip shows, in words; "" if it does not say, or is no PNG."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            return str(picture.info.get(DESCRIPTION, ""))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""


def first_fooled(measurement: Measurement, clean: Measurement | None) -> Array:
    """Positions in the set of the first images that are classified right until they are attacked.

    Args:
        measurement: of a model under an attack.
        clean: of the same model on the same images; without it the measurement itself says which
            were wrong when clean, if it knows.

    Returns:
        int64, rising, at most ``MOST_SHOWN``.
    """
    fooled = ~measurement.withstood()
    if clean is not None and clean.n == measurement.n:
        fooled &= clean.withstood()
    elif measurement.felled_by:
        digits = measurement.felled_by
        felled = [digits[place : place + 2] for place in range(0, len(digits), 2)]
        fooled &= np.array(felled) != WRONG_WHEN_CLEAN
    return np.flatnonzero(fooled)[:MOST_SHOWN]


def _drawn(paths: Paths, measurement: Measurement) -> bytes | None:
    """The strip from the stored images.

    Raises:
        UserError: the set, the clean accuracy or the data set is damaged.
    """
    spec = DATASETS.get(measurement.data.dataset)
    dataset = read(spec) if spec else None
    if dataset is None or measurement.adversarial_set is None:
        return None
    images = find_set(paths.adversarial_sets, measurement.adversarial_set)
    if images is None or images.spec.n != measurement.n:
        return None
    index = images.columns["indices"]
    if not are_clean_images(dataset, images.spec.data.digest, index):
        return None
    target, data = measurement.target, measurement.data.digest
    identity = measurement_id(target, data=data, n=measurement.n)
    rows = first_fooled(measurement, find_measurement(paths, identity))
    if not len(rows):
        return None
    source = images.spec.source
    answers = source is not None and source.key == target.key
    words = _words(images, dataset, rows, answers=answers)
    return _png(_pixels(images, dataset, rows), words)


def _pixels(images: AdversarialSet, dataset: Dataset, rows: Array) -> Array:
    """The strip's pixels, uint8 (H, W, C).

    Args:
        images: adversarial; no batch behind the last row is read.
        dataset: of the clean images.
        rows: positions in the set.

    Raises:
        UserError: a batch cannot be read, or an image is farther from its clean one than it may be.
    """
    found: list[Array] = []
    for start, (batch, _) in zip(
        range(0, images.spec.n, BATCH), checked_batches(images, dataset, BATCH), strict=False
    ):
        found += [batch[row - start] for row in rows if start <= row < start + len(batch)]
        if len(found) == len(rows):
            break
    adversarial = np.stack(found)
    clean = dataset.test.images[images.columns["indices"][rows]].astype(np.float32) / 255
    change = 0.5 + ENLARGED * (adversarial - clean)
    tiles = np.stack([clean, adversarial, change], axis=1)  # (images, 3, C, H, W)
    tiles = np.rint(255 * tiles.clip(0, 1)).astype(np.uint8)
    count, columns, channels, height, width = tiles.shape
    joined: Array = tiles.transpose(0, 3, 1, 4, 2)
    return joined.reshape(count * height, columns * width, channels)


def _words(images: AdversarialSet, dataset: Dataset, rows: Array, *, answers: bool) -> str:
    """What the strip shows, in a sentence for each image.

    Args:
        images: adversarial.
        dataset: of the clean images.
        rows: positions in the set.
        answers: whether the set's predictions are those of the model that is measured.
    """
    classes: Sequence[str] = dataset.spec.classes
    columns = images.columns
    sentences = []
    for row in rows:
        answer = int(columns["predictions"][row]) if answers else -1
        named = classes[answer] if 0 <= answer < len(classes) else "another class"
        label = classes[int(columns["labels"][row])]
        sentences.append(f"Test image {columns['indices'][row]}: label {label}, answer {named}.")
    return " ".join(sentences)


def _png(pixels: Array, words: str) -> bytes:
    """A PNG of pixels, uint8 (H, W, C), that says what it shows."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt(DESCRIPTION, words)
    file = io.BytesIO()
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    picture.save(file, "PNG", optimize=True, pnginfo=text)
    return file.getvalue()
