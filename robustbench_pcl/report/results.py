"""Stored results as data frames, and which of them answers a question."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from robustbench_pcl.attacks.base import attack_label, norm_of
from robustbench_pcl.configuration import SCALES, Mode, Scale
from robustbench_pcl.data.datasets import PART
from robustbench_pcl.paper.tables import Cell
from robustbench_pcl.report.diagnosed import Diagnosed, tried, tried_in
from robustbench_pcl.report.formatting import per_cent
from robustbench_pcl.report.schema import DOCUMENTS, typed_frame
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.embeddings import Embedding, load_embeddings
from robustbench_pcl.store.formats import check_format
from robustbench_pcl.store.reading import PassedOver, warn
from robustbench_pcl.store.records import (
    Measurement,
    ModelRecord,
    Paths,
    TrainingRecord,
    load_measurements,
    load_records,
    load_trainings,
)
from robustbench_pcl.store.rules import wilson

Record = Any
"""One row of a frame, its columns as attributes."""
RANK: Mapping[Mode, int] = {"early-stop": 0, "fast": 1, "exact": 2}
"""Which of two sets made by one attack answers a question: the one ranked higher."""
CLEAN = "Clean"
COLUMNS = DOCUMENTS["measurements"].columns
"""The columns of :func:`results`, one row per measurement."""
MEASURED = ("n", "correct", "accuracy", "low", "high", "file")
"""What is known of a checkpoint once it is measured."""
TRAINING_COLUMNS = tuple(
    column for column in DOCUMENTS["trainings"].columns if column.name not in MEASURED
)
"""The columns of the frame of trainings, one row per checkpoint."""


class HasPaths(Protocol):
    """A workspace, as far as reports know it."""

    @property
    def paths(self) -> Paths:
        """Where its artefacts live."""


class SummarisedCase(Protocol):
    """What a model withstands of several sets of images within a budget."""

    @property
    def target(self) -> ModelRecord:
        """The model."""

    @property
    def norm(self) -> str:
        """Of the budget."""

    @property
    def eps(self) -> float:
        """The budget, in pixels of [0, 1]."""

    @property
    def label(self) -> str:
        """What it is over."""

    @property
    def withstood(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Boolean (n,)."""


class Answers(NamedTuple):
    """What answers some cells.

    Attributes:
        scale: of all the answers; None if no scale answers anything.
        records: for each cell the row that answers it, or None.
        counts: how many of the cells each scale answers, the most faithful scale first.
    """

    scale: Scale | None
    records: tuple[Record | None, ...]
    counts: dict[Scale, int]


@dataclass(frozen=True)
class Evidence:
    """Everything that is stored and can be reported.

    Attributes:
        measurements: one row per measurement (:data:`COLUMNS`), oldest first.
        trainings: one row per training (:data:`TRAINING_COLUMNS`), oldest first.
        embeddings: features as points in the plane, oldest first.
        diagnoses: whether numbers hold, oldest first.
        certificates: certified and fooling radii, oldest first.
    """

    measurements: pd.DataFrame
    trainings: pd.DataFrame
    embeddings: Sequence[Embedding] = ()
    diagnoses: Sequence[Diagnosis] = ()
    certificates: Sequence[Certificate] = ()

    @cached_property
    def diagnosed(self) -> Diagnosed:
        """The diagnoses by the numbers that they speak of."""
        return Diagnosed(self.diagnoses, tried_in(self.measurements))

    @cached_property
    def records(self) -> dict[tuple[str, str, Scale], list[Record]]:
        """The rows of both frames by data set, target and scale."""
        found: dict[tuple[str, str, Scale], list[Record]] = defaultdict(list)
        for frame in (self.measurements, self.trainings):
            for record in frame.itertuples(index=False, name="Record"):
                row: Record = record
                found[row.dataset, row.target, row.scale].append(row)
        return dict(found)

    def answers(
        self, cells: Sequence[Cell], scale: Scale | None = None, seed: int | None = None
    ) -> Answers:
        """An answer to each cell, all of one scale, and those about a recipe all from one model.

        That model answers most of the cells about the recipe; the newest does if several do.

        Args:
            cells: the questions.
            scale: of targets and sources; by default the most faithful one that answers any.
            seed: of the targets' training; any if None.

        Raises:
            UserError: a cell asks for a data set or an attack that there is not.
        """
        found = {size: [self.matching(cell, size, seed) for cell in cells] for size in SCALES}
        counts = {size: sum(map(bool, each)) for size, each in found.items() if any(each)}
        shown = scale or next(iter(counts), None)
        if shown is None:
            return Answers(None, (None,) * len(cells), counts)
        pairs = list(zip(cells, found[shown], strict=True))
        targets = _models(
            (cell.target, {(row.model, row.created) for row in rows}) for cell, rows in pairs
        )
        pairs = [
            (cell, [row for row in rows if row.model == targets.get(cell.target)])
            for cell, rows in pairs
        ]
        sources = _models(
            (cell.source, {(row.source_model, row.created) for row in rows})
            for cell, rows in pairs
            if cell.source
        )
        models = {None, *{**sources, **targets}.values()}
        records = (
            next((row for row in rows if getattr(row, "source_model", None) in models), None)
            for _, rows in pairs
        )
        return Answers(shown, tuple(records), counts)

    def matching(self, cell: Cell, scale: Scale, seed: int | None = None) -> list[Record]:
        """All rows that answer a cell: exact before fast before early-stop, most images, newest.

        An accuracy answers a cell if it is of the one complete attack that the cell asks for at
        that scale. Where images leave at the first step that fools the source, they answer for
        that model only.

        Raises:
            UserError: there is no such data set or attack.
        """
        rows = self.records.get((cell.dataset, cell.target, scale), [])
        rows = [row for row in rows if hasattr(row, cell.quantity) and seed in (None, row.seed)]
        if cell.quantity != "accuracy" or not rows:
            return sorted(rows, key=lambda row: row.created, reverse=True)
        attack = cell.attack_for(scale)
        wanted = attack and attack.dump()
        fitting = [
            row
            for row in rows
            if row.parameters == wanted
            and row.white_box == cell.white_box
            and (attack is None or cell.white_box or _transfers(row, cell, scale))
        ]
        return sorted(fitting, key=lambda row: (RANK[row.mode], row.n, row.created), reverse=True)


