"""All pictures: nothing overlaps, a legend lies on nothing, everybody can read them."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from fabricated import make_attack, make_certificate, make_diagnosis, make_evidence, make_model
from fabricated_embeddings import make_layout, with_regions
from matplotlib.backends.backend_agg import FigureCanvasAgg
from test_report_diagnoses import CHECKS, LOSSES, MARGINS
from test_report_figures import sweep_records
from test_report_trajectory import records as trainings

from robustbench_pcl.report.certificate_figure import certificate_figure
from robustbench_pcl.report.certified import two_sided
from robustbench_pcl.report.diagnosis_figure import diagnosis_figure
from robustbench_pcl.report.drawing import COLOURS, SMALL, WIDTH, Drawing, contrast, readable_on
from robustbench_pcl.report.figure_sections import Block, Plot
from robustbench_pcl.report.figures import report_figure
from robustbench_pcl.report.plots import (
    Bar,
    Square,
    Words,
    bars,
    heat_map,
    sweep,
    training_curves,
)
from robustbench_pcl.report.scatter import CLASS_COLOURS, scatter
from robustbench_pcl.report.sweeps import Curve, Point, Sweep, Sweeps
from robustbench_pcl.report.trajectory import trajectory_figure

NOTE = "CIFAR-10 (eps = 0.03, c = 0.1), quick scale, n = 500 images; 95 % Wilson intervals. " * 2
WORDS = Words("A title", "What is seen & <how>.", NOTE)
LONG = [f"a-recipe-with-a-very-long-name-{number}" for number in range(6)]
ENDS = Bar(0.0, (0.0, 0.8), 100.0), Bar(100.0, (99.2, 100.0), 0.0), Bar(None)
HISTORY = [
    {"epoch": epoch, "cross_entropy": 20 / epoch, "training_accuracy": 1 - 0.8 / epoch}
    for epoch in range(1, 301)
]
OURS = make_model("ours")
PAGES = ("#ffffff", "#fbfaf7", "#1b1f24", "#14171b")
"""What lies behind a figure on the page, in light and in dark."""


def curves(names):
    """From 100 to 0 per cent, for each name."""
    ends = Point(0.0, 100.0, (99.2, 100.0)), Point(0.3, 0.0, (0.0, 0.8))
    return tuple(Curve(name, ends) for name in names)


def long_sweep():
    plots = tuple(
        Sweep(f"an attack with a long name {number}", 0.001 * number, curves(LONG))
        for number in range(5)
    )
    return sweep([Sweeps(f"{LONG[0]} and {LONG[1]} on a data set", plots)] * 2, WORDS)


def features():
    names = tuple(f"aquarium_fish {number}" for number in range(10))
    plot = Plot("A layer with a name: 100 % [99.9-100.0]", with_regions(make_layout()))
    return scatter([Block("CIFAR-100", tuple(range(10)), names, (plot, plot, plot))], WORDS)


def figure_7():
    found = [*sweep_records(name="ours-pgd"), *sweep_records(name="softmax")]
    return report_figure(7, make_evidence(found), models=["ours-pgd"]).drawing


def diagnosis():
    checks = (*CHECKS, MARGINS, LOSSES)
    return diagnosis_figure(make_diagnosis(OURS, make_attack(), checks=checks)).drawing


def certificates():
    radii = [(0.06, None), (0.03, 0.05), (0.0, 0.05), (0.01, 0.03)]
    names = [OURS, *(make_model(name) for name in LONG[:2])]
    return certificate_figure([two_sided(make_certificate(each, radii)) for each in names]).drawing


DRAWINGS = {
    "one bar": lambda: bars(["PGD"], {"ours": [Bar(50.0, (45.6, 54.4))]}, WORDS),
    "12 groups of 6": lambda: bars(
        [f"An attack {number}" for number in range(12)],
        dict.fromkeys(LONG, ENDS * 4),
        WORDS,
    ),
    "36 squares": lambda: heat_map(
        LONG, LONG, [[Square(100.0, interval=(99.2, 100.0))] * 6] * 6, WORDS
    ),
    "six trainings": lambda: training_curves(dict.fromkeys(LONG, HISTORY), WORDS),
    "one sweep": lambda: sweep([Sweeps("ours", (Sweep("", 0.3, curves(["PGD"])),))], WORDS),
    "long sweeps": long_sweep,
    "Figure 7": figure_7,
    "features": features,
    "a training's steps": lambda: (
        trajectory_figure(make_evidence(trainings()), ["ours-10"]).drawing
    ),
    "a diagnosis": diagnosis,
    "three certificates": certificates,
}


@pytest.fixture(scope="module", params=DRAWINGS)
def drawing(request):
    return DRAWINGS[request.param]()


@pytest.fixture(scope="module")
def svg(drawing):
    return drawing.svg()


def shown_texts(axes):
    """An axes' words at its border, and those inside it, without ticks that are not seen."""
    border = [axes.title, axes.xaxis.label, axes.yaxis.label]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        edge = 1e-9 * (high - low)
        border += [
            tick.label1
            for tick in axis.get_major_ticks()
            if low - edge <= tick.get_loc() <= high + edge and tick.label1.get_visible()
        ]
    return border, list(axes.texts)


