"""The picture of a diagnosis: each check's answer, accuracy over eps, and the logit margins."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_pcl.report.diagnosis_formats import ANSWERS, heading
from robustbench_pcl.report.figures import PageFigure
from robustbench_pcl.report.formatting import per_cent, show_measured
from robustbench_pcl.report.plots import COLOURS, INK, Drawing, ink
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
BLUE, RED = COLOURS[0], COLOURS[5]
SMALLEST, ROW, TOP = 15.0, 0.24, 2.7
"""Below so large a logit margin float32 rounds nothing away; inches of a check, and of the rest."""
INSIDE = 12
"""A bar of so many per cent has its number in it."""
LOST = 87.3
"""From so large a margin on, the probability of another class is subnormal in float32."""


def diagnosis_figure(diagnosis: Diagnosis) -> PageFigure:
    """What each check found, accuracy over the budget, and the logit margins.

    Args:
        diagnosis: what is drawn.
    """
    rows = 0.8 + ROW * len(diagnosis.checks)

    def paint(figure: Figure) -> None:
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[TOP, rows])[:, 0]
        over_eps, margins = above.subplots(1, 2)
        checks = below.subplots()
        _paint_over_eps(over_eps, diagnosis)
        _paint_margins(margins, diagnosis)
        _paint_checks(checks, diagnosis)
        for axes in (over_eps, margins, checks):
            ink(axes)

    return PageFigure(
        title=heading(diagnosis),
        drawing=Drawing(paint, (7.4, TOP + rows)),
        caption=f"{diagnosis.sentence} A bar is the least that an attempt of a check leaves, "
        "orange where the check fails; the line is what the judged attack leaves. Logit margins: "
        "of the label over the next class, from the 5th to the 95th percentile of the images that "
        "are right when clean.",
    )


def _paint_over_eps(axes: Axes, diagnosis: Diagnosis) -> None:
    """The rungs that were tried, the judged number, and what withstands everything."""
    measured = _measured(diagnosis, OVER_EPS)
    rungs = {float(found[1]): left for name, left in measured.items() if (found := EPS.match(name))}
    rungs = {0.0: per_cent(diagnosis.clean / diagnosis.n), **rungs}
    axes.plot(list(rungs), list(rungs.values()), color=BLUE, marker="o", markersize=3.5)
    n, judged = diagnosis.n, wilson(diagnosis.correct, diagnosis.n)
    for label, count, interval, colour, marker in (
        (diagnosis.label, diagnosis.correct, judged, BLUE, "s"),
        ("all attacks together", diagnosis.withstood, diagnosis.interval, RED, "D"),
    ):
        share = per_cent(count / n)
        reach = [[share - per_cent(interval[0])], [per_cent(interval[1]) - share]]
        axes.errorbar(
            [diagnosis.eps], [share], yerr=reach, color=colour, marker=marker, label=label
        )
    axes.set_ylim(0, 102)
    axes.set_xlim(0, max(*rungs, diagnosis.eps) * 1.08)
    axes.set_xlabel("eps, in pixels of [0, 1]")
    axes.set_ylabel("accuracy (%)")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8.5, loc="upper right")


def _paint_margins(axes: Axes, diagnosis: Diagnosis) -> None:
    """From the smallest percentile of the margins to the largest, and where float32 ends."""
    measured = _measured(diagnosis, MARGINS)
    levels = [value for name, value in measured.items() if PERCENTILE.match(name)]
    axes.set_yticks([])
    axes.set_ylim(-1, 1)
    axes.set_xlabel("logit margin of clean images")
    if not levels:
        axes.text(0.5, 0.5, "not measured", ha="center", color=INK, transform=axes.transAxes)
        return
    axes.plot([levels[0], levels[-1]], [0, 0], color=BLUE, linewidth=5, solid_capstyle="butt")
    last = len(levels) - 1
    for number, level in enumerate(levels):
        side = "right" if number == 0 else "left" if number == last else "center"
        axes.plot([level], [0], color=INK, marker="|", markersize=16)
        axes.annotate(
            f"{level:.3g}",
            (level, 0),
            xytext=(0, -20 if side in ("left", "right") else 12),
            textcoords="offset points",
            ha=side,
            color=INK,
            fontsize=8.5,
        )
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(min(0.0, levels[0]), max(200.0, 1.5 * levels[-1]))
    axes.axvspan(LOST, axes.get_xlim()[1], color=RED, alpha=0.15, linewidth=0)
    axes.axvspan(SMALLEST, LOST, color=COLOURS[1], alpha=0.15, linewidth=0)
    for place, words in ((SMALLEST, "rounding"), (LOST, "gradient lost")):
        axes.annotate(
            words,
            (place, -1),
            xytext=(3, 4),
            textcoords="offset points",
            color=INK,
            fontsize=8.5,
            rotation=90,
        )


def _paint_checks(axes: Axes, diagnosis: Diagnosis) -> None:
    """A row for each check: its answer, and the least that an attempt of it leaves."""
    rows = range(len(diagnosis.checks))
    for row, check in zip(rows, diagnosis.checks, strict=True):
        if check.code in LEAVING and check.measured:
            reference, *others = check.measured.values()
            left = min(others, default=reference)
            axes.barh(row, left, 0.66, color=RED if check.passed is False else BLUE)
            place: dict[str, Any] = {"x": left + 0.8, "color": INK}
            if left > INSIDE:
                place = {"x": left - 0.8, "color": "white", "ha": "right"}
            axes.text(y=row, s=show_measured(left), va="center_baseline", fontsize=8.5, **place)
    labels = [_label(check) for check in diagnosis.checks]
    axes.set_yticks(rows, labels, fontsize=8.5)
    for tick, check in zip(axes.get_yticklabels(), diagnosis.checks, strict=True):
        tick.set_fontweight("bold" if check.passed is False else "normal")
    axes.set_ylim(len(diagnosis.checks) - 0.4, -0.6)
    axes.set_xlim(0, 108)
    judged = per_cent(diagnosis.correct / diagnosis.n)
    axes.axvline(judged, color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        "judged",
        (judged, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        color=INK,
        fontsize=8.5,
    )
    axes.set_xlabel("left, of all images (%)")


def _label(check: Check) -> str:
    """A check's code, what it asked, and the answer."""
    return f"{check.code} {check.name}: {ANSWERS[check.passed]}"


def _measured(diagnosis: Diagnosis, code: str) -> dict[str, float]:
    """The figures of one check; none if it was not asked."""
    return next((check.measured for check in diagnosis.checks if check.code == code), {})
