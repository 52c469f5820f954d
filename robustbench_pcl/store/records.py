"""What is kept beside every number, where everything lies, and which format it has."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import ValidationError

from robustbench_pcl.configuration import Description, Dump, Mode, explained
from robustbench_pcl.environment import Environment
from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import NEAREST_SHARPNESS, AnyModel, ExternalModel, Recipe
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.formats import FORMAT, LARGEST_RECORD, other_format, results_of
from robustbench_pcl.store.reading import PassedOver, load_each, parse_json, read_bounded
from robustbench_pcl.store.rules import (
    REPAIR,
    SEAL,
    Fault,
    Faults,
    measurement_faults,
    sealed,
    training_faults,
    unequal,
    unsealed,
)

_NEWER = "It may be of a newer pclbench: update (pip install --upgrade pclbench), or move it away."


class StoredRecord(Description):
    """What is stored as one JSON file.

    Attributes:
        what: such a record is called.
        format: of the file.
        environment: where it was made.
        created: ISO 8601 time, UTC.
    """

    what: ClassVar[str]

    format: Literal[2] = FORMAT
    environment: Environment
    created: str

    @property
    def file_name(self) -> str:
        """What its file is called, without the suffix: an id."""
        raise NotImplementedError

    def faults(self) -> Faults:
        """What in it does not follow from the rest of it, as far as that is quickly told."""
        raise NotImplementedError


class DataRecord(Description):
    """Which images were used.

    Attributes:
        dataset: name of the data set.
        digest: of the split's pixels and labels.
        source: where the images came from, in words.
        lossy: the pixels are not the published ones (for instance JPEG copies).
        subset: fewer images than the published set has.
        note: what a reader of the number has to know, or "".
    """

    dataset: str
    digest: str
    source: str
    lossy: bool = False
    subset: bool = False
    note: str = ""


class ModelRecord(Description):
    """Which model was used.

    The same recipe may have been trained to different weights (with another number of threads, or
    on another device), so the checkpoint's id alone does not name a model.

    Attributes:
        checkpoint: id of the checkpoint, which follows from the recipe and the training images.
        weights: digest of its weights.
        recipe: how it was trained, and how it decides a class; or where it came from.
    """

    checkpoint: str
    weights: str
    recipe: AnyModel

    @cached_property
    def key(self) -> str:
        """The same for models that classify alike: the weights, and how they decide a class.

        The same weights may serve another external model: its code and normalisation count, too.
        """
        if isinstance(self.recipe, ExternalModel):
            return self.checkpoint
        if self.recipe.inference == "softmax":
            return self.weights
        return f"{self.weights}-{self.recipe.inference}-{NEAREST_SHARPNESS:g}"


class Measurement(StoredRecord):
    """The accuracy of one model on one set of images.

    Attributes:
        id: digest of the target's key and the adversarial set, or the data and n.
        data: the clean images behind it.
        target: the model that was measured.
        source: the model the adversarial images were made on; None for clean accuracy, and for
            images that were crafted elsewhere.
        attack: the complete configuration of the attack, or None for clean accuracy.
        adversarial_set: id of the stored set, or None.
        mode: how the set was made. "early-stop" counts an image as fooled if any step fooled the
            target, the others if the last one did.
        precision: of the attack's gradients; classes are always float32's.
        largest_linf: largest L-infinity perturbation in the set, in pixels of [0, 1].
        largest_l2: largest L2 perturbation in the set; None where it was not kept.
        mean_l2: mean L2 perturbation in the set, in pixels of [0, 1].
        n: images measured.
        correct: images classified as their label.
        correct_8bit: the same after rounding the images to 8 bits per channel; None for
            "early-stop".
        interval: 95 % Wilson interval of the accuracy, as fractions.
        margins: of clean images, where it was kept: percentiles ``MARGIN_PERCENTILES`` of the
            label's logit less the largest other.
        verdicts: one bit per image in the set's order, 1 for correct, packed, as hexadecimal.
        stages: the titles of the attack's stages, where the set was made on the target.
        felled_by: two hexadecimal digits per image in the set's order: 00 withstood, 01 was wrong
            when clean, 02 + k was felled by stage k; "" where that is not known.
        seconds: that the attack took, on ``environment``'s device.
        forward_passes: images passed forward by the attack, the source's classes included.
        backward_passes: images passed backward by the attack.
        seed: of the attack's random start.
    """

    what: ClassVar[str] = "measurement"

    id: str
    data: DataRecord
    target: ModelRecord
    source: ModelRecord | None = None
    attack: Dump | None = None
    adversarial_set: str | None = None
    mode: Mode = "exact"
    precision: str = "float32"
    largest_linf: float = 0.0
    largest_l2: float | None = None
    mean_l2: float = 0.0
    n: int
    correct: int
    correct_8bit: int | None = None
    interval: tuple[float, float]
    margins: tuple[float, ...] = ()
    verdicts: str
    stages: tuple[str, ...] = ()
    felled_by: str = ""
    seconds: float
    forward_passes: int
    backward_passes: int
    seed: int

    @property
    def file_name(self) -> str:
        """Its id."""
        return self.id

    def faults(self) -> Faults:
        """See :func:`measurement_faults`."""
        return measurement_faults(self)

    @property
    def accuracy(self) -> float:
        """Fraction of images classified as their label."""
        return self.correct / self.n

    def withstood(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Boolean (n,): the images classified as their label, in the set's order."""
        packed = np.frombuffer(bytes.fromhex(self.verdicts), dtype=np.uint8)
        return np.unpackbits(packed, count=self.n).astype(np.bool_)


