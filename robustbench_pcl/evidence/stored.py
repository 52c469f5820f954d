"""What lies in a folder, read as far as it can be read without trusting any of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.data.loader import load
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.checked import CheckedSet, open_strangers
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.evidence.manifest import LARGEST
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.checkpoints import Checkpoint, load_arrays, open_checkpoint
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.embeddings import Embedding, open_embedding
from robustbench_pcl.store.records import (
    DataRecord,
    Measurement,
    ModelRecord,
    Paths,
    StoredRecord,
    TrainingRecord,
    read_record,
)

Files = Mapping[str, Path]
"""Regular files by their path in the folder."""
Judged = Measurement | Diagnosis | Certificate
"""Records that name a model and images."""
Record = TypeVar("Record", bound=StoredRecord)
FOLDERS = Paths(Path())


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
    """

    measurements: dict[str, Measurement] = field(default_factory=dict)
    trainings: dict[str, TrainingRecord] = field(default_factory=dict)
    diagnoses: dict[str, Diagnosis] = field(default_factory=dict)
    certificates: dict[str, Certificate] = field(default_factory=dict)
    embeddings: dict[str, Embedding] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    sets: dict[str, CheckedSet] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)

    @property
    def judged(self) -> dict[str, Judged]:
        """All that names a model and images."""
        return {**self.measurements, **self.diagnoses, **self.certificates}

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


def inside(files: Files, folder: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    """The files of one folder with a suffix, but hidden ones, which are being written."""
    for name, path in files.items():
        pure = PurePosixPath(name)
        if pure.parent == PurePosixPath(folder) and pure.suffix == suffix and pure.stem[0] != ".":
            yield name, path


def read_stored(found: Verification, files: Files, data_root: Path | None) -> Stored:
    """Read all that can be read.

    Args:
        found: where it is noted what cannot.
        files: that are there.
        data_root: folder with torchvision's data files; PCLBENCH_DATA if None.
    """
    stored = Stored(
        _read_all(found, files, FOLDERS.measurements, Measurement),
        _read_all(found, files, FOLDERS.trainings, TrainingRecord),
        _read_all(found, files, FOLDERS.diagnoses, Diagnosis),
        _read_all(found, files, FOLDERS.certificates, Certificate),
    )
    _read_arrays(found, files, stored)
    _read_sets(found, files, stored)
    about = [each.data.dataset for each in stored.judged.values()]
    about += [each.images.spec.data.dataset for each in stored.sets.values()]
    for name in dict.fromkeys(about):
        try:
            stored.datasets[name] = load(name, data_root, download=False)
        except UserError as error:
            found.skip(f"What rests on clean images of {name}: {error.cause}")
    return stored


def _read_all(
    found: Verification, files: Files, folder: Path, kind: type[Record]
) -> dict[str, Record]:
    """The records of one folder, by their files."""
    read = {name: _read(found, name, path, kind) for name, path in inside(files, folder, ".json")}
    records = {name: record for name, record in read.items() if record is not None}
    found.checked[folder.name] += len(records)
    return records


def _read(found: Verification, name: str, path: Path, kind: type[Record]) -> Record | None:
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"more than {LARGEST:,} bytes", "")
        return read_record(path, kind)
    except UserError as error:
        found.wrong(name, "the file", f"a {kind.what}", _why(error, path))
    except (OSError, RecursionError) as error:
        found.wrong(name, "the file", f"a {kind.what}", type(error).__name__)
    return None


def _read_arrays(found: Verification, files: Files, stored: Stored) -> None:
    """Read checkpoints and embeddings, and every number in them."""
    for name, path in inside(files, FOLDERS.checkpoints, ".safetensors"):
        try:
            checkpoint = open_checkpoint(path)
            load_arrays(path, checkpoint.record.weights)
        except UserError as error:
            found.wrong(name, "the file", "the weights that its header names", _why(error, path))
            continue
        stored.checkpoints[name] = checkpoint
        found.checked["checkpoints"] += 1
        expected = f"-{checkpoint.record.checkpoint}-{checkpoint.record.weights}"
        found.require(name, "the file's name", path.stem.endswith(expected), expected, path.stem)
    for name, path in inside(files, FOLDERS.embeddings, ".safetensors"):
        try:
            embedding = open_embedding(path)
            load_arrays(path, embedding.record.content_digest)
        except UserError as error:
            found.wrong(name, "the file", "the points that its header names", _why(error, path))
            continue
        stored.embeddings[name] = embedding
        found.checked["embeddings"] += 1
        found.compare(name, "the file's name", embedding.spec.id, path.stem)


def _read_sets(found: Verification, files: Files, stored: Stored) -> None:
    """Open adversarial sets, and read what is no image."""
    for name, path in inside(files, FOLDERS.adversarial_sets, ".h5"):
        try:
            stored.sets[name] = CheckedSet(name, open_strangers(path))
        except UserError as error:
            found.wrong(name, "the file", "an adversarial set", _why(error, path))
        else:
            found.checked["adversarial sets"] += 1


def _why(error: UserError, path: Path) -> str:
    """What is wrong with a file, without its name."""
    return error.cause.replace(f"{path} ", "it ").replace(str(path), "it").rstrip(".")


def models_of(stored: Stored) -> Iterator[tuple[str, ModelRecord]]:
    """Every model that is talked about, with the file that does."""
    for name, record in stored.judged.items():
        for model in models_in(record):
            yield name, model
    for name, checkpoint in stored.checkpoints.items():
        yield name, checkpoint.record
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
