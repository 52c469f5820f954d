"""Which stored measurements answer a figure of accuracy against the attack's budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.paper.figure import SweepFigure
from robustbench_pcl.report.evidence import Evidence
from robustbench_pcl.report.figures.figure_section import FigureSection
from robustbench_pcl.report.figures.sweep import Curve, Point, Sweep, weaker_than_one_step
from robustbench_pcl.report.formatting import attack_label, listed
from robustbench_pcl.specs.names import Scale


def sweep_section(
    figure: SweepFigure,
    evidence: Evidence,
    dataset: str,
    scale: Scale | None = None,
    seed: int | None = None,
) -> FigureSection:
    """A figure's curves for a data set, all of one checkpoint.

    Args:
        figure: the paper's.
        evidence: all records there are.
        dataset: name in the catalogue.
        scale: of the recipe; by default the most faithful one with a measurement.
        seed: of the recipe's training; any by default.

    Raises:
        UserError: there is no such data set.
    """
    asked = [(attack, list(figure.cells(dataset, attack))) for attack in figure.attacks]
    cells = [cell for _, pairs in asked for _, cell in pairs]
    scale = scale or next(iter(evidence.scales(cells, seed)), None)
    found = evidence.consistent_answers(cells, scale, seed)
    answers = dict(zip(map(repr, cells), found, strict=True))
    images: dict[str, int] = {}
    missing: dict[str, str] = {}
    curves = []
    for attack, pairs in asked:
        label, points = attack_label(attack), []
        for eps, cell in pairs:
            answer = answers[repr(cell)]
            if answer is None or answer.interval is None or answer.n is None:
                words = f"{label} with eps = {eps:g}" if eps else "accuracy without attack"
                missing[repr(cell)] = words
            else:
                images[repr(cell)] = answer.n
                points.append(Point(eps, answer.value, answer.interval))
        curves.append(Curve(label, tuple(points)))
    return FigureSection(
        number=figure.number,
        dataset=dataset,
        scale=scale,
        seed=seed,
        part=Sweep(dataset_spec(dataset).title, dataset_spec(dataset).eps, tuple(curves)),
        images=tuple(images.values()),
        missing=tuple(missing.values()),
        notes=tuple(_notes(curves, complete=not missing)),
    )


def _notes(curves: Sequence[Curve], *, complete: bool) -> Iterator[str]:
    """Whether some iterative attack is weaker than it should be."""
    single = curves[0].label
    weaker = [f"{label} at eps = {eps:g}" for label, eps in weaker_than_one_step(curves)]
    if weaker:
        yield (
            f"Weaker than {single} beyond both intervals: {listed(weaker)}. An iterative attack "
            "that leaves more than a single step is a sign of masked gradients (Section 6.6)."
        )
    elif complete:
        yield f"No iterative attack is weaker than {single} beyond both intervals."
