"""The page: everything in one file, in its order, escaped."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from fabricated import (
    ENVIRONMENT,
    make_answer,
    make_data,
    make_evidence,
    make_measurement,
    make_model,
    make_recipe,
    make_training,
)
from fabricated_embeddings import make_embedding
from reading import parsed

from robustbench_pcl.paper.figures import paper_figure
from robustbench_pcl.paper.tables import published, published_numbers
from robustbench_pcl.report import plots
from robustbench_pcl.report.figures import PageFigure
from robustbench_pcl.report.page import full_page, page
from robustbench_pcl.report.table import report_table


def measured(embeddings=()):
    """Every cell of every table on CIFAR-10."""
    answers = [
        make_answer(position.cell, 7 + index % 90, n=1000)
        for number in published_numbers()
        for index, position in enumerate(published(number).positions("cifar10"))
    ]
    return make_evidence(answers, embeddings)


@pytest.fixture(scope="module")
def text():
    return full_page(measured())


def test_the_page_is_whole_and_needs_nothing_from_outside(text):
    cells = parsed(text.removeprefix("<!DOCTYPE html>"))
    assert text.startswith("<!DOCTYPE html>")
    assert all(reference.startswith("#") for reference in cells.references)
    assert {reference[1:] for reference in cells.references} <= set(cells.ids)
    assert "@import" not in text
    assert {f"table-{number}" for number in (*published_numbers(), 1, 2, 10)} <= set(cells.ids)
    titles = ("White-box attacks on CIFAR-10", "Transfer on CIFAR-10", "Training on CIFAR-10")
    assert all(f"<h2>{title} <a" in text for title in titles)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    assert f"<td>{ENVIRONMENT.torch}</td>" in text
    assert "pclbench run --table 3 --dataset cifar10 --scale quick" in text


def test_the_page_is_the_same_to_the_byte(text):
    assert full_page(measured()) == text


def test_bars_and_heat_map_show_what_the_tables_show(text):
    bars, transfer = re.findall(r"<figure.*?</figure>", text, re.DOTALL)[:2]
    for word in ("Clean", "FGSM", "C&amp;W", "PGD", "Worst case", "Ours + PGD"):
        assert bars.count(f">{word}<") == 1
    rows = report_table(13, measured()).sections[0].rows[:4]  # without the worst case
    numbers = [f"{entry.measured:.1f}" for row in rows for entry in row.entries]
    assert re.findall(r">(\d+\.\d)<", transfer) == numbers


def test_the_papers_figures_stand_among_the_others(tmp_path):
    panels = paper_figure(6).panels
    stored = measured([make_embedding(tmp_path, panel, "cifar10", "quick") for panel in panels])
    text = full_page(stored)
    cells = parsed(text.removeprefix("<!DOCTYPE html>"))
    assert {reference[1:] for reference in cells.references} <= set(cells.ids)
    headings = re.findall(r"<h2>(.*?)(?: <a[^\n]*)?</h2>", text)
    starts = ("Summary", "The authors", "Table 3.", "White-box", "Figure 6.", "Table 1.")
    places = [
        next(place for place, words in enumerate(headings) if words.startswith(start))
        for start in starts
    ]
    assert places == sorted(places)
    assert "Figure 6." not in full_page(stored, [3])
    assert "pclbench run --figure 6 --dataset cifar10 --scale quick" in text


def test_a_page_with_many_trainings_shows_those_of_the_main_tables():
    names = ("softmax", "ours", "triplet", *(f"recipe-{index}" for index in range(6)))
    runs = [make_training(make_recipe(name)) for name in names]
    few = full_page(make_evidence(runs[1:]))
    assert ">recipe-5<" in few
    assert "Only the recipes" not in few
    many = full_page(make_evidence(runs))
    assert ">recipe-5<" not in many
    assert ">triplet<" in many
    assert "Only the recipes of Tables 3 and 9." in many
    assert ">triplet<" not in full_page(make_evidence(runs), seed=1)


def test_a_drawings_own_references_still_point_at_its_parts(text):
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    used = set(re.findall(r"url\(#([^)]+)\)", text))
    assert used
    assert used <= ids


def test_a_page_without_measurements_says_so_and_promises_nothing():
    text = full_page(make_evidence([]))
    parsed(text.removeprefix("<!DOCTYPE html>"))
    cells = sum(
        len(published(number).positions(name))
        for number in published_numbers()
        for name in published(number).datasets
    )
    assert f"0 of {cells}" in text
    assert "none yet" in text
    assert "published" not in text
    assert "67.7" not in text
    assert "<svg" not in text
    assert "Measured on</h2>" not in text


def test_a_page_may_hold_one_table():
    for number in (1, 11):
        text = full_page(measured(), [number])
        assert re.findall(r'id="table-(\d+)"', text) == [str(number)]
        assert "Figure 7" not in text


def test_intervals_are_shown_on_request(text):
    assert "5.6 to 8.4" not in re.sub(r'title="[^"]*"', "", text)
    shown = re.sub(r'title="[^"]*"', "", full_page(measured(), [3], interval=True))
    assert re.search(r"\d+\.\d to \d+\.\d", shown)


class Text(HTMLParser):
    """The text of a page, as a reader sees it."""

    def __init__(self):
        super().__init__()
        self.words = ""

    def handle_data(self, data):
        self.words += data


def test_what_others_wrote_is_shown_as_they_wrote_it():
    odd = "<script>alert('1')</script> & \"quoted\""
    record = make_measurement(make_model(), data=make_data(source=odd))
    evidence = make_evidence([record])
    drawing = plots.training_curves({"a<b": []}, plots.Words(f"title {odd}"))
    text = page(
        [report_table(3, evidence)],
        [PageFigure(f"title {odd}", drawing, f"caption {odd}", ())],
        [f"command {odd}"],
        evidence=evidence,
    )
    assert text.count("<script") == 1  # the page's own
    parsed(text.removeprefix("<!DOCTYPE html>"))
    reader = Text()
    reader.feed(text)
    for place in ("Images from", "title", "caption", "command"):
        assert f"{place} {odd}" in reader.words
    assert "a<b" in reader.words


def test_the_page_is_made_without_torch_where_no_table_describes_a_model():
    program = (
        "import sys, pathlib\n"
        "from robustbench_pcl.report.page import full_page\n"
        "from robustbench_pcl.report.results import load_evidence\n"
        "from robustbench_pcl.store.records import Paths\n"
        "assert full_page(load_evidence(Paths(pathlib.Path('nowhere'))), [3])\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
