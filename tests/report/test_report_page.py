"""The page and its figures."""

from __future__ import annotations

import re
from xml.etree import ElementTree

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
from robustbench_pcl.paper.table import published, published_numbers
from robustbench_pcl.report.figures.table_figures import (
    INK,
    attack_bars,
    training_curves,
    transfer_heat_map,
)
from robustbench_pcl.report.page.contents import full_page
from robustbench_pcl.report.page.document import Figure, render_page
from robustbench_pcl.report.tables.table import report_table


def section(number, dataset="cifar10", skip=()):
    answers = [
        make_answer(position.cell, 7 + 2 * index)
        for index, position in enumerate(published(number).positions(dataset))
        if index not in skip
    ]
    return report_table(number, make_evidence(answers), [dataset]).sections[0]


def words(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [text.strip() for text in root.itertext() if text.strip()]


FIGURES = {
    "bars": lambda: attack_bars(section(3, skip=(2,))),
    "bars without published": lambda: attack_bars(section(3, "digits")),
    "heat map": lambda: transfer_heat_map(section(13, skip=(2,))),
    "curves": lambda: training_curves(
        [make_training(make_recipe(f"recipe-{index}")) for index in range(8)]
    ),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_figures_are_repeatable_drawings_in_the_pages_colours(draw):
    svg = draw()
    assert svg == draw()
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "currentColor" in svg
    assert INK not in svg
    assert "prefers-color-scheme:dark" in svg
    assert not re.search(r"\d{4}-\d\d-\d\dT", svg)  # no date


def test_bars_name_attacks_recipes_and_the_papers_numbers():
    shown = words(FIGURES["bars"]())
    for word in (
        "No attack",
        "FGSM",
        "C&W",
        "PGD",
        "Worst case",
        "Ours + AdvTrain PGD",
        "the paper's numbers",
    ):
        assert shown.count(word) == 1
    assert "–" in shown
    assert "the paper's numbers" not in words(FIGURES["bars without published"]())


def test_the_heat_map_prints_every_number_row_by_row():
    shown = [word for word in words(FIGURES["heat map"]()) if re.fullmatch(r"\d+\.\d|–", word)]
    assert shown == ["–" if index == 2 else f"{7 + 2 * index:.1f}" for index in range(16)]


def test_curves_survive_histories_that_lack_something():
    record = make_training(history=[{"epoch": 1}, {"epoch": 2, "cross_entropy": 0.5}])
    assert "ours" in words(training_curves([record]))


def evidence():
    answers = [
        make_answer(position.cell, 7 + index % 90)
        for number in published_numbers()
        for index, position in enumerate(published(number).positions("cifar10"))
    ]
    return make_evidence(answers)


def test_the_page_is_whole_and_needs_nothing_from_outside():
    text = full_page(evidence(), [])
    cells = parsed(text.removeprefix("<!DOCTYPE html>"))
    assert text.startswith("<!DOCTYPE html>")
    assert all(reference.startswith("#") for reference in cells.references)
    assert {reference[1:] for reference in cells.references} <= set(cells.ids)
    assert "@import" not in text
    assert {f"table-{number}" for number in published_numbers()} <= set(cells.ids)
    titles = ("White-box attacks on CIFAR-10", "Transfer on CIFAR-10", "Training on CIFAR-10")
    assert all(f"<h2>{title}</h2>" in text for title in titles)
    assert {"table-1", "table-2", "table-10"} <= set(cells.ids)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    assert f"<td>{ENVIRONMENT.torch}</td>" in text
    assert "pclbench run --table 3 --dataset cifar10 --scale quick" in text


def test_the_papers_figures_stand_among_the_others(tmp_path):
    panels = paper_figure(6).panels
    embeddings = [make_embedding(tmp_path, panel, "cifar10", "quick") for panel in panels]
    text = full_page(evidence(), embeddings)
    cells = parsed(text.removeprefix("<!DOCTYPE html>"))
    assert {reference[1:] for reference in cells.references} <= set(cells.ids)
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    places = [
        next(place for place, words in enumerate(headings) if words.startswith(start))
        for start in ("Does the claim", "White-box attacks", "Figure 6.", "Table 3.", "Table 1.")
    ]
    assert places == sorted(places)
    assert "Figure 6." not in full_page(evidence(), embeddings, [3])
    assert "pclbench run --figure 6 --dataset cifar10 --scale quick" in text


def test_a_page_with_many_trainings_shows_those_of_the_main_tables():
    names = ("softmax", "ours", "triplet", *(f"recipe-{index}" for index in range(6)))
    runs = [make_training(make_recipe(name)) for name in names]
    few = full_page(make_evidence(runs[1:]), [])
    assert ">recipe-5<" in few
    assert "Only the recipes" not in few
    many = full_page(make_evidence(runs), [])
    assert ">recipe-5<" not in many
    assert ">triplet<" in many
    assert "Only the recipes of Tables 3 and 9." in many


def test_a_drawings_own_references_still_point_at_its_parts():
    text = full_page(evidence(), [])
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    used = set(re.findall(r"url\(#([^)]+)\)", text))
    assert used
    assert used <= ids


def test_a_page_without_measurements_says_so_and_keeps_the_papers_numbers():
    text = full_page(make_evidence([]), [])
    parsed(text.removeprefix("<!DOCTYPE html>"))
    cells = sum(
        len(published(number).positions(name))
        for number in published_numbers()
        for name in published(number).datasets
    )
    assert f"0 of {cells}" in text
    assert "none yet" in text
    assert "67.7" in text
    assert "<svg" not in text
    assert "Measured on</h2>" not in text


def test_a_page_may_hold_one_table():
    for number in (1, 11):
        text = full_page(evidence(), [], [number])
        assert re.findall(r'id="table-(\d+)"', text) == [str(number)]
        assert "Figure 7" not in text


def test_what_others_wrote_is_escaped():
    data = make_data(source="<script>alert(1)</script>", note='"&<b>')
    table = report_table(3, make_evidence([make_measurement(make_model(), data=data)]))
    text = render_page([table], [Figure("<i>", "<svg></svg>", "a < b & c")])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<h2>&lt;i&gt;</h2>" in text
    assert "a &lt; b &amp; c" in text
    parsed(text.removeprefix("<!DOCTYPE html>"))
