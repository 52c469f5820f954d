"""Two-sided numbers as a picture: both curves over eps, and the band between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustbench_pcl.report.certified import TwoSided
from robustbench_pcl.report.figures import PageFigure
from robustbench_pcl.report.formatting import listed, show_budget
from robustbench_pcl.report.plots import COLOURS, INK, Drawing, ink, mark

BLUE, RED = COLOURS[0], COLOURS[5]
POINTS = 400
"""Budgets at which the curves are drawn."""
BESIDE = 3
"""Models side by side."""
ROOM = 14.0
"""Points of height that words in the band need."""


def certificate_figure(found: Sequence[TwoSided]) -> PageFigure:
    """Certified and withstood shares over eps, a plot per model, all on one scale.

    Args:
        found: at least one.
    """
    names = listed(dict.fromkeys(each.certificate.target.recipe.name for each in found))
    columns = min(len(found), BESIDE)
    rows = -(-len(found) // columns)

    def paint(figure: Figure) -> None:
        plots = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes, each in zip(plots, found, strict=False):
            _paint(axes, each)
        for axes in plots[len(found) :]:
            axes.set_axis_off()
        for axes in plots[::columns]:
            axes.set_ylabel("images (%)")
        handles, labels = plots[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            ncols=3,
            loc="outside lower center",
            frameon=False,
            labelcolor=INK,
        )

    return PageFigure(
        title=f"{names}: what withstands every perturbation, and what is not known",
        drawing=Drawing(paint, (2.6 + 2.6 * columns, 0.7 + 2.9 * rows)),
        caption=" ".join(words for each in found for words in _said(each, len(found))),
    )


def _said(found: TwoSided, models: int) -> list[str]:
    """A model's sentences, after its name where there are several."""
    name = found.certificate.target.recipe.name
    said = [*found.sentences, *found.why]
    return [f"{name}: {words}" if models > 1 else words for words in said]


def _paint(axes: Axes, found: TwoSided) -> None:
    certificate = found.certificate
    eps = np.linspace(0, certificate.largest_eps, POINTS + 1)
    bands = [found.at(float(each)) for each in eps]
    lower = np.array([band.lower for band in bands])
    upper = np.array([band.upper for band in bands])
    axes.plot(eps, lower, color=BLUE, label="certified")
    axes.fill_between(eps, lower, upper, color=INK, alpha=0.18, linewidth=0, label="not known")
    axes.plot(eps, upper, color=RED, linestyle="--", label="withstood the attacks")
    axes.xaxis.set_major_locator(MaxNLocator(4, prune="upper"))
    axes.set_ylim(0, 102)
    axes.set_xlim(0, certificate.largest_eps)
    axes.set_xlabel("eps, in pixels of [0, 1]")
    name, _, scale = found.name.rpartition(", ")
    axes.set_title(f"{name}\n{scale}, n = {certificate.n}", fontsize=10)
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
    _name_the_band(axes, eps, lower, upper)
    for budget in found.budgets:
        mark(axes, budget, show_budget(budget, None))
    ink(axes)


def _name_the_band(
    axes: Axes,
    eps: np.ndarray[tuple[int], np.dtype[np.float64]],
    lower: np.ndarray[tuple[int], np.dtype[np.float64]],
    upper: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    """Write what the band is where it is highest, if there is room; the legend says it anyway."""
    height = upper - lower
    inner = slice(len(eps) // 6, -(len(eps) // 6))  # words at an edge would leave the plot
    place = inner.start + int(np.argmax(height[inner]))
    if height[place] < ROOM:
        return
    middle = (lower[place] + upper[place]) / 2
    axes.text(eps[place], middle, "not known", ha="center", va="center", color=INK, fontsize=9)
