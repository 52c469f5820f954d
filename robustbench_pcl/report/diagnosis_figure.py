"""The picture of a diagnosis: each check's answer, accuracy over eps, and the logit margins."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_pcl.report.diagnosis_formats import ANSWERS, heading
from robustbench_pcl.report.drawing import (
    BLUE,
    COLOURS,
    INK,
    RED,
    SMALL,
    WIDTH,
    Drawing,
    above_legend,
    ink,
    legend,
    legend_height,
)
from robustbench_pcl.report.figures import PageFigure
from robustbench_pcl.report.formatting import listed, per_cent, percent, show_measured
from robustbench_pcl.report.plots import INTERVAL, reach
from robustbench_pcl.store.diagnoses import Check, Diagnosis
from robustbench_pcl.store.rules import wilson

LEAVING = frozenset(
    {
        *("PCL201", "PCL202", "PCL203", "PCL205", "PCL213", "PCL214"),
        *("PCL215", "PCL223", "PCL224", "PCL225", "PCL242"),
    }
)
"""Checks whose figures are what attempts leave, in per cent."""
OVER_EPS, MARGINS = "PCL204", "PCL212"
EPS, PERCENTILE = re.compile(r"eps ([\d.e-]+)"), re.compile(r"margin, percentile (\d+)")
SMALLEST = 15.0
"""Below so large a logit margin float32 rounds nothing away."""
WORDS, BAR, TOP = 0.17, 0.13, (2.1, 1.2)
"""Inches of a check's words, of its bar, and of the two plots above."""
RUNGS, TOGETHER = "the judged attack at other eps", "all attacks together"
RIGHT = 113.0
"""Where the bars' numbers end: beyond the longest bar and its interval."""
LOST = 87.3
"""From so large a margin on, the probability of another class is subnormal in float32."""


def diagnosis_figure(diagnosis: Diagnosis) -> PageFigure:
    """What each check found, accuracy over the budget, and the logit margins.

    Args:
        diagnosis: what is drawn.
    """
    labels = (RUNGS, diagnosis.label, TOGETHER)
    rows = 0.7 + sum(WORDS + BAR * _has_bar(check) for check in diagnosis.checks)
    heights = TOP[0] + legend_height(labels), TOP[1], rows

    def paint(figure: Figure) -> None:
        parts = figure.subfigures(3, 1, squeeze=False, height_ratios=heights)[:, 0]
        above, below = above_legend(parts[0], TOP[0], labels)
        painters = (_paint_over_eps, _paint_margins, _paint_checks)
        for part, painter in zip((above, *parts[1:]), painters, strict=True):
            axes = part.subplots()
            painter(axes, diagnosis)
            ink(axes)
        legend(below, *above.axes[0].get_legend_handles_labels())

    bars = f"Error bars: {percent('95')} Wilson intervals."
    title = heading(diagnosis)
    failed = [f"{check.code} {check.name}" for check in diagnosis.checks if check.passed is False]
    said = f"Checks that fail: {listed(failed)}." if failed else "No check fails."
    note = f"{title.partition(' on ')[2]} images. {bars}"
    return PageFigure(
        title=title,
        drawing=Drawing(paint, (WIDTH, sum(heights)), title, f"{diagnosis.sentence} {said}", note),
        caption=f"{diagnosis.sentence} A bar is the lowest accuracy that an attempt of a check "
        "leaves, hatched and orange where the check fails; the dashed line is what the judged "
        f"attack leaves. {bars} Logit margins: of the label over the next class, from the 5th to "
        "the 95th percentile of the images that are classified right when clean.",
    )


def _paint_over_eps(axes: Axes, diagnosis: Diagnosis) -> None:
    """The rungs that were tried, the judged number, and what withstands everything."""
    measured = _measured(diagnosis, OVER_EPS)
    rungs = {float(found[1]): left for name, left in measured.items() if (found := EPS.match(name))}
    rungs = {0.0: per_cent(diagnosis.clean / diagnosis.n), **rungs}
    n = diagnosis.n
    places, values = list(rungs), list(rungs.values())
    yerr = reach(values, [_interval(value, n) for value in values])
    axes.errorbar(
        places, values, yerr=yerr, color=BLUE, marker="o", markersize=3.5, label=RUNGS, **INTERVAL
    )
    for label, count, colour, marker in (
        (diagnosis.label, diagnosis.correct, COLOURS[2], "s"),
        (TOGETHER, diagnosis.withstood, RED, "D"),
    ):
        share = per_cent(count / n)
        yerr = reach([share], [_interval(share, n)])
        axes.errorbar(
            [diagnosis.eps], [share], yerr=yerr, color=colour, fmt=marker, label=label, **INTERVAL
        )
    axes.set_ylim(-3, 102)
    largest = max(*rungs, diagnosis.eps)
    axes.set_xlim(-0.02 * largest, largest * 1.08)
    axes.set_xlabel("eps, in pixels of [0, 1]")
    axes.set_ylabel("accuracy (%)")