class TrainingRecord(StoredRecord):
    """How a checkpoint came to be, beside the checkpoint's own header.

    Attributes:
        checkpoint: its id.
        weights: digest of its weights.
        recipe: what made it.
        data: the training images.
        precision: of convolutions and matrix products, as they were: "bfloat16" or "float32".
        seconds_per_epoch: median over the epochs.
        history: one entry per epoch: losses, training accuracy, seconds, warnings.
        devices: how many trained it together.
    """

    what: ClassVar[str] = "training record"

    checkpoint: str
    weights: str
    recipe: Recipe
    data: DataRecord
    precision: str = "float32"
    seconds_per_epoch: float
    history: list[dict[str, Any]]
    devices: int = 1

    @property
    def file_name(self) -> str:
        """The checkpoint's id and its weights'."""
        return f"{self.checkpoint}-{self.weights}"

    def faults(self) -> Faults:
        """See :func:`training_faults`."""
        return training_faults(self)


Record = TypeVar("Record", bound="StoredRecord")


class Paths:
    """The folders of a workspace, or of published evidence (:mod:`~.store.published`).

    Attributes:
        root: holds ``checkpoints/`` and ``results/``.
        checkpoints: trained models, one safetensors file each.
        partial: training runs that were interrupted.
        results: everything that was made from checkpoints.
        measurements: accuracies, one JSON file each.
        trainings: how checkpoints came to be, one JSON file each.
        adversarial_sets: adversarial images, one HDF5 file per set.
        embeddings: features as points in the plane, one safetensors file each.
        diagnoses: whether numbers hold, one JSON file each.
        certificates: certified and fooling radii, one JSON file each.
        strips: of published evidence, the images that an attack fooled first, one PNG each.
        jobs: task files and logs of executors.
        claims: who makes what at the moment.
    """

    def __init__(self, root: Path, results: Path | None = None) -> None:
        self.root = root
        self.checkpoints = root / "checkpoints"
        self.partial = self.checkpoints / "partial"
        self.results = results_of(root) if results is None else results
        self.measurements = self.results / "measurements"
        self.trainings = self.results / "trainings"
        self.adversarial_sets = self.results / "adversarial_sets"
        self.embeddings = self.results / "embeddings"
        self.diagnoses = self.results / "diagnoses"
        self.certificates = self.results / "certificates"
        self.strips = self.results / "strips"
        self.jobs = self.results / "jobs"
        self.claims = self.results / "claims"


