"""What one stored record says about a cell."""

from __future__ import annotations

from dataclasses import dataclass

from robustbench_pcl.report.formatting import per_cent
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.specs.recipe import Recipe
from robustbench_pcl.store.records import (
    DataRecord,
    Environment,
    Measurement,
    ModelRecord,
    TrainingRecord,
)


@dataclass(frozen=True)
class Answer:
    """What a record says about a cell.

    Attributes:
        value: per cent, seconds or epochs, as the cell asks.
        model: the same for targets that classify alike (:attr:`ModelRecord.key`).
        recipe: of the target.
        data: the images measured, or trained on.
        environment: where the number was made.
        created: ISO 8601 time, UTC.
        attack: the attack with all its parameters, or None.
        source: recipe of the model the images were crafted on, or None.
        n: images measured, or None for a figure of a training run.
        interval: 95 % interval in per cent, or None for a figure of a training run.
        precision: of the attack's gradients.
    """

    value: float
    model: str
    recipe: Recipe
    data: DataRecord
    environment: Environment
    created: str
    attack: Part | None = None
    source: Recipe | None = None
    n: int | None = None
    interval: tuple[float, float] | None = None
    precision: str = "float32"


def accuracy_answer(record: Measurement) -> Answer:
    """The accuracy that was measured."""
    low, high = record.interval
    return Answer(
        value=per_cent(record.accuracy),
        model=record.target.key,
        recipe=record.target.recipe,
        data=record.data,
        environment=record.environment,
        created=record.created,
        attack=record.attack,
        source=record.source.recipe if record.source else None,
        n=record.n,
        interval=(per_cent(low), per_cent(high)),
        precision=record.precision,
    )


def training_answer(record: TrainingRecord, cell: Cell) -> Answer:
    """The figure of a training run that the cell asks for."""
    seconds = cell.quantity == "seconds_per_epoch"
    return Answer(
        value=record.seconds_per_epoch if seconds else record.recipe.schedule.epochs,
        model=ModelRecord(
            checkpoint=record.checkpoint, weights=record.weights, recipe=record.recipe
        ).key,
        recipe=record.recipe,
        data=record.data,
        environment=record.environment,
        created=record.created,
    )
