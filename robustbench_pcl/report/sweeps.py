"""Accuracy against the attack's budget: which records are a curve's points (Figure 7).

All points about a model are of one model. The paper prints no numbers with its Figure 7: its curves
here join what its tables print for the same recipe, attack and budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.paper.figures import SweepFigure, printed_curve
from robustbench_pcl.paper.tables import AttackRequest
from robustbench_pcl.report.formatting import listed, percent, show_measured, span
from robustbench_pcl.report.results import Answers, Evidence, Record


class Point(NamedTuple):
    """Accuracy under one budget.

    Attributes:
        eps: in pixels of [0, 1].
        accuracy: per cent.
        interval: 95 % Wilson interval in per cent; None of a number that the paper prints.
    """

    eps: float
    accuracy: float
    interval: tuple[float, float] | None


class Curve(NamedTuple):
    """Accuracy under rising budgets; what is not measured is left out.

    Attributes:
        label: in the legend.
        points: in rising order.
        published: whether the paper prints it; it then looks like the curve before it, but hollow.
    """

    label: str
    points: tuple[Point, ...]
    published: bool = False


class Sweep(NamedTuple):
    """Curves in one plot.

    Attributes:
        title: over the plot.
        standard: the data set's standard budget, in pixels of [0, 1]; None to show none.
        curves: measured ones, each followed by the paper's where there is one.
    """

    title: str
    standard: float | None
    curves: tuple[Curve, ...]


class Sweeps(NamedTuple):
    """The plots of one data set, or of one model.

    Attributes:
        title: over the plots.
        plots: with one legend.
    """

    title: str
    plots: tuple[Sweep, ...]

    def sentences(self) -> Iterator[str]:
        """What each plot's measured curves come to, in numbers."""
        for plot in self.plots:
            ends = [
                f"{curve.label} from {show_measured(curve.points[0].accuracy)} to "
                f"{percent(show_measured(curve.points[-1].accuracy))} at eps = "
                f"{curve.points[-1].eps:g}"
                for curve in plot.curves
                if len(curve.points) > 1 and not curve.published
            ]
            if ends:
                yield f"{plot.title}: {', '.join(ends)}."


class Missing(NamedTuple):
    """What is not measured yet: of which model and attack, and within which budget."""

    what: str
    eps: float | None


class SweepAnswer(NamedTuple):
    """What is stored of a sweep figure for one data set.

    Attributes:
        scale: of all its records; None if nothing is stored.
        part: what is drawn.
        images: of each point that was asked for and is stored, how many images.
        missing: the points that were asked for and are not stored.
        devices: that computed what is drawn.
        notes: sentences on what is seen.
    """

    scale: Scale | None
    part: Sweeps
    images: tuple[int, ...]
    missing: tuple[Missing, ...]
    devices: tuple[str, ...]
    notes: tuple[str, ...]


def sweep_answer(
    figure: SweepFigure,
    evidence: Evidence,
    dataset: str,
    models: Sequence[str],
    *,
    scale: Scale | None,
    seed: int | None,
) -> SweepAnswer:
    """What is stored of some models under the figure's attacks, with its comparison.

    Args:
        figure: of the paper.
        evidence: all records there are.
        dataset: name of the data set.
        models: by name, at least one.
        scale: of the models; by default the most faithful one stored.
        seed: of the models' training; any by default.

    Raises:
        UserError: there is no such data set.
    """
    found = _records(figure, evidence, dataset, models, scale=scale, seed=seed)
    others: dict[tuple[str, str, float], Record] = {}
    if found.scale and figure.comparison not in models:
        others = _records(
            figure, evidence, dataset, [figure.comparison], scale=found.scale, seed=seed
        ).records
        others = others if any(eps for _, _, eps in others) else {}
    records = {**found.records, **others}
    names = [*models, *(figure.comparison,) * bool(others)]
    spec = dataset_spec(dataset)
    plots = tuple(
        Sweep(attack.label, spec.eps, tuple(_curves(names, attack, dataset, records)))
        for attack in figure.attacks
    )
    missing: dict[Missing, None] = {}
    for model, label, eps in found.asked:
        if (model, label, eps) not in records:
            of = f"{model}: " if len(models) > 1 else ""
            # The clean accuracy is asked for once per attack, but is one point of the figure.
            missing[Missing(f"{of}{label}", eps) if eps else Missing(f"{of}clean", None)] = None
    notes = [
        note
        for name in models
        for note in _weaker_notes(name, figure, records, complete=not missing)
    ]
    if others:
        notes.append(
            f"{figure.comparison} for comparison: n = "
            f"{span(int(record.n) for record in others.values())} images."
        )
    notes += _printed_note(figure, dataset, names)
    return SweepAnswer(
        scale=found.scale,
        part=Sweeps(spec.title, plots),
        images=tuple(int(record.n) for record in _once(found.records)),
        missing=tuple(missing),
        devices=tuple(dict.fromkeys(record.device for record in records.values())),
        notes=(*notes, *_early_stop_note(found.answers)),
    )