def parts(figure):
    yield figure
    for inner in figure.subfigs:
        yield from parts(inner)


def test_nothing_overlaps(drawing):
    """Measured by matplotlib's renderer: words, legends and plots."""
    with drawing.painted() as figure:
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        plots = [axes.get_window_extent(renderer) for axes in figure.axes]
        words, legends = [], []
        for axes in figure.axes:
            border, inside = shown_texts(axes)
            words += [(text, True) for text in border] + [(text, False) for text in inside]
            assert axes.get_legend() is None
        for part in parts(figure):
            words += [(text, True) for text in part.texts]
            for legend in part.legends:
                legends.append(legend.get_window_extent(renderer))
                words += [(text, True) for text in legend.get_texts()]
        boxes = [
            (text.get_text(), text.get_window_extent(renderer), outside)
            for text, outside in words
            if text.get_text().strip()
        ]
    whole = figure.bbox.padded(1)
    for text, box, outside in boxes:
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1, f"{text!r} leaves the figure"
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1, f"{text!r} leaves the figure"
        assert not outside or not any(touches(box, plot) for plot in plots), f"{text!r} on a plot"
    for (one, a, _), (other, b, _) in itertools.combinations(boxes, 2):
        assert not touches(a, b), f"{one!r} on {other!r}"
    for legend in legends:
        assert not any(touches(legend, plot) for plot in plots), "a legend on a plot"


def touches(one, other):
    """Whether two boxes share more than a pixel."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width > 1 and height > 1


def test_the_check_for_overlaps_can_fail():
    def paint(figure):
        figure.text(0.5, 0.5, "one")
        figure.text(0.51, 0.5, "two")

    with pytest.raises(AssertionError, match="'one' on 'two'"):
        test_nothing_overlaps(Drawing(paint, (2, 2)))


def test_a_screen_reader_hears_title_and_description(drawing, svg):
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    ids = root.get("aria-labelledby").split()
    named = {each.get("id"): each for each in root.iter() if each.get("id")}
    assert [named[each].tag.rpartition("}")[2] for each in ids] == ["title", "desc"]
    assert [named[each].text for each in ids] == [drawing.title, drawing.description]
    assert drawing.title
    assert drawing.description.endswith(".")


def test_data_set_scale_and_n_are_in_the_picture(drawing, svg):
    said = " ".join("".join(ElementTree.fromstring(svg).itertext()).split())
    note = " ".join(drawing.note.split())
    assert note in said
    assert re.search(r"(quick|demo|paper) scale.*n = [\d,]+ images", note)


def test_ids_are_the_drawings_own():
    def ids(text):
        return re.findall(r'\bid="([^"]*)"', text)

    drawing = DRAWINGS["a diagnosis"]()
    one, other = drawing.svg(), drawing.svg("f2-")
    assert len(set(ids(one))) == len(ids(one))
    assert ids(other) == [f"f2-{name}" for name in ids(one)]
    used = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', other)
    assert {one or two for one, two in used} <= set(ids(other))


def test_words_are_text_that_a_phone_shows_readably(drawing, svg):
    sizes = {float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)}
    assert min(sizes) >= SMALL
    assert drawing.size[0] <= WIDTH or ">target<" in svg  # a matrix takes what its columns need
    assert "font-family" not in svg.partition("</style>")[2]


def test_an_svg_is_the_same_every_time(drawing, svg):
    assert drawing.svg() == svg


def test_a_pdf_is_the_same_every_time_has_its_fonts_and_is_drawn_in_lines():
    drawing = DRAWINGS["a diagnosis"]()
    pdf = drawing.pdf()
    assert pdf.startswith(b"%PDF")
    assert drawing.pdf() == pdf
    assert b"/FontFile2" in pdf
    assert b"/Subtype /Image" not in pdf
    assert b"CreationDate" not in pdf


def test_lines_and_bars_have_colours_that_are_seen_in_light_and_in_dark(request, svg):
    """Hatches are white; panels of points are white, and squares are read by their words."""
    if not re.search("features|square", request.node.name):
        assert set(re.findall(r"#[0-9a-f]{6}(?=[;\"])", svg)) <= {*COLOURS, "#ffffff"}


@pytest.mark.parametrize("page", PAGES)
def test_colours_have_three_to_one_on_the_page(page):
    assert min(contrast(colour, page) for colour in COLOURS) >= 3


def test_points_have_three_to_one_on_their_own_shade():
    for colour in CLASS_COLOURS:
        channels = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        shade = "#" + "".join(f"{round(0.22 * each + 0.78 * 255):02x}" for each in channels)
        assert contrast(colour, "#ffffff") >= 3
        assert contrast(colour, shade) >= 3
        assert contrast(readable_on(colour), colour) >= 4.5


def test_panels_of_points_are_white_in_the_dark_too():
    svg = features().svg()
    panels = re.findall(r'<g id="patch_\d+">\s*<path d="[^"]*" style="fill: #ffffff', svg)
    assert len(panels) == 3


def test_contrast_is_wcags():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast("#ffffff", "#ffffff") == 1
