"""What a reader of a section's numbers has to know, derived from the evidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from robustbench_pcl.paper.independent import independent_results
from robustbench_pcl.report.evidence import PAPER_STEPS, Answer, differing_steps
from robustbench_pcl.report.formatting import (
    attack_label,
    counted,
    listed,
    percent,
    show_budget,
    span,
)
from robustbench_pcl.report.scale_note import scale_note
from robustbench_pcl.report.worst_case import WorstCase
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.specs.recipe import Recipe


def evidence_notes(answers: Sequence[Answer]) -> Iterator[str]:
    """How a section's numbers were made: scale, data, loss, attacks, images, device."""
    recipes = [answer.recipe for answer in answers]
    yield scale_note(recipes)
    yield from _data_notes(answers)
    yield from _loss_notes(recipes)
    yield from _attack_notes(answers)
    yield from _precision_note(answers)
    devices = sorted({answer.environment.device for answer in answers})
    yield f"Measured on {listed(devices)}."


def unbuilt_note(recipes: Sequence[str]) -> Iterator[str]:
    """Which recipes a table asks for that nothing here can train."""
    if recipes:
        yield f"No recipe to train yet: {', '.join(recipes)}."


def other_scales_note(shown: Scale, scales: Mapping[Scale, int]) -> Iterator[str]:
    """Which other scales have measurements, and the option that shows them."""
    for scale, count in scales.items():
        if scale != shown:
            yield f"{counted(count, 'cell')} measured at {scale} scale too: --scale {scale}."


def worst_case_note(worst: Mapping[str, WorstCase]) -> Iterator[str]:
    """Accuracy over all stored white-box attacks, recipes with the same attacks together.

    Args:
        worst: recipe's label -> its worst case.
    """
    groups: dict[tuple[tuple[str, ...], int], list[str]] = defaultdict(list)
    for label, case in worst.items():
        groups[case.attacks, case.n].append(f"{label} {percent(case.accuracy)}")
    if groups:
        cases = "; ".join(
            f"{', '.join(rows)} ({listed(attacks)}; n = {n})"
            for (attacks, n), rows in groups.items()
        )
        yield (
            "Worst case over the stored white-box attacks within eps, where an image counts only "
            f"if it withstands all of them: {cases}."
        )


def independent_notes(dataset: str, cells: Sequence[Cell]) -> Iterator[str]:
    """What others measured on the paper's own models, where the section claims otherwise."""
    attacked = {cell.target for cell in cells if cell.attack}
    for result in independent_results():
        if result.dataset == dataset and result.target in attacked:
            clean, claimed, measured = (
                percent(str(value)) for value in (result.clean, result.claimed, result.measured)
            )
            yield (
                f"On the authors' own {result.model} ({show_budget(result.eps, None)}, clean "
                f"{clean}) {result.attack} leaves {measured} where {claimed} is claimed "
                f"({result.reference})."
            )


def _loss_notes(recipes: Iterable[Recipe]) -> Iterator[str]:
    """The loss beside cross-entropy, with the parameters that are not its defaults."""
    names: dict[str, set[str]] = defaultdict(set)
    for recipe in recipes:
        parameters = [f"{name} = {value}" for name, value in recipe.loss.parameters.items()]
        loss = f"{recipe.loss.name} ({', '.join(parameters)})" if parameters else recipe.loss.name
        names[loss].add(recipe.name)
    names.pop("cross-entropy", None)
    for loss, users in names.items():
        yield f"Loss of {listed(sorted(users))}: {loss}."


def _data_notes(answers: Sequence[Answer]) -> Iterator[str]:
    notes: dict[str, None] = {}
    for answer in answers:
        flaws = ["lossy copies of the published pixels"] * answer.data.lossy
        flaws += ["a part of the published set"] * answer.data.subset
        words = answer.data.note or listed(flaws)
        notes[f"Images from {answer.data.source}{': ' if words else ''}{words}."] = None
    yield from notes


def _attack_notes(answers: Sequence[Answer]) -> Iterator[str]:
    different = {
        (attack_label(answer.attack), steps, PAPER_STEPS[answer.attack.name])
        for answer in answers
        if answer.attack and (steps := differing_steps(answer.attack))
    }
    for label, steps, published in sorted(different):
        yield f"{label} with {steps} steps (the paper's Table 2: {published})."


def _precision_note(answers: Sequence[Answer]) -> Iterator[str]:
    intervals = [answer.interval for answer in answers if answer.interval]
    if intervals:
        images = span(answer.n for answer in answers if answer.n)
        half = max(high - low for low, high in intervals) / 2
        yield f"n = {images} images; the widest {percent('95')} interval is ±{half:.1f} points."
