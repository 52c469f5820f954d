"""What a figure is drawn from, one section per data set: panels of features, or curves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.report.formatting import listed, span
from robustbench_pcl.report.regions import Window
from robustbench_pcl.store.embeddings import Layout


class Plot(NamedTuple):
    """One scatter plot.

    Attributes:
        title: whose features.
        layout: the points; None if they are not made yet.
        window: the part of the plane that is shown; all points if None.
    """

    title: str
    layout: Layout | None
    window: Window | None = None


class Block(NamedTuple):
    """The scatter plots of one data set.

    Attributes:
        title: over the plots.
        classes: numbers of the classes that are shown, in the order of their colours.
        names: what they are called.
        plots: from left to right, then from top to bottom.
        command: makes what is missing; "" if nothing is.
    """

    title: str
    classes: tuple[int, ...]
    names: tuple[str, ...]
    plots: tuple[Plot, ...]
    command: str = ""


class Point(NamedTuple):
    """Accuracy under one budget.

    Attributes:
        eps: in pixels of [0, 1].
        accuracy: per cent.
        interval: 95 % interval in per cent.
    """

    eps: float
    accuracy: float
    interval: tuple[float, float]


class Curve(NamedTuple):
    """One attack under rising budgets; what is not measured is left out."""

    label: str
    points: tuple[Point, ...]


class Sweep(NamedTuple):
    """The curves of one data set.

    Attributes:
        title: over the plot.
        standard: the data set's standard budget, in pixels of [0, 1].
        curves: the first is the single-step attack.
        command: measures what is missing; "" if nothing is.
    """

    title: str
    standard: float
    curves: tuple[Curve, ...]
    command: str = ""


@dataclass(frozen=True)
class FigureSection:
    """One data set's part of a figure.

    Attributes:
        dataset: name of the data set.
        scale: of the recipes; None if nothing is stored.
        part: what is drawn.
        command: makes all of it; what is stored is not made again.
        images: how many images each of its panels or points shows.
        missing: what is not stored yet, in a few words each.
        notes: sentences on what is seen.
    """

    dataset: str
    scale: Scale | None
    part: Block | Sweep
    command: str
    images: tuple[int, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def sentences(self) -> Iterator[str]:
        """For the caption: how it was made, what is seen, what is missing."""
        title = dataset_spec(self.dataset).title
        if self.images:
            yield f"{title}, {self.scale} scale, n = {span(self.images)} images."
        yield from self.notes
        if self.missing:
            what = f"{listed(self.missing)} not" if self.images else "nothing"
            yield f"{title}: {what} stored yet. Make it with: {self.command}."


def run_command(number: int, dataset: str, scale: Scale | None, seed: int | None) -> str:
    """The command that makes a figure for a data set."""
    options = f" --scale {scale}" if scale else ""
    options += f" --seed {seed}" if seed is not None else ""
    return f"pclbench run --figure {number} --dataset {dataset}{options}"
