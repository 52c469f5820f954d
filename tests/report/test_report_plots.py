"""Plots of numbers: every number is where it belongs, the same on every run."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from robustbench_pcl.report.figure_sections import Curve, Point, Sweep
from robustbench_pcl.report.plots import INK, Bar, Square, bars, heat_map, sweep, training_curves

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
PLOTS = {
    "bars": lambda: bars(GROUPS, SERIES),
    "heat map": lambda: heat_map(["a", "b"], ["c", "d"], SQUARES),
    "curves": lambda: training_curves({f"recipe-{index}": HISTORY for index in range(8)}),
    "sweep": lambda: sweep([Sweep("CIFAR-10", 0.03, CURVES, "pclbench run --figure 7")]),
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
    plain = words(bars(GROUPS, {"Ours": SERIES["Ours"]}).svg())
    assert "the paper's numbers" not in plain
    assert "–" not in plain


def test_the_heat_map_prints_every_number_row_by_row():
    shown = words(PLOTS["heat map"]().svg())
    numbers = [word for word in shown if re.fullmatch(r"\d+\.\d|–", word)]
    assert numbers == ["10.0", "–", "52.5", "7.0"]
    assert [word for word in shown if word in "abcd"] == ["c", "d", "a", "b"]


def test_curves_survive_histories_that_lack_something():
    history = [{"epoch": 1}, {"epoch": 2, "cross_entropy": 0.5}]
    assert "ours" in words(training_curves({"ours": history}).svg())


def test_a_sweep_says_what_measures_what_is_missing():
    shown = words(PLOTS["sweep"]().svg())
    assert {"FGSM", "PGD", "CIFAR-10", "standard", "pclbench run --figure 7"} <= set(shown)
    empty = Sweep("CIFAR-10", 0.03, (Curve("FGSM", ()),))
    assert "not measured yet" in words(sweep([empty]).svg())
    assert sweep([empty, empty]).size[1] == 2 * sweep([empty]).size[1]
