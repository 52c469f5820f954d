"""Plots of numbers: every number is where it belongs, the same on every run."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from matplotlib.container import ErrorbarContainer

from robustbench_pcl.report.drawing import INK
from robustbench_pcl.report.plots import (
    Bar,
    Square,
    Words,
    bars,
    heat_map,
    sweep,
    training_curves,
)
from robustbench_pcl.report.sweeps import Curve, Point, Sweep, Sweeps

GROUPS = ("Clean", "FGSM", "PGD")
SERIES = {
    "Softmax": (Bar(90, (88.0, 92.0), 90.8), Bar(20, (18.0, 22.0), 21.4), Bar(None, None, 0.0)),
    "Ours": (Bar(91), Bar(60), Bar(30)),
}
SQUARES = [[Square(10.0, framed=True), Square(None)], [Square(52.5), Square(7.0, framed=True)]]
HISTORY = [
    {"epoch": epoch, "cross_entropy": 2 / epoch, "training_accuracy": 1 - 0.8 / epoch}
    for epoch in range(1, 13)
]
CURVES = (
    Curve("FGSM", (Point(0.0, 90, (88.0, 92.0)), Point(0.1, 45, (40.0, 50.0)))),
    Curve("PGD", ()),
)
WORDS = Words("A title", "What is seen.", "CIFAR-10, quick scale, n = 500 images.")
PLOTS = {
    "bars": lambda: bars(GROUPS, SERIES, WORDS),
    "heat map": lambda: heat_map(["a", "b"], ["c", "d"], SQUARES, WORDS),
    "curves": lambda: training_curves({f"recipe-{index}": HISTORY for index in range(8)}, WORDS),
    "sweep": lambda: sweep([Sweeps("CIFAR-10", (Sweep("PGD", 0.03, CURVES),))], WORDS),
}


def words(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [text.strip() for text in root.itertext() if text.strip()]


@pytest.mark.parametrize("draw", PLOTS.values(), ids=PLOTS)
def test_plots_are_repeatable_drawings_in_the_pages_colours(draw):
    svg = draw().svg()
    assert svg == draw().svg()
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "currentColor" in svg
    assert INK not in svg
    assert "prefers-color-scheme:dark" in svg
    assert not re.search(r"\d{4}-\d\d-\d\dT", svg)  # no date
    png = draw().png()
    assert png.startswith(b"\x89PNG")
    assert png == draw().png()


def test_bars_name_groups_series_and_the_papers_numbers():
    shown = words(PLOTS["bars"]().svg())
    for word in (*GROUPS, *SERIES, "the paper's numbers", "–"):
        assert shown.count(word) == 1
    plain = words(bars(GROUPS, {"Ours": SERIES["Ours"]}, WORDS).svg())
    assert "the paper's numbers" not in plain
    assert "–" not in plain


def test_the_heat_map_prints_every_number_row_by_row():
    shown = words(PLOTS["heat map"]().svg())
    numbers = [word for word in shown if re.fullmatch(r"\d+\.\d|–", word)]
    assert numbers == ["10.0", "–", "52.5", "7.0"]
    assert [word for word in shown if word in "abcd"] == ["c", "d", "a", "b"]


def test_curves_survive_histories_that_lack_something():
    history = [{"epoch": 1}, {"epoch": 2, "cross_entropy": 0.5}]
    assert "ours" in words(training_curves({"ours": history}, WORDS).svg())


def test_a_sweep_names_its_curves_and_says_where_nothing_is_measured():
    shown = words(PLOTS["sweep"]().svg())
    assert {"FGSM", "CIFAR-10", "standard"} <= set(shown)
    empty = Sweeps("CIFAR-10", (Sweep("PGD", 0.03, (Curve("ours", ()),)),))
    assert "not measured yet" in words(sweep([empty], WORDS).svg())
    assert sweep([empty, empty], WORDS).size[1] == 2 * sweep([empty], WORDS).size[1]


def intervals(figure, horizontal=False):
    """The ends of all error bars as they are drawn, in the axes' units."""
    bars = [each for axes in figure.axes for each in axes.containers]
    return [
        tuple(round(end, 6) for end in segment[:, 0 if horizontal else 1].tolist())
        for each in bars
        if isinstance(each, ErrorbarContainer)
        for segment in each.lines[2][0].get_segments()
    ]


def drawn_intervals(drawing, **more):
    with drawing.painted() as figure:
        return intervals(figure, **more)


def test_each_bar_and_point_has_its_own_interval_and_no_other():
    assert drawn_intervals(PLOTS["bars"](), horizontal=True) == [(88.0, 92.0), (18.0, 22.0)]
    assert drawn_intervals(PLOTS["sweep"]()) == [(88.0, 92.0), (40.0, 50.0)]
    squares = [[Square(52.5, interval=(48.1, 56.8))]]
    assert "48.1–56.8" in words(heat_map(["a"], ["b"], squares, WORDS).svg())


def test_the_papers_curve_has_the_colour_of_its_model_but_no_interval():
    published = Curve("ours in the paper", (Point(0.0, 90.45, None), Point(0.03, 27.2, None)), True)
    parts = [Sweeps("CIFAR-10", (Sweep("PGD", 0.03, (CURVES[0], published)),))]
    assert drawn_intervals(sweep(parts, WORDS)) == [(88.0, 92.0), (40.0, 50.0)]
    with sweep(parts, WORDS).painted() as figure:
        lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
        paper = lines["ours in the paper"]
        assert list(paper.get_ydata()) == [90.45, 27.2]
        assert paper.get_markerfacecolor() == "none"
        (measured,) = [c for axes in figure.axes for c in axes.containers]
        assert paper.get_color() == measured.lines[0].get_color()