class _Found(NamedTuple):
    """Records by model, attack and budget, of those that were asked for."""

    scale: Scale | None
    asked: tuple[tuple[str, str, float], ...]
    records: dict[tuple[str, str, float], Record]
    answers: Answers


def _records(
    figure: SweepFigure,
    evidence: Evidence,
    dataset: str,
    models: Sequence[str],
    *,
    scale: Scale | None,
    seed: int | None,
) -> _Found:
    asked = {
        (model, attack.label, eps): cell
        for model in models
        for attack in figure.attacks
        for eps, cell in figure.cells(dataset, attack, model)
    }
    answers = evidence.answers(list(asked.values()), scale, seed)
    pairs = zip(asked, answers.records, strict=True)
    records = {key: record for key, record in pairs if record is not None}
    return _Found(answers.scale, tuple(asked), records, answers)


def _once(records: dict[tuple[str, str, float], Record]) -> list[Record]:
    """The records, each model's clean accuracy once."""
    return list(
        {(model, label if eps else "", eps): each for (model, label, eps), each in records.items()}
        .values()
    )  # fmt: skip


def _curves(
    names: Sequence[str],
    attack: AttackRequest,
    dataset: str,
    records: dict[tuple[str, str, float], Record],
) -> Iterator[Curve]:
    """A plot's curves: each model's, and the paper's of the same recipe behind it."""
    for name in names:
        yield Curve(name, _points(name, attack.label, records))
        printed = printed_curve(name, dataset, attack)
        if printed:
            points = tuple(Point(each.eps, each.accuracy, None) for each in printed)
            yield Curve(f"{name} in the paper", points, published=True)


def _points(
    name: str, label: str, records: dict[tuple[str, str, float], Record]
) -> tuple[Point, ...]:
    return tuple(
        Point(eps, record.accuracy, (record.low, record.high))
        for (model, attack, eps), record in records.items()
        if (model, attack) == (name, label)
    )


def _weaker_notes(
    name: str,
    figure: SweepFigure,
    records: dict[tuple[str, str, float], Record],
    *,
    complete: bool,
) -> Iterator[str]:
    """Whether some iterative attack on a model is weaker than it should be."""
    labels = [attack.label for attack in figure.attacks]
    curves = [Curve(label, _points(name, label, records)) for label in labels]
    weaker = [f"{label} at eps = {eps:g}" for label, eps in weaker_than_one_step(curves)]
    if weaker:
        yield (
            f"{name}: weaker than {labels[0]} beyond both intervals: {listed(weaker)}. An "
            "iterative attack that is weaker than a single step is a sign of masked gradients "
            "(Section 6.6)."
        )
    elif complete:
        yield f"{name}: no iterative attack is weaker than {labels[0]} beyond both intervals."


def _printed_note(figure: SweepFigure, dataset: str, names: Sequence[str]) -> Iterator[str]:
    """Which tables the paper's curves join."""
    printed = (printed_curve(name, dataset, attack) for name in names for attack in figure.attacks)
    tables = sorted({each.table for points in printed for each in points})
    if tables:
        yield f"The paper's numbers: Table{'s' * (len(tables) > 1)} {listed(map(str, tables))}."


def _early_stop_note(answers: Answers) -> Iterator[str]:
    """Which attacks left an image at the first step that fooled the model."""
    labels = [record.attack for record in answers.records if record and record.mode == "early-stop"]
    if labels:
        yield (
            "Early stop, each image left at the first step that fooled the model, so that the "
            f"accuracy is at most that after all steps: {listed(dict.fromkeys(labels))}."
        )


def weaker_than_one_step(curves: Sequence[Curve]) -> Iterator[tuple[str, float]]:
    """Where an iterative attack leaves more than the single-step one, beyond their intervals.

    Args:
        curves: measured ones; the first is the single-step attack's.

    Yields:
        The attack's label and the budget.
    """
    single, *iterative = curves
    highest = {point.eps: point.interval[1] for point in single.points if point.interval}
    for curve in iterative:
        for point in curve.points:
            if point.interval and point.interval[0] > highest.get(point.eps, 100.0):
                yield curve.label, point.eps
