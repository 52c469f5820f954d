"""What a reader of a section's numbers has to know, derived from the evidence."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from robustbench_pcl.paper.independent import independent_results
from robustbench_pcl.paper.table import Heading, Position
from robustbench_pcl.report.answer import Answer
from robustbench_pcl.report.evidence import PAPER_STEPS, differing_steps
from robustbench_pcl.report.formatting import (
    attack_label,
    counted,
    listed,
    percent,
    show_budget,
    span,
)
from robustbench_pcl.report.tables.scale_note import scale_note
from robustbench_pcl.report.tables.worst_case import WorstCase
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.specs.recipe import Recipe


def evidence_notes(answers: Sequence[Answer]) -> Iterator[str]:
    """How a section's numbers were made: scale, data, loss, attacks, images, device."""
    recipes = [answer.recipe for answer in answers]
    sources = [answer.source for answer in answers if answer.source]
    yield scale_note([*recipes, *sources])
    yield from _data_notes(answers)
    yield from _loss_notes(recipes)
    yield from _decision_notes(recipes)
    yield from _attack_notes(answers)
    yield from _gradient_note(answers)
    yield from _precision_note(answers)
    devices = sorted({answer.environment.device for answer in answers})
    yield f"Measured on {listed(devices)}."


def recipe_note(headings: Iterable[Heading]) -> Iterator[str]:
    """Which recipes stand behind the headings that do not say it."""
    named = {heading.brief: heading.target for heading in headings if heading.target}
    pairs = [
        f"{label}\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{recipe}"
        for label, recipe in named.items()
        if _letters(label) != _letters(recipe)
    ]
    if pairs:
        yield f"Recipes: {', '.join(pairs)}."


def _letters(name: str) -> str:
    return re.sub(r"\W", "", name).casefold()


def seconds_note(positions: Sequence[Position], answers: Sequence[Answer | None]) -> Iterator[str]:
    """What the seconds of an epoch depend on beside the recipe."""
    threads = [
        answer.environment.threads
        for position, answer in zip(positions, answers, strict=True)
        if answer and position.cell.quantity == "seconds_per_epoch"
    ]
    if threads:
        yield (
            f"Seconds: the median epoch's, with {span(threads)} "
            f"{'thread' if set(threads) == {1} else 'threads'}; other work on the machine "
            "lengthens them."
        )


def adaptive_note(positions: Sequence[Position]) -> Iterator[str]:
    """Which attacks know the defence's own loss, and what the others maximise."""
    attacked = [(position, position.cell.attack) for position in positions]
    names = {attack.name for _, attack in attacked if attack}
    adaptive = dict.fromkeys(
        (position.column if position.column.attack else position.row).name
        for position, attack in attacked
        if attack and attack.parameters.get("loss") == "joint"
    )
    if adaptive:
        yield (
            f"Adaptive, maximising the joint loss with its prototypes: {listed(adaptive)}. The "
            "other attacks maximise cross-entropy."
        )
    elif names:
        others = ", C&W the logit margin" if "cw" in names else ""
        yield f"Not adaptive: the attacks maximise cross-entropy{others}, not the joint loss."


def other_scales_note(shown: Scale, scales: Mapping[Scale, int]) -> Iterator[str]:
    """Which other scales have measurements, and the option that shows them."""
    for scale, count in scales.items():
        if scale != shown:
            yield f"{counted(count, 'cell')} measured at {scale} scale too: --scale {scale}."


def worst_case_note(cases: Mapping[str, WorstCase]) -> Iterator[str]:
    """What the worst cases withstood, recipes with the same attacks together.

    Args:
        cases: recipe -> its worst case.
    """
    groups: dict[tuple[tuple[str, ...], int], list[str]] = defaultdict(list)
    for recipe, case in cases.items():
        groups[case.attacks, case.n].append(recipe)
    if groups:
        budget = show_budget(next(iter(cases.values())).eps, None)
        attacked = "; ".join(
            listed(attacks) + (f" on {listed(recipes)}" if len(groups) > 1 else "") + f" (n = {n})"
            for (attacks, n), recipes in groups.items()
        )
        yield (
            "Worst case: an image counts only if it withstands every stored white-box attack "
            f"within {budget}: {attacked}."
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
    """The loss beside cross-entropy, with its parameters."""
    names: dict[str, set[str]] = defaultdict(set)
    for recipe in recipes:
        parameters = [f"{name} = {value}" for name, value in recipe.loss.parameters.items()]
        loss = f"{recipe.loss.name} ({', '.join(parameters)})" if parameters else recipe.loss.name
        names[loss].add(recipe.name)
    names.pop("cross-entropy", None)
    for loss, users in names.items():
        yield f"Loss of {listed(sorted(users))}: {loss}."


def _decision_notes(recipes: Iterable[Recipe]) -> Iterator[str]:
    """Whose class is not the one with the largest logit of one network."""
    rules: dict[str, set[str]] = defaultdict(set)
    for recipe in recipes:
        if recipe.inference == "nearest":
            rules["the nearest prototype or class mean, not the largest logit"].add(recipe.name)
        if recipe.members > 1:
            rules[f"the largest mean probability of {recipe.members} networks"].add(recipe.name)
    for rule, users in rules.items():
        yield f"Class predicted by {listed(sorted(users))}: {rule}."


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


def _gradient_note(answers: Sequence[Answer]) -> Iterator[str]:
    """In which precision attacks computed, where it was not the models' own."""
    reduced = sorted({answer.precision for answer in answers} - {"float32"})
    if reduced:
        yield f"Attacks computed gradients in {listed(reduced)}; every verdict is float32's."


def _precision_note(answers: Sequence[Answer]) -> Iterator[str]:
    intervals = [answer.interval for answer in answers if answer.interval]
    if intervals:
        images = span(answer.n for answer in answers if answer.n)
        half = max(high - low for low, high in intervals) / 2
        yield f"n = {images} images; the widest {percent('95')} interval is ±{half:.1f} points."
