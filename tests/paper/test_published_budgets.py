"""Budgets that rows give: as printed on the paper's data set, in proportion on any other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from robustbench_pcl.data.catalogue import DATASETS, dataset_spec
from robustbench_pcl.paper.budgets import in_proportion
from robustbench_pcl.paper.table import published, published_numbers
from robustbench_pcl.specs.base import Part

WITH_OWN_BUDGETS = (5, 6, 7)


def budgets(number, dataset) -> list[tuple[str, float]]:
    """Each attacked row's attack and budget."""
    return [
        (row.attack.name, row.attack.parameters["c" if row.attack.name == "cw" else "eps"])
        for row in published(number).rows_for(dataset)
        if row.attack
    ]


@pytest.mark.parametrize("number", WITH_OWN_BUDGETS)
@pytest.mark.parametrize("dataset", DATASETS)
def test_budgets_keep_their_proportion_to_the_standard_ones(number, dataset):
    asked, printed = dataset_spec(dataset), dataset_spec(published(number).datasets[0])
    for (name, budget), (_, original) in zip(
        budgets(number, dataset), budgets(number, printed.name), strict=True
    ):
        if name == "cw":
            share = original / printed.carlini_wagner_c
            assert budget == pytest.approx(share * asked.carlini_wagner_c, rel=1e-11)
        else:
            assert budget == pytest.approx(original / printed.eps * asked.eps, rel=1e-11)


def test_the_papers_data_set_has_the_papers_budgets():
    epses = [0.02, 0.04, 0.01, 0.02, 0.01, 0.02, 0.01, 0.02]
    found = budgets(5, "cifar10")
    assert [budget for name, budget in found if name != "cw"] == epses
    assert [budget for name, budget in found if name == "cw"] == [0.001, 0.01, 0.1]
    epses = [0.1, 0.2, 0.1, 0.15, 0.1, 0.15, 0.1, 0.15]
    found = budgets(6, "mnist")
    assert [budget for name, budget in found if name != "cw"] == epses
    assert [budget for name, budget in found if name == "cw"] == [0.1, 1, 10]
    assert [budget for _, budget in budgets(7, "cifar100")] == [0.005, 0.01] * 3


def test_labels_show_the_budgets_that_are_asked():
    rows = published(5).rows_for("digits")
    assert [row.name for row in rows[:3]] == ["No attack", "FGSM eps = 0.0667", "FGSM eps = 0.133"]
    assert [row.brief for row in rows[:3]] == ["Clean", "FGSM 0.0667", "FGSM 0.133"]
    assert [row.brief for row in rows[7:10]] == ["C&W 0.1", "C&W 1", "C&W 10"]
    assert published(5).rows_for("cifar10")[1].name == "FGSM eps = 0.02"
    assert published(6).rows_for("mnist")[9].name == "C&W c = 10"


@pytest.mark.parametrize("number", published_numbers())
@pytest.mark.parametrize("dataset", DATASETS)
def test_names_stay_unique_and_positions_have_them(number, dataset):
    table = published(number)
    rows = table.rows_for(dataset)
    assert len({row.name for row in rows}) == len({row.brief for row in rows}) == len(rows)
    positions = table.positions(dataset)
    assert [position.row for position in positions[:: len(table.columns)]] == list(rows)
    assert not any("{" in heading.name + heading.brief for heading in (*rows, *table.columns))


def test_rows_that_mean_the_same_budget_share_their_question():
    row = {number: published(number).positions("digits") for number in (5, 6, 7)}
    asked = {
        number: {p.cell.attack.model_dump_json() for p in positions if p.cell.attack}
        for number, positions in row.items()
    }
    pgd = '{"name":"pgd","parameters":{"eps":0.0333333333333}}'
    assert all(pgd in attacks for attacks in asked.values())


def test_a_section_gives_no_budget_where_the_rows_do():
    for number in WITH_OWN_BUDGETS:
        for dataset in (published(number).datasets[0], "digits"):
            section = published(number).section(dataset)
            assert (section.eps, section.c) == (None, None)
    assert published(3).section("digits").eps == 0.1
    assert published(3).section("digits").c == 10


def test_no_budget_exceeds_the_pixel_range():
    attack = Part(name="fgsm", parameters={"eps": 0.04})
    wide = replace(DATASETS["digits"], eps=0.9)
    assert in_proportion(attack, DATASETS["cifar10"], wide).parameters == {"eps": 1.0}