def now() -> str:
    """The time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def save_measurement(paths: Paths, measurement: Measurement) -> Path:
    """Write a measurement under its id and return the file."""
    return save_record(paths.measurements, measurement.id, measurement)


def has_measurement(paths: Paths, identity: str) -> bool:
    """Whether there is a file of the measurement with that id; it is not opened."""
    return (paths.measurements / f"{identity}.json").exists()


def find_measurement(paths: Paths, identity: str) -> Measurement | None:
    """The measurement with that id, or None.

    Raises:
        UserError: the file is there but is not a measurement.
    """
    return find_record(paths.measurements, identity, Measurement)


def load_measurements(paths: Paths, passed_over: PassedOver | None = None) -> list[Measurement]:
    """All stored measurements, oldest first (see :func:`load_records`).

    Raises:
        UserError: a file is not a measurement, and ``passed_over`` is None.
    """
    return load_records(paths.measurements, Measurement, passed_over)


def save_training(paths: Paths, record: TrainingRecord) -> Path:
    """Write a training record under its checkpoint's id and weights and return the file."""
    return save_record(paths.trainings, f"{record.checkpoint}-{record.weights}", record)


def load_trainings(paths: Paths, passed_over: PassedOver | None = None) -> list[TrainingRecord]:
    """All stored training records, oldest first; of one recipe, one for each set of weights.

    Raises:
        UserError: a file is not a training record, and ``passed_over`` is None.
    """
    return load_records(paths.trainings, TrainingRecord, passed_over)


def save_record(folder: Path, name: str, record: StoredRecord) -> Path:
    """Write a record as ``name.json`` and return the file."""
    path = folder / f"{name}.json"
    text = json.dumps(sealed(record.content()), indent=1, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())
    return path


def find_record(folder: Path, name: str, kind: type[Record]) -> Record | None:
    """The record ``name.json``, or None.

    Raises:
        UserError: the file is there but is no such record.
    """
    path = folder / f"{name}.json"
    return read_record(path, kind) if os.path.lexists(path) else None


def load_records(
    folder: Path, kind: type[Record], passed_over: PassedOver | None = None
) -> list[Record]:
    """All records of a folder, oldest first.

    Args:
        folder: of one kind of records.
        kind: of them.
        passed_over: is told why a file is left out; None to raise that.

    Raises:
        UserError: a file is no such record, and ``passed_over`` is None.
    """
    found = load_each(folder.glob("[!.]*.json"), lambda path: read_record(path, kind), passed_over)
    return sorted(found, key=lambda record: record.created)


class Examined(NamedTuple, Generic[Record]):
    """What a file holds, and what is wrong with it.

    Attributes:
        record: it.
        faults: what contradicts the rest of it, the plainest first.
        sealed: whether the file keeps a digest of all that it says; older ones have none.
    """

    record: Record
    faults: tuple[Fault, ...]
    sealed: bool


def read_record(path: Path, kind: type[Record]) -> Record:
    """The record of one file, which may come from anywhere.

    Raises:
        UserError: as :func:`examine_record`, or a number contradicts the rest of the record.
    """
    examined = examine_record(path, kind)
    for fault in examined.faults:
        raise UserError(f"{path} is not as it was measured: {fault}.", REPAIR)
    return examined.record


def examine_record(path: Path, kind: type[Record]) -> Examined[Record]:
    """The record of one file, and what is wrong with what it says.

    Raises:
        UserError: it is no such record, of another format, no regular file of at most
            ``LARGEST_RECORD`` bytes, or a link that leads out of the workspace's results.
    """
    what = f"{path} is not a {kind.what}"
    file = read_bounded(path, LARGEST_RECORD, kind.what, within=path.parent.parent)
    content = parse_json(file, what, REPAIR)
    if isinstance(content, dict) and content.get("format") != FORMAT:
        raise other_format(path, content.get("format"))
    is_sealed = isinstance(content, dict) and SEAL in content
    broken = list(unsealed(content))
    try:
        record = kind.model_validate(content)
    except ValidationError as error:
        unknown = error.errors()[0]["type"] == "extra_forbidden"
        raise explained(error, what, _NEWER if unknown else REPAIR) from error
    name = unequal("the file's name", record.file_name, path.stem)
    return Examined(record, (*record.faults(), *name, *broken), is_sealed)
