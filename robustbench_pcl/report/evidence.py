"""Which stored record answers a cell."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from robustbench_pcl.report.answer import Answer, accuracy_answer, training_answer
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.specs.names import SCALES, Scale
from robustbench_pcl.specs.recipe import Recipe
from robustbench_pcl.store.records import Measurement, TrainingRecord

PAPER_STEPS = {"fgsm": 1, "bim": 10, "mim": 10, "cw": 1000, "pgd": 10}
"""The paper's attacks and their steps, in the order of its Table 2."""


class Evidence:
    """Stored records, asked by cell.

    Args:
        measurements: accuracies.
        trainings: training runs.
    """

    def __init__(
        self, measurements: Iterable[Measurement], trainings: Iterable[TrainingRecord]
    ) -> None:
        # A table's attacks take all steps.
        self.measurements = tuple(
            record for record in measurements if record.crafting != "until-fooled"
        )
        self.trainings = tuple(trainings)
        self._by_target: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
        for record in self.measurements:
            self._by_target[record.data.dataset, record.target.recipe.name].append(record)

    def answers(
        self, cell: Cell, scale: Scale | None = None, seed: int | None = None
    ) -> list[Answer]:
        """All answers to a cell: the paper's attack steps first, most images, newest.

        Args:
            cell: the question.
            scale: of target and source; any if None.
            seed: of the target's training; any if None.
        """
        if cell.quantity == "accuracy":
            found = [
                accuracy_answer(record)
                for record in self._by_target.get((cell.dataset, cell.target), ())
                if _trained(record.target.recipe, scale, seed)
                and _same_source(record, cell, scale)
                and _same_attack(record.attack, cell.attack)
            ]
        else:
            found = [
                training_answer(record, cell)
                for record in self.trainings
                if (record.recipe.dataset, record.recipe.name) == (cell.dataset, cell.target)
                and _trained(record.recipe, scale, seed)
            ]
        return sorted(
            found,
            key=lambda answer: (
                differing_steps(answer.attack) is None,
                answer.n or 0,
                answer.created,
            ),
            reverse=True,
        )

    def consistent_answers(
        self, cells: Sequence[Cell], scale: Scale | None, seed: int | None = None
    ) -> list[Answer | None]:
        """An answer to each cell, those about a target all from one model, or None.

        That model answers most of the cells about the target; the newest does if several do.

        Args:
            cells: the questions.
            scale: of targets and sources; None where no scale answers anything.
            seed: of the targets' training; any if None.
        """
        found = [self.answers(cell, scale, seed) if scale else [] for cell in cells]
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        newest: dict[str, str] = defaultdict(str)
        for cell, answers in zip(cells, found, strict=True):
            counts[cell.target].update({answer.model for answer in answers})
            for answer in answers:
                newest[answer.model] = max(newest[answer.model], answer.created)
        chosen = {
            target: max(count, key=lambda model: (count[model], newest[model]))
            for target, count in counts.items()
            if count
        }
        return [
            next((answer for answer in answers if answer.model == chosen[cell.target]), None)
            for cell, answers in zip(cells, found, strict=True)
        ]

    def scales(self, cells: Sequence[Cell], seed: int | None = None) -> dict[Scale, int]:
        """How many of the cells each scale answers, the most faithful scale first."""
        counts = {
            scale: sum(bool(self.answers(cell, scale, seed)) for cell in cells) for scale in SCALES
        }
        return {scale: count for scale, count in counts.items() if count}


def differing_steps(attack: Part | None) -> int | None:
    """The attack's steps where they are not the paper's (Table 2), else None."""
    if attack is None:
        return None
    steps = attack.parameters.get("steps")
    return None if steps is None or steps == PAPER_STEPS.get(attack.name, steps) else int(steps)


def _trained(recipe: Recipe, scale: Scale | None, seed: int | None) -> bool:
    return scale in (None, recipe.scale) and seed in (None, recipe.seed)


def _same_source(record: Measurement, cell: Cell, scale: Scale | None) -> bool:
    if record.source is None or cell.source is None:
        return record.source is None and cell.source is None
    if cell.source == cell.target:
        return record.source.key == record.target.key
    return record.source.recipe.name == cell.source and _trained(record.source.recipe, scale, None)


def _same_attack(measured: Part | None, asked: Part | None) -> bool:
    if measured is None or asked is None:
        return measured is None and asked is None
    # A table means cross-entropy as the adversarial loss unless it says otherwise.
    wanted = {"loss": "cross-entropy", **asked.parameters}
    given = {"loss": "cross-entropy", **measured.parameters}
    return measured.name == asked.name and all(
        name in given and _equal(given[name], value) for name, value in wanted.items()
    )


def _equal(left: object, right: object) -> bool:
    if isinstance(left, int | float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=0, abs_tol=1e-9)
    return left == right
