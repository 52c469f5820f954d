"""Drawings: dots, regions and numbers are where they belong, the same on every run."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from fabricated_embeddings import make_layout, with_regions
from PIL import Image

from robustbench_pcl.report.drawing import COLOURS, DPI, INK, WIDTH, Drawing
from robustbench_pcl.report.figure_sections import Block, Plot
from robustbench_pcl.report.plots import Words
from robustbench_pcl.report.scatter import (
    CLASS_COLOURS,
    REACH,
    RING,
    Window,
    class_regions,
    dots,
    number_places,
    scatter,
    window_of,
)

DIGITS = tuple("0123456789")
ALL = tuple(range(10))
UNIT = Window((0.0, 1.0), (0.0, 1.0))


WORDS = Words("Figure 5", "Features.", "Digits, demo scale, n = 60 images.")


def drawn(*plots, classes=ALL, names=DIGITS):
    return scatter([Block("Digits", classes, names, plots)], WORDS)


def words(svg):
    return [text.strip() for text in ElementTree.fromstring(svg).itertext() if text.strip()]


def test_drawings_are_repeatable_and_in_the_pages_colours():
    plot = Plot("Ours", with_regions(make_layout()))
    svg = drawn(plot).svg()
    assert svg == drawn(plot).svg()
    assert "currentColor" in svg
    assert INK not in svg
    assert not re.search(r"\d{4}-\d\d-\d\dT", svg)
    png = drawn(plot).png()
    assert png == drawn(plot).png()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.width == WIDTH * DPI


def test_every_point_is_a_few_bytes():
    count = 2000
    few, many = (len(drawn(Plot("Ours", make_layout(n=n, wrong=0))).svg()) for n in (200, count))
    assert (many - few) / (count - 200) < 16
    svg = drawn(Plot("Ours", make_layout(n=200, wrong=0))).svg()
    assert len(re.findall(r"M[\d.]+ [\d.]+(?:h0|L)", svg)) >= 200


def test_a_ring_where_another_class_is_given():
    def rings(wrong):
        svg = drawn(Plot("Ours", make_layout(wrong=wrong))).svg()
        paths = re.findall(rf'd="([^"]*)"[^>]*style="fill: none; stroke: {RING}[^>]*round"', svg)
        return sum(path.count("M") for path in paths)

    assert rings(6) - rings(0) == 6


def test_dots_are_where_the_points_are():
    def paint(figure):
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        dots(axes, np.array([[0.25, 0.75], [0.75, 0.25]]), "#ff0000", 8)
        dots(axes, np.empty((0, 2)), "#0000ff", 8)

    picture = Image.open(io.BytesIO(Drawing(paint, (2, 2)).png())).convert("RGB")
    assert picture.getpixel((75, 75)) == (255, 0, 0)
    assert picture.getpixel((225, 225)) == (255, 0, 0)
    assert picture.getpixel((75, 225)) == (255, 255, 255)
    assert (0, 0, 255) not in {colour for _, colour in picture.getcolors(2**24)}


def test_colours_can_be_told_apart():
    assert len(set(CLASS_COLOURS)) == 10
    assert len(set(COLOURS)) == 6


def test_a_window_is_square_and_holds_all_points():
    points = np.array([[0.0, 0.0], [4.0, 1.0]])
    (left, right), (low, high) = window_of(points)
    assert right - left == pytest.approx(high - low)
    assert left < 0
    assert right > 4
    assert low < 0
    assert high > 1
    (left, right), _ = window_of(np.zeros((3, 2)))
    assert left < 0 < right


def inside(place, corners):
    """Whether a point is in a convex polygon, its corners in either order."""
    steps = np.roll(corners, -1, axis=0) - corners
    away = place - corners
    turns = steps[:, 0] * away[:, 1] - steps[:, 1] * away[:, 0]
    return (turns >= 0).all() or (turns <= 0).all()


def test_regions_are_where_the_class_has_the_largest_logit():
    random = np.random.default_rng(0)
    head = random.normal(size=(6, 3))
    window = Window((-2.0, 2.0), (-2.0, 2.0))
    regions = class_regions(head, window)
    for place in random.uniform(-2, 2, size=(300, 2)):
        logits = head @ np.append(place, 1)
        best, second = np.sort(logits)[[-1, -2]]
        if best - second > 1e-3:
            found = [number for number, corners in regions.items() if inside(place, corners)]
            assert found == [logits.argmax()]
    assert sum(map(area, regions.values())) == pytest.approx(16)


def area(corners):
    x, y = corners.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_a_class_that_is_never_given_has_no_region():
    head = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, -9]])
    assert set(class_regions(head, Window((0.5, 1.5), (0.0, 1.0)))) == {0}
    assert set(class_regions(head, Window((-1.0, 1.0), (-1.0, 1.0)))) == {0, 1}


def test_numbers_stand_beside_their_points_and_on_no_other():
    random = np.random.default_rng(0)
    centres = random.uniform(0.2, 0.8, size=(8, 2))
    points = (centres[:, None] + random.normal(size=(8, 30, 2)) * 0.01).reshape(-1, 2)
    places = number_places(dict(enumerate(centres)), points, UNIT)
    spots = np.array([places[number] for number in range(8)])
    apart = np.abs(spots[:, None] - spots[None]).max(axis=2) + np.eye(8)
    assert apart.min() >= 2 * REACH
    assert (np.abs(spots - 0.5) < 0.5 - REACH).all()
    assert (np.linalg.norm(spots - centres, axis=1) < 0.25).all()
    hidden = (np.abs(points[:, None] - spots[None]).max(axis=2) < REACH).any(axis=1)
    assert hidden.mean() < 0.1


def test_a_number_stays_where_it_may():
    places = number_places({0: np.array([0.5, 0.5])}, np.full((50, 2), 0.5), UNIT, right_half)
    assert places[0][0] > 0.5
    assert places[0].tolist() != [0.5, 0.5]
    crowded = {number: np.array([0.5, 0.5]) for number in range(300)}
    assert len(number_places(crowded, np.empty((0, 2)), UNIT)) == 300  # none is left out


def right_half(_number, place):
    return place[0] > 0.5


def test_a_legend_only_where_numbers_do_not_say_it():
    plot = Plot("Ours", make_layout())
    assert "0 airplane" not in words(drawn(plot).svg())
    named = drawn(plot, names=("airplane", *DIGITS[1:]))
    assert "0 airplane" in words(named.svg())
    assert named.size[1] > drawn(plot).size[1]


def test_classes_are_numbered_by_their_place():
    classes = (3, 14, 15, 92)
    layout = with_regions(make_layout(classes, known=100), known=100)
    svg = drawn(Plot("Ours", layout), classes=classes, names=("a", "b", "c", "d")).svg()
    assert {"0 a", "1 b", "2 c", "3 d"} <= set(words(svg))
    used = {colour for colour in CLASS_COLOURS if f"stroke: {colour}" in svg}
    assert used >= set(CLASS_COLOURS[:4])
    assert not used & set(CLASS_COLOURS[4:])


def test_what_is_missing_says_so():
    svg = drawn(Plot("Layer 1", None), Plot("Layer 3", make_layout())).svg()
    assert words(svg).count("not stored yet") == 1


def test_several_data_sets_are_below_one_another():
    block = Block("Digits", ALL, DIGITS, tuple(Plot(f"Layer {n}", None) for n in (1, 3, 4, 5)))
    one, two = scatter([block], WORDS).size, scatter([block, block], WORDS).size
    assert two[0] == one[0]
    assert two[1] == pytest.approx(2 * one[1])
