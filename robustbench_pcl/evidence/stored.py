"""What lies in a folder, read as far as it can be read without trusting any of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.data.loader import load
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.checked import CheckedSet, open_strangers
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.progress import Progress, tracked
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.checkpoints import (
    Checkpoint,
    load_arrays,
    load_description,
    load_state,
    open_checkpoint,
)
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.embeddings import SUFFIXES, Embedding, open_embedding
from robustbench_pcl.store.parts import UNDIGESTED, open_part
from robustbench_pcl.store.records import (
    DataRecord,
    Measurement,
    ModelRecord,
    Paths,
    StoredRecord,
    TrainingRecord,
    examine_record,
)

Files = Mapping[str, Path]
"""Regular files by their path in the folder."""
Judged = Measurement | Diagnosis | Certificate
"""Records that name a model and images."""
Record = TypeVar("Record", bound=StoredRecord)
FOLDERS = Paths(Path(), Path("results"))
"""The folders of a workspace, by their paths in it: names of files begin with one of these."""


@dataclass(eq=False)
class Stored:
    """What could be read, by the path of its file.

    Attributes:
        measurements: as their files say.
        trainings: as their files say.
        diagnoses: as their files say.
        certificates: as their files say.
        embeddings: whose points are those that were stored.
        checkpoints: whose weights are those that were stored.
        sets: whose structure is sound.
        datasets: that these are about and that are on this machine, by name.
        unsealed: records that keep no digest, since they were made before there was one.
    """

    measurements: dict[str, Measurement] = field(default_factory=dict)
    trainings: dict[str, TrainingRecord] = field(default_factory=dict)
    diagnoses: dict[str, Diagnosis] = field(default_factory=dict)
    certificates: dict[str, Certificate] = field(default_factory=dict)
    embeddings: dict[str, Embedding] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    sets: dict[str, CheckedSet] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    unsealed: int = 0

    @property
    def judged(self) -> dict[str, Judged]:
        """All that names a model and images."""
        return {**self.measurements, **self.diagnoses, **self.certificates}

    @property
    def made(self) -> set[str]:
        """The files of all that could be read."""
        return {*self.judged, *self.trainings, *self.embeddings, *self.checkpoints, *self.sets}

    def set_of(self, measurement: Measurement) -> CheckedSet | None:
        """The set that was measured; None where it is not here, and for clean images."""
        name = f"{FOLDERS.adversarial_sets.as_posix()}/{measurement.adversarial_set}.h5"
        return self.sets.get(name)

    def data_of(self, dataset: str) -> Iterator[DataRecord]:
        """What measurements say of the clean images of a data set."""
        return (each.data for each in self.measurements.values() if each.data.dataset == dataset)

    def dataset_of(self, data: DataRecord) -> Dataset | None:
        """The data set with exactly those test images; None where it is not here."""
        dataset = self.datasets.get(data.dataset)
        return dataset if dataset and dataset.test.digest == data.digest else None


def inside(files: Files, folder: Path, *suffixes: str) -> Iterator[tuple[str, Path]]:
    """The files of one folder with some suffixes, but hidden ones, which are being written."""
    for name, path in files.items():
        pure = PurePosixPath(name)
        if pure.parent == PurePosixPath(folder) and pure.suffix in suffixes and pure.stem[0] != ".":
            yield name, path


def read_stored(
    found: Verification, files: Files, data_root: Path | None, progress: Progress
) -> Stored:
    """Read all that can be read.

    Args:
        found: where it is noted what cannot.
        files: that are there.
        data_root: folder with torchvision's data files; PCLBENCH_DATA if None.
        progress: the progress reporter.
    """
    stored = Stored()
    read = partial(_read_records, found, files, progress=progress)
    stored.unsealed += read(FOLDERS.measurements, Measurement, kept=stored.measurements)
    stored.unsealed += read(FOLDERS.trainings, TrainingRecord, kept=stored.trainings)
    stored.unsealed += read(FOLDERS.diagnoses, Diagnosis, kept=stored.diagnoses)
    stored.unsealed += read(FOLDERS.certificates, Certificate, kept=stored.certificates)
    _read_arrays(found, files, stored, progress)
    _read_sets(found, files, stored, progress)
    about = [each.data.dataset for each in stored.judged.values()]
    about += [each.images.spec.data.dataset for each in stored.sets.values()]
    for name in dict.fromkeys(about):
        try:
            stored.datasets[name] = load(name, data_root, download=False)
        except UserError as error:
            found.skip(f"What rests on clean images of {name}: {error.cause}")
    return stored


def _read_records(
    found: Verification,
    files: Files,
    folder: Path,
    kind: type[Record],
    *,
    kept: dict[str, Record],
    progress: Progress,
) -> int:
    """Read the records of one folder; how many of them keep no digest."""
    there, unsealed = list(inside(files, folder, ".json")), 0
    for name, path in tracked(there, f"{folder.name} read", len(there), progress):
        try:
            examined = examine_record(path, kind)
        except UserError as error:
            found.wrong(name, "the file", f"a {kind.what}", why(error, path))
            continue
        for fault in examined.faults:
            found.wrong(name, *fault)
        kept[name] = examined.record
        unsealed += not examined.sealed
    found.checked[folder.name] += len(kept)
    return unsealed


def _read_arrays(found: Verification, files: Files, stored: Stored, progress: Progress) -> None:
    """Read checkpoints, embeddings and interrupted trainings, and every number in them."""
    there = list(inside(files, FOLDERS.checkpoints, ".safetensors"))
    for name, path in tracked(there, "checkpoints read", len(there), progress):
        try:
            checkpoint = open_checkpoint(path)
            load_arrays(path, checkpoint.record.weights)
        except UserError as error:
            found.wrong(name, "the file", "the weights that its header names", why(error, path))
            continue
        stored.checkpoints[name] = checkpoint
        found.checked["checkpoints"] += 1
        expected = f"-{checkpoint.record.checkpoint}-{checkpoint.record.weights}"
        found.require(name, "the file's name", path.stem.endswith(expected), expected, path.stem)
    for name, path in inside(files, FOLDERS.embeddings, *SUFFIXES):
        try:
            embedding = open_embedding(path)
            embedding.arrays()
        except UserError as error:
            found.wrong(name, "the file", "the points that its header names", why(error, path))
            continue
        stored.embeddings[name] = embedding
        found.checked["embeddings"] += 1
    for name, path in inside(files, FOLDERS.partial, ".safetensors"):
        try:
            load_state(path, path.stem)
        except UserError as error:
            found.wrong(name, "the file", "the state of a training", why(error, path))
        else:
            found.checked["interrupted trainings"] += 1
            if "content_digest" not in load_description(path):
                found.skip("Interrupted trainings that were saved before they had digests.")


def _read_sets(found: Verification, files: Files, stored: Stored, progress: Progress) -> None:
    """Open adversarial sets, and read what is no image; read parts of sets in the making."""
    there = list(inside(files, FOLDERS.adversarial_sets, ".h5"))
    for name, path in tracked(there, "adversarial sets read", len(there), progress):
        try:
            stored.sets[name] = CheckedSet(name, open_strangers(path))
        except UserError as error:
            found.wrong(name, "the file", "an adversarial set", why(error, path))
        else:
            found.checked["adversarial sets"] += 1
    for name, path in files.items():
        pure = PurePosixPath(name)
        if pure.parent.suffix != ".parts" or pure.suffix != ".h5" or pure.stem[0] == ".":
            continue
        try:
            open_part(path, pure.parent.stem)
        except UserError as error:
            if UNDIGESTED in error.cause:
                when = "made before parts had digests"
                found.skip(f"Parts in {pure.parent}, {when}: they are made again.")
                continue
            found.wrong(name, "the file", "a part of an adversarial set", why(error, path))
        else:
            found.checked["parts of adversarial sets"] += 1


def name_of(path: Path, paths: Paths) -> str:
    """A file's path in a workspace, with forward slashes; that of published evidence is alike."""
    if path.is_relative_to(paths.results):
        return (FOLDERS.results / path.relative_to(paths.results)).as_posix()
    return path.relative_to(paths.root).as_posix()


def why(error: UserError, path: Path) -> str:
    """What is wrong with a file, without its name."""
    return error.cause.replace(f"{path} ", "it ").replace(str(path), "it").rstrip(".")


def models_of(stored: Stored) -> Iterator[tuple[str, ModelRecord]]:
    """Every model that is talked about, with the file that does."""
    for name, record in stored.judged.items():
        for model in models_in(record):
            yield name, model
    for name, checkpoint in stored.checkpoints.items():
        yield name, checkpoint.record
    for name, embedding in stored.embeddings.items():
        yield name, embedding.spec.model
    for name, checked in stored.sets.items():
        if checked.images.spec.source is not None:
            yield name, checked.images.spec.source


def models_in(record: Judged) -> Iterator[ModelRecord]:
    """The models that a record talks about: its target, then its sources."""
    yield record.target
    if isinstance(record, Measurement) and record.source is not None:
        yield record.source
    if isinstance(record, Diagnosis):
        yield from record.sources