def _paint_margins(axes: Axes, diagnosis: Diagnosis) -> None:
    """From the smallest percentile of the margins to the largest, and where float32 ends."""
    measured = _measured(diagnosis, MARGINS)
    levels = [value for name, value in measured.items() if PERCENTILE.match(name)]
    axes.set_yticks([])
    axes.set_ylim(-1, 1)
    if not levels:
        axes.set_xticks([])
        axes.set_xlabel("logit margin of clean images")
        axes.text(0.5, 0.5, "not measured", ha="center", color=INK, transform=axes.transAxes)
        return
    shown = f"{levels[0]:.3g} to {levels[-1]:.3g}, median {levels[len(levels) // 2]:.3g}"
    axes.set_xlabel(f"logit margin of clean images: {shown}")
    axes.plot([levels[0], levels[-1]], [0, 0], color=BLUE, linewidth=5, solid_capstyle="butt")
    axes.plot(levels, [0] * len(levels), color=INK, linestyle="none", marker="|", markersize=14)
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(min(0.0, levels[0]), max(1000.0, 1.5 * levels[-1]))
    axes.axvspan(LOST, axes.get_xlim()[1], color=RED, alpha=0.15, linewidth=0)
    axes.axvspan(SMALLEST, LOST, color=COLOURS[1], alpha=0.15, linewidth=0)
    for place, words in ((SMALLEST, "rounding"), (LOST, "gradient lost")):
        axes.annotate(
            words,
            (place, 1),
            xytext=(2, 2),
            textcoords="offset points",
            va="bottom",
            color=INK,
            fontsize=SMALL,
        )


def _paint_checks(axes: Axes, diagnosis: Diagnosis) -> None:
    """A row for each check: its question, its answer, and the least that an attempt leaves."""
    place, judged = 0.0, per_cent(diagnosis.correct / diagnosis.n)
    for check in diagnosis.checks:
        weight = "bold" if check.passed is False else "normal"
        words: dict[str, Any] = {"va": "center", "color": INK, "fontsize": SMALL}
        axes.text(0, place + WORDS / 2, _label(check), fontweight=weight, **words)
        place += WORDS
        if _has_bar(check):
            _paint_left(axes, place + BAR / 2, check, diagnosis.n)
            axes.plot([judged] * 2, [place, place + BAR], color=INK, linewidth=1, linestyle="--")
            place += BAR
    axes.set_yticks([])
    axes.set_ylim(place + 0.05, -0.05)
    axes.set_xlim(0, RIGHT)
    axes.set_xticks(range(0, 101, 20))
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("accuracy that is left (%); dashed: by the judged attack")


def _has_bar(check: Check) -> bool:
    """Whether its figures are what attempts leave."""
    return check.code in LEAVING and bool(check.measured)


def _paint_left(axes: Axes, place: float, check: Check, n: int) -> None:
    """The least that an attempt of a check leaves, with its interval and its number."""
    reference, *others = check.measured.values()
    left = min(others, default=reference)
    failed = check.passed is False
    axes.barh(
        place,
        left,
        0.8 * BAR,
        color=RED if failed else BLUE,
        hatch="////" if failed else "",
        edgecolor="white",
        linewidth=0,
    )
    interval = _interval(left, n)
    axes.errorbar(left, place, xerr=reach([left], [interval]), fmt="none", ecolor=INK, **INTERVAL)
    axes.text(
        RIGHT,
        place,
        show_measured(left),
        ha="right",
        va="center",
        color=INK,
        fontsize=SMALL,
    )


def _interval(share: float, n: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share of n images; all in per cent."""
    low, high = wilson(round(share * n / 100), n)
    return per_cent(low), per_cent(high)


def _label(check: Check) -> str:
    """A check's code, what it asked, and the answer."""
    return f"{check.code} {check.name}: {ANSWERS[check.passed]}"


def _measured(diagnosis: Diagnosis, code: str) -> dict[str, float]:
    """The figures of one check; none if it was not asked."""
    return next((check.measured for check in diagnosis.checks if check.code == code), {})
