"""Which stored model, data set and budget a requirement is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_pcl.configuration import SCALES, Scale
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.paper.tables import published
from robustbench_pcl.recipes.presets import is_recipe, recipe_names
from robustbench_pcl.report.formatting import listed
from robustbench_pcl.report.results import Evidence, Record
from robustbench_pcl.report.worst_case import largest_eps
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.records import ModelRecord


@dataclass(frozen=True)
class Selection:
    """Which of the stored numbers requirements are about.

    Attributes:
        table: of the paper, whose models and budget are meant; None for none.
        dataset: name of the data set; None for the only one that a target was measured on.
        scale: of the models; None for the table's, or the most faithful one stored.
        seed: of the models' training; None for any.
        eps: L-infinity budget in pixels of [0, 1]; None for the table's, or the data set's.
    """

    table: int | None = None
    dataset: str | None = None
    scale: Scale | None = None
    seed: int | None = None
    eps: float | None = None


class Subject(NamedTuple):
    """A stored model that something is known of.

    Attributes:
        dataset: name of the data set.
        model: its checkpoint, weights and recipe.
        created: when that became known, ISO 8601.
    """

    dataset: str
    model: ModelRecord
    created: str


def find_subject(evidence: Evidence, target: str, selection: Selection) -> Subject | None:
    """The model that is meant, or None if nothing is stored of it.

    That is the table's, or at the most faithful scale the one of which most is stored, the newest
    if there are several.
    """
    check_model(evidence, target)
    found = [
        each
        for each in _subjects(evidence, target)
        if selection.dataset in (None, each.dataset)
        and selection.scale in (None, each.model.recipe.scale)
        and selection.seed in (None, each.model.recipe.seed)
    ]
    datasets = dict.fromkeys(each.dataset for each in found)
    if len(datasets) > 1:
        cure = f"Choose one: --dataset {next(iter(datasets))}."
        raise UserError(f"{target} was measured on {listed(datasets)}.", cure)
    if found and selection.table is not None:
        found = list(_of_table(evidence, target, found, selection))
    scale = next(
        (size for size in SCALES if any(each.model.recipe.scale == size for each in found)), ""
    )
    found = [each for each in found if each.model.recipe.scale == scale]
    count = Counter(each.model.key for each in found)
    return max(found, key=lambda each: (count[each.model.key], each.created), default=None)


def check_model(evidence: Evidence, name: str) -> None:
    """Refuse a name that is no recipe's, and no stored model's.

    Raises:
        UserError: it is none.
    """
    known: list[Diagnosis | Certificate] = [*evidence.diagnoses, *evidence.certificates]
    stored = {*evidence.measurements["target"], *(each.target.recipe.name for each in known)}
    if name not in stored and not is_recipe(name):
        raise unknown_name("model", name, {*stored, *recipe_names()})


def _subjects(evidence: Evidence, target: str) -> Iterator[Subject]:
    """A model of that name for each thing that is known of it."""
    rows = evidence.measurements
    for row in rows[rows["target"] == target].itertuples(index=False):
        record: Record = row
        model = ModelRecord(
            checkpoint=record.checkpoint, weights=record.weights, recipe=record.recipe
        )
        yield Subject(record.dataset, model, record.created)
    known: list[Diagnosis | Certificate] = [*evidence.diagnoses, *evidence.certificates]
    for each in known:
        if each.target.recipe.name == target:
            yield Subject(each.data.dataset, each.target, each.created)


def _of_table(
    evidence: Evidence, target: str, found: Sequence[Subject], selection: Selection
) -> Iterator[Subject]:
    """Those of one data set that a table shows; all of a model that the paper's table has not."""
    assert selection.table is not None
    positions = published(selection.table).positions(found[0].dataset)
    cells = [position.cell for position in positions]
    answers = evidence.answers(cells, selection.scale, selection.seed)
    pairs = list(zip(cells, answers.records, strict=True))
    shown = {record.model for cell, record in pairs if record and cell.target == target}
    own = any(cell.target == target for cell in cells)
    yield from (each for each in found if each.model.key in shown or not own)


def find_eps(dataset: str | None, selection: Selection) -> float | None:
    """The budget: as asked, the table's largest, or the data set's; None if none of them is."""
    if selection.eps is not None or dataset is None:
        return selection.eps
    if selection.table is not None:
        positions = published(selection.table).positions(dataset)
        largest = largest_eps(position.cell for position in positions)
        if largest is not None:
            return largest
    return dataset_spec(dataset).eps
