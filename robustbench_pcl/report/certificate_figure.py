"""Two-sided numbers as a picture: both curves over eps, and the band between them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustbench_pcl.report.certified import TwoSided
from robustbench_pcl.report.drawing import (
    BLUE,
    INK,
    RED,
    WIDTH,
    Drawing,
    above_legend,
    grid,
    ink,
    legend,
    legend_height,
    mark,
)
from robustbench_pcl.report.figures import PageFigure
from robustbench_pcl.report.formatting import listed, percent, show_budget
from robustbench_pcl.report.plots import INTERVAL, reach

POINTS = 400
"""Budgets at which the curves are drawn."""
BESIDE = 2
"""Models side by side."""
NAME = 20
"""Letters of a line of a model's name."""
LEGEND = ("certified", "not known", "withstood the attacks")
BARS = f"Error bars: {percent('95')} Wilson intervals."


def certificate_figure(found: Sequence[TwoSided]) -> PageFigure:
    """Certified and withstood shares over eps, a plot per model, all on one scale.

    Args:
        found: at least one.
    """
    names = listed(dict.fromkeys(each.certificate.target.recipe.name for each in found))
    columns = min(len(found), BESIDE)
    rows = -(-len(found) // columns)
    height = 2.6 * rows

    def paint(figure: Figure) -> None:
        above, below = above_legend(figure, height, LEGEND)
        plots = above.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes, each in zip(plots, found, strict=False):
            _paint(axes, each)
        for axes in plots[len(found) :]:
            axes.set_axis_off()
        for axes in plots[::columns]:
            axes.set_ylabel("images (%)")
        legend(below, *plots[0].get_legend_handles_labels())

    title = f"{names}: what withstands every perturbation, and what is not known"
    caption = " ".join(words for each in found for words in _said(each, len(found)))
    size = (WIDTH, height + legend_height(LEGEND))
    note = f"{'; '.join(dict.fromkeys(map(_conditions, found)))}. {BARS}"
    return PageFigure(title, Drawing(paint, size, title, caption, note), f"{caption} {BARS}")


def _conditions(found: TwoSided) -> str:
    """The data set, the scale and n."""
    return f"{found.name.partition(' on ')[2]}, n = {found.certificate.n:,} images"


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
    axes.plot(eps, lower, color=BLUE, label=LEGEND[0])
    axes.fill_between(eps, lower, upper, color=INK, alpha=0.18, linewidth=0, label=LEGEND[1])
    axes.plot(eps, upper, color=RED, linestyle="--", label=LEGEND[2])
    _paint_intervals(axes, found)
    axes.xaxis.set_major_locator(MaxNLocator(4, prune="upper"))
    axes.set_ylim(-2, 102)
    axes.set_xlim(-0.02 * certificate.largest_eps, 1.02 * certificate.largest_eps)
    axes.set_xlabel("eps, in pixels of [0, 1]")
    name = textwrap.wrap(found.certificate.target.recipe.name, NAME)
    axes.set_title("\n".join(name), fontsize=10, pad=18)
    grid(axes)
    for budget in found.budgets:
        mark(axes, budget, show_budget(budget, None))
    ink(axes)


def _paint_intervals(axes: Axes, found: TwoSided) -> None:
    """The intervals of both shares, where the table prints them."""
    ladder = found.ladder
    eps = [band.eps for band in ladder]
    for side, colour, marker in ((0, BLUE, "o"), (1, RED, "D")):
        shares = [(band.lower, band.upper)[side] for band in ladder]
        yerr = reach(shares, [band.intervals[side] for band in ladder])
        axes.errorbar(eps, shares, yerr=yerr, color=colour, fmt=marker, markersize=3.5, **INTERVAL)
