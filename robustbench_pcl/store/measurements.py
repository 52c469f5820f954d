"""Measurements and training records: one small JSON file each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from robustbench_pcl.configuration import explained
from robustbench_pcl.errors import UserError
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.paths import Paths
from robustbench_pcl.store.records import Measurement, TrainingRecord, refuse_other_format

Record = TypeVar("Record", Measurement, TrainingRecord)

_CURE = "Move it away and run the command again: the number will be measured anew."


def save_measurement(paths: Paths, measurement: Measurement) -> Path:
    """Write a measurement under its id and return the file."""
    return _save(paths.measurements / f"{measurement.id}.json", measurement)


def find_measurement(paths: Paths, identity: str) -> Measurement | None:
    """The measurement with that id, or None.

    Raises:
        UserError: the file is there but is not a measurement.
    """
    path = paths.measurements / f"{identity}.json"
    return _read(path, Measurement) if path.exists() else None


def load_measurements(paths: Paths) -> list[Measurement]:
    """All stored measurements, oldest first.

    Raises:
        UserError: a file is not a measurement.
    """
    return _load(paths.measurements, Measurement)


def save_training(paths: Paths, record: TrainingRecord) -> Path:
    """Write a training record under its checkpoint's id and weights and return the file."""
    return _save(paths.trainings / f"{record.checkpoint}-{record.weights}.json", record)


def load_trainings(paths: Paths) -> list[TrainingRecord]:
    """All stored training records, oldest first; of one recipe, one for each set of weights.

    Raises:
        UserError: a file is not a training record.
    """
    return _load(paths.trainings, TrainingRecord)


def _save(path: Path, record: Measurement | TrainingRecord) -> Path:
    write_bytes(path, (record.model_dump_json(indent=1) + "\n").encode())
    return path


def _load(folder: Path, kind: type[Record]) -> list[Record]:
    records = [_read(path, kind) for path in sorted(folder.glob("[!.]*.json"))]
    return sorted(records, key=lambda record: record.created)


def _read(path: Path, kind: type[Record]) -> Record:
    what = f"{path} is not a {'measurement' if kind is Measurement else 'training record'}"
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{what}: {error}.", _CURE) from error
    if isinstance(content, dict):
        refuse_other_format(path, content.get("format"))
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise explained(error, what, _CURE) from error
