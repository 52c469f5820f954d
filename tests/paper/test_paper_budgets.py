"""Budgets that rows give: as printed on the paper's data set, in proportion on any other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.paper.tables import AttackRequest, published, published_numbers

WITH_OWN_BUDGETS = (5, 6, 7)


def budgets(number: int, dataset: str) -> list[AttackRequest]:
    return [row.attack for row in published(number).rows_for(dataset) if row.attack]


@pytest.mark.parametrize("number", WITH_OWN_BUDGETS)
@pytest.mark.parametrize("dataset", DATASETS)
def test_budgets_keep_their_proportion_to_the_standard_ones(number, dataset):
    asked, printed = dataset_spec(dataset), dataset_spec(published(number).datasets[0])
    for here, there in zip(budgets(number, dataset), budgets(number, printed.name), strict=True):
        assert (here.eps is None, here.c is None) == (here.name == "cw", here.name != "cw")
        if here.name == "cw":
            share = there.c / printed.carlini_wagner_c
            assert here.c == pytest.approx(share * asked.carlini_wagner_c, rel=1e-11)
        else:
            assert here.eps == pytest.approx(there.eps / printed.eps * asked.eps, rel=1e-11)


def test_the_papers_data_set_has_the_papers_budgets():
    epses = [0.02, 0.04, 0.01, 0.02, 0.01, 0.02, 0.01, 0.02]
    assert [attack.eps for attack in budgets(5, "cifar10") if attack.eps] == epses
    assert [attack.c for attack in budgets(6, "mnist") if attack.c] == [0.1, 1, 10]
    assert [attack.eps for attack in budgets(7, "cifar100")] == [0.005, 0.01] * 3


def test_labels_show_the_budgets_that_are_asked():
    names = [row.name for row in published(5).rows_for("digits")]
    assert names[:3] == ["Clean", "FGSM eps 0.0667", "FGSM eps 0.133"]
    assert names[7:10] == ["C&W c 0.1", "C&W c 1", "C&W c 10"]
    assert published(5).rows_for("cifar10")[1].name == "FGSM eps 0.02"
    assert published(6).rows_for("mnist")[9].name == "C&W c 10"


@pytest.mark.parametrize("number", published_numbers())
def test_names_stay_unique_and_positions_have_them(number):
    table = published(number)
    for dataset in DATASETS:
        rows = table.rows_for(dataset)
        assert len({row.name for row in rows}) == len(rows)
        positions = table.positions(dataset)
        assert [position.row for position in positions[:: len(table.columns)]] == list(rows)
        assert not any("{" in heading.name for heading in (*rows, *table.columns))


def test_rows_that_mean_the_same_budget_ask_for_the_same_attack():
    pgd = AttackRequest(name="pgd", eps=0.0333333333333)
    for number in WITH_OWN_BUDGETS:
        assert pgd in [position.cell.attack for position in published(number).positions("digits")]


def test_a_section_gives_no_budget_where_the_rows_do():
    for number in WITH_OWN_BUDGETS:
        for dataset in (published(number).datasets[0], "digits"):
            section = published(number).section(dataset)
            assert (section.eps, section.c) == (None, None)
    assert (published(3).section("digits").eps, published(3).section("digits").c) == (0.1, 10)


def test_no_budget_exceeds_the_pixel_range():
    wide = replace(DATASETS["digits"], eps=0.9)
    attack = AttackRequest(name="fgsm", eps=0.04)
    assert attack.in_proportion(DATASETS["cifar10"], wide).eps == 1.0


@pytest.mark.parametrize("scale", ["paper", "demo"])
@pytest.mark.parametrize("number", published_numbers())
def test_every_cell_asks_for_one_complete_attack(number, scale):
    for dataset in (*published(number).datasets, "digits"):
        for position in published(number).positions(dataset):
            attack = position.cell.attack_for(scale)
            if position.cell.attack is None:
                assert attack is None
                continue
            dump = attack.dump()
            said = {key: value for key, value in position.cell.attack if value is not None}
            assert said.items() <= dump.items()
            fields = type(attack).model_fields
            came_later = {key for key in fields if fields[key].exclude_if is not None}
            assert dump.keys() == fields.keys() - came_later
            assert dump == position.cell.attack_for(scale).dump()


def test_a_scale_changes_the_attack_only_where_it_says_so():
    cells = {position.column.name: position.cell for position in published(3).positions("mnist")}
    carlini_wagner, pgd = cells["White-box C&W"], cells["White-box PGD"]
    assert carlini_wagner.attack_for("paper").dump()["steps"] == 1000
    assert carlini_wagner.attack_for("demo").dump()["steps"] < 1000
    assert pgd.attack_for("demo").dump() == pgd.attack_for("paper").dump()
    assert pgd.attack_for("paper").dump()["steps"] == 10
