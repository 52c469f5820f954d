"""Measurements and training records: one small JSON file each."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from robustbench_pcl.errors import UserError
from robustbench_pcl.specs.base import Spec
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.records import Measurement, TrainingRecord

Record = TypeVar("Record", bound=Spec)


def save_measurement(results: Path, measurement: Measurement) -> Path:
    """Write a measurement under its id and return the file."""
    return _save(results / "measurements" / f"{measurement.id}.json", measurement)


def save_training(results: Path, record: TrainingRecord) -> Path:
    """Write a training record under its checkpoint's id and return the file."""
    return _save(results / "trainings" / f"{record.checkpoint}.json", record)


def load_measurements(results: Path) -> list[Measurement]:
    """All stored measurements, oldest first.

    Raises:
        UserError: a file is not a measurement.
    """
    return sorted(_load(results / "measurements", Measurement), key=lambda record: record.created)


def load_trainings(results: Path) -> list[TrainingRecord]:
    """All stored training records, oldest first.

    Raises:
        UserError: a file is not a training record.
    """
    return sorted(_load(results / "trainings", TrainingRecord), key=lambda record: record.created)


def find_measurement(results: Path, identity: str) -> Measurement | None:
    """The measurement with that id, or None."""
    path = results / "measurements" / f"{identity}.json"
    return _read(path, Measurement) if path.exists() else None


def _save(path: Path, record: Spec) -> Path:
    write_bytes(path, (record.model_dump_json(indent=1) + "\n").encode())
    return path


def _load(folder: Path, kind: type[Record]) -> list[Record]:
    return [_read(path, kind) for path in sorted(folder.glob("[!.]*.json"))]


def _read(path: Path, kind: type[Record]) -> Record:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path} is not a {kind.__name__.lower()}: {where + ': ' if where else ''}"
            f"{first['msg']}.",
            "Move it away and run the command again: the number will be measured anew.",
        ) from error