def _transfers(row: Record, cell: Cell, scale: Scale) -> bool:
    """Whether a row's images were made on the source that a cell asks for, by all steps."""
    return (row.source, row.source_scale) == (cell.source, scale) and row.mode != "early-stop"


def _models(found: Iterable[tuple[str, set[tuple[str, str]]]]) -> dict[str, str]:
    """The model that answers most of each recipe's cells; of several the newest, then the last key.

    Args:
        found: for each cell its recipe, and what answers it: a model, and when it was made.
    """
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    newest: dict[str, str] = defaultdict(str)
    for recipe, answers in found:
        votes[recipe].update({model for model, _ in answers})
        for model, created in answers:
            newest[model] = max(newest[model], created)
    return {
        recipe: max(count, key=lambda model: (count[model], newest[model], model))
        for recipe, count in votes.items()
        if count
    }


def results(workspace: str | Path | HasPaths = ".") -> pd.DataFrame:
    """Every stored measurement, one row each, oldest first; :data:`COLUMNS` says what is in them.

    A file that is none is left out, and a warning says why.

    Args:
        workspace: a workspace, or the folder that holds ``checkpoints/`` and ``results/``.

    Raises:
        UserError: most of what is stored is of another format than this version's.
    """
    paths = paths_of(workspace)
    check_format(paths)
    diagnoses = load_records(paths.diagnoses, Diagnosis, warn)
    return measurement_frame(load_measurements(paths, warn), diagnoses)


def load_evidence(paths: Paths, passed_over: PassedOver | None = None) -> Evidence:
    """Everything stored in a folder.

    Args:
        paths: where it is.
        passed_over: is told why a file is left out; None to raise that.

    Raises:
        UserError: most of it is of another format than this version's; or a file is damaged, and
            ``passed_over`` is None.
    """
    check_format(paths)
    diagnoses = load_records(paths.diagnoses, Diagnosis, passed_over)
    return Evidence(
        measurement_frame(load_measurements(paths, passed_over), diagnoses),
        training_frame(load_trainings(paths, passed_over)),
        tuple(load_embeddings(paths.embeddings, passed_over)),
        tuple(diagnoses),
        tuple(load_records(paths.certificates, Certificate, passed_over)),
    )


def paths_of(workspace: str | Path | HasPaths) -> Paths:
    """Where a workspace's artefacts live."""
    return Paths(Path(workspace)) if isinstance(workspace, str | Path) else workspace.paths


def measurement_frame(
    measurements: Sequence[Measurement], diagnoses: Sequence[Diagnosis] = ()
) -> pd.DataFrame:
    """The frame of :data:`COLUMNS`; see :func:`measurement_rows`."""
    rows = measurement_rows(measurements, Diagnosed(diagnoses, tried(measurements)))
    return typed_frame(COLUMNS, rows)


