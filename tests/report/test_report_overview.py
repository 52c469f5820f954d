"""The overview: how much of each part of the paper is measured, and what measures the rest."""

from __future__ import annotations

from fabricated import make_evidence, make_measurement, make_model
from fabricated_embeddings import make_embedding

from robustbench_pcl.paper.figures import FIGURES
from robustbench_pcl.report.text import overview, overview_text


def clean(dataset: str):
    return make_measurement(make_model("ours", dataset=dataset))


def test_the_overview_counts_every_part_of_the_paper_and_data_set(tmp_path):
    panel = make_embedding(tmp_path, FIGURES[5].panels[0])
    lines = overview(make_evidence([clean("cifar10"), clean("digits")], [panel]))
    counts = {
        (line["kind"], line["number"], line["dataset"]): (
            line["measured_count"],
            line["missing_count"],
        )
        for line in lines
    }
    assert counts["table", 3, "cifar10"] == (1, 43)
    assert counts["table", 3, "digits"] == (1, 43)
    assert counts["table", 3, "mnist"] == (0, 44)
    assert counts["table", 11, "cifar10"] == (1, 23)
    assert ("table", 12, "digits") not in counts
    assert counts["figure", 5, "svhn"] == (0, 4)
    assert counts["figure", 5, "digits"] == (1, 3)
    assert counts["figure", 7, "cifar10"] == (1, 30)
    assert ("figure", 4, "digits") not in counts
    tables = dict.fromkeys(line["number"] for line in lines if line["kind"] == "table")
    assert list(tables) == list(range(1, 14))


def test_the_overview_names_the_commands_in_eighty_columns():
    text = overview_text(overview(make_evidence([clean("cifar10")])))
    assert "CIFAR-10  1 of 44   pclbench run --table 3 --dataset cifar10 --scale quick" in text
    assert "Table 2. Attacks\n  printed from the code\nTable 3." in text
    assert "\nFigure 7. " in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_overview_of_one_data_set_has_it_in_every_part():
    lines = overview(make_evidence([clean("cifar10")]), ["svhn"])
    assert {line["dataset"] for line in lines} == {None, "svhn"}
    assert sum(line["kind"] == "figure" for line in lines) == len(FIGURES)