def measurement_rows(
    measurements: Sequence[Measurement], diagnosed: Diagnosed
) -> list[dict[str, Any]]:
    """The fields of :data:`COLUMNS`, one row per measurement.

    Args:
        measurements: oldest first.
        diagnosed: what stands beside the numbers.
    """
    rows = []
    for record in measurements:
        source, attack = record.source, record.attack
        diagnosis = diagnosed.of_measurement(record)
        row = {
            **dict(record),
            **_shared(record, record.target),
            "source": source and source.recipe.name,
            "source_scale": source and source.recipe.scale,
            "source_model": source and source.key,
            "source_recipe": source and source.recipe,
            "white_box": source is not None and source.key == record.target.key,
            "attack": attack_label(attack) if attack else CLEAN,
            "eps": attack.get("eps") if attack else None,
            "norm": norm_of(attack) if attack else None,
            "parameters": attack,
            "attack_seed": record.seed,
            "accuracy": per_cent(record.accuracy),
            "low": per_cent(record.interval[0]),
            "high": per_cent(record.interval[1]),
            "correct_per_image": record.verdicts,
            "felled_by_per_image": record.felled_by,
            "verdict": diagnosis and diagnosis.code,
            "diagnosis": diagnosis and diagnosis.id,
        }
        rows.append(row)
    return rows


def summary_row(
    case: SummarisedCase, measurements: Sequence[Measurement], diagnosed: Diagnosed
) -> dict[str, Any]:
    """The fields of :data:`COLUMNS` that a worst case over several measurements has.

    Args:
        case: what withstood all of them.
        measurements: of the same model on the same images among others.
        diagnosed: what stands beside the number.
    """
    target, n, correct = case.target, len(case.withstood), int(case.withstood.sum())
    data = next(each.data.digest for each in measurements if each.target.key == target.key)
    budget, accuracy = {case.norm: case.eps}, per_cent(correct / n)
    diagnosis = diagnosed.of(target.key, data, budget, accuracy=accuracy)
    low, high = map(per_cent, wilson(correct, n))
    return {
        **dict.fromkeys(column.name for column in COLUMNS),
        **_model(target),
        "dataset": target.recipe.dataset,
        "attack": case.label,
        **{"eps": case.eps, "norm": case.norm},
        **{"n": n, "correct": correct, "accuracy": accuracy, "low": low, "high": high},
        "verdict": diagnosis and diagnosis.code,
        "diagnosis": diagnosis and diagnosis.id,
        "correct_per_image": np.packbits(case.withstood).tobytes().hex(),
        "data_digest": data,
    }


def training_frame(trainings: Sequence[TrainingRecord]) -> pd.DataFrame:
    """The frame of :data:`TRAINING_COLUMNS`, one row per training."""
    return typed_frame(TRAINING_COLUMNS, list(map(training_row, trainings)))


def training_row(record: TrainingRecord) -> dict[str, Any]:
    """The fields of :data:`TRAINING_COLUMNS`."""
    model = ModelRecord(checkpoint=record.checkpoint, weights=record.weights, recipe=record.recipe)
    return {**dict(record), **_shared(record, model), "epochs": record.recipe.schedule.epochs}


def trained_row(training: TrainingRecord | None, clean: Measurement, file: str) -> dict[str, Any]:
    """The fields of a training, with the clean accuracy of what came of it.

    Args:
        training: its record; None where only the checkpoint is stored.
        clean: the accuracy.
        file: the checkpoint's.
    """
    (measured,) = measurement_rows([clean], Diagnosed())
    return {
        **dict.fromkeys(column.name for column in TRAINING_COLUMNS),
        "dataset": clean.data.dataset,
        **_model(clean.target),
        **(training_row(training) if training else {}),
        **{name: measured.get(name) for name in MEASURED},
        "file": file,
    }


def _shared(record: Measurement | TrainingRecord, model: ModelRecord) -> dict[str, object]:
    """What measurements and trainings say alike, about a model and the images it was given."""
    data = record.data
    flaws = ["lossy copies of the published pixels"] * data.lossy + [PART] * data.subset
    note = data.note or " and ".join(flaws)
    return {
        **record.environment.content(),
        "dataset": data.dataset,
        **_model(model),
        "provenance": f"{data.source}: {note}" if note else data.source,
        "data_digest": data.digest,
        "created": record.created,
    }


def _model(model: ModelRecord) -> dict[str, object]:
    """What identifies a model."""
    recipe = model.recipe
    return {
        "target": recipe.name,
        "scale": recipe.scale,
        "seed": recipe.seed,
        "checkpoint": model.checkpoint,
        "weights": model.weights,
        "model": model.key,
        "recipe": recipe,
    }
