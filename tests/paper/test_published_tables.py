"""The paper's numbers, and the questions their positions ask."""

from __future__ import annotations

import pytest

from robustbench_pcl.data.catalogue import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.independent import independent_results
from robustbench_pcl.paper.table import published, published_numbers
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.cell import Cell

TABLES = published_numbers()
# Sections whose eps is not their data set's standard one.
OWN_BUDGETS = {
    (8, "fmnist"): 0.1,
    (8, "svhn"): 0.02,
    (8, "cifar10"): 4 / 255,
    (8, "cifar100"): 4 / 255,
    (9, "cifar10"): 8 / 255,
    (9, "cifar100"): 8 / 255,
}


def at(number: int, dataset: str, row: str, column: str):
    found = [
        position
        for position in published(number).positions(dataset)
        if (position.row.name, position.column.name) == (row, column)
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("number", "datasets", "rows", "columns", "dashes"),
    [
        (3, ("mnist", "cifar10", "cifar100", "fmnist", "svhn"), 4, 11, 0),
        (4, ("cifar10", "fmnist"), 3, 9, 0),
        (5, ("cifar10",), 12, 9, 4),
        (6, ("mnist",), 12, 9, 9),
        (7, ("cifar100",), 7, 5, 0),
        (8, ("fmnist", "svhn", "cifar10", "cifar100"), 2, 4, 0),
        (9, ("cifar10", "cifar100"), 5, 5, 0),
        (11, ("cifar10",), 8, 3, 0),
        (12, ("cifar10",), 2, 5, 0),
        (13, ("cifar10",), 4, 4, 0),
    ],
)
def test_a_table_has_the_papers_shape_and_every_number(number, datasets, rows, columns, dashes):
    table = published(number)
    assert table.datasets == datasets
    assert (len(table.rows), len(table.columns)) == (rows, columns)
    for dataset in datasets:
        positions = table.positions(dataset)
        assert len(positions) == rows * columns
        assert sum(position.published is None for position in positions) == dashes


def test_every_table_with_numbers_is_stored():
    assert TABLES == (3, 4, 5, 6, 7, 8, 9, 11, 12, 13)  # 1, 2 and 10 are networks and settings


def test_dashes_stand_where_the_paper_prints_them():
    yu = [f"{attack} eps = {eps}" for attack in ("MIM", "PGD") for eps in (0.01, 0.02)]
    assert all(at(5, "cifar10", row, "Yu et al. [45]*").published is None for row in yu)
    yu = [f"{attack} eps = {eps}" for attack in ("MIM", "PGD") for eps in (0.1, 0.15)]
    assert all(at(6, "mnist", row, "Yu et al. [45]").published is None for row in yu)
    madry = [f"{attack} eps = {eps}" for attack in ("BIM", "MIM") for eps in (0.1, 0.15)]
    for row in (*madry, "C&W c = 10"):
        assert at(6, "mnist", row, "Madry et al. [17]*").published is None


@pytest.mark.parametrize(
    ("number", "dataset", "row", "column", "value"),
    [
        (3, "mnist", "Softmax", "No attack", 98.71),
        (3, "mnist", "Ours", "White-box PGD", 19.9),
        (3, "mnist", "Ours + AdvTrain PGD", "Black-box PGD", 80.8),
        (3, "cifar10", "Softmax", "White-box PGD", 0.01),
        (3, "cifar10", "Ours", "White-box FGSM", 67.7),
        (3, "cifar10", "Ours + AdvTrain FGSM", "White-box C&W", 5.7),
        (3, "cifar10", "Ours + AdvTrain PGD", "Black-box FGSM", 88.5),
        (3, "cifar100", "Softmax", "White-box MIM", 3.52),
        (3, "cifar100", "Ours + AdvTrain PGD", "White-box PGD", 36.1),
        (3, "fmnist", "Ours + AdvTrain FGSM", "Black-box MIM", 87.9),
        (3, "svhn", "Ours", "Black-box BIM", 73.1),
        (3, "svhn", "Ours + AdvTrain PGD", "Black-box PGD", 89.3),
        (4, "cifar10", "Ours", "Adaptive FGSM", 66.9),
        (4, "cifar10", "Ours_PGD*", "Conventional MIM", 49.3),
        (4, "fmnist", "Ours_FGSM*", "Adaptive PGD", 34.7),
        (5, "cifar10", "No attack", "Pang et al. [16]*", 90.6),
        (5, "cifar10", "FGSM eps = 0.02", "Yu et al. [45]*", 48.5),
        (5, "cifar10", "C&W c = 0.1", "Ours_f*", 55.7),
        (5, "cifar10", "PGD eps = 0.02", "Madry et al. [17]*", 48.5),
        (6, "mnist", "BIM eps = 0.15", "Ross et al. [33]", 32.1),
        (6, "mnist", "C&W c = 1", "Madry et al. [17]*", 93.4),
        (6, "mnist", "PGD eps = 0.1", "Baseline", 50.7),
        (7, "cifar100", "MIM eps = 0.005", "ADP [16]", 29.4),
        (7, "cifar100", "PGD eps = 0.01", "Ours_p*", 44.0),
        (8, "svhn", "Song et al. [46]", "MIM", 53.9),
        (8, "cifar100", "Ours", "FGSM", 49.1),
        (9, "cifar10", "FGSM", "Ours-Center [22]", 27.38),
        (9, "cifar100", "PGD", "Ours-PCL", 25.9),
        (11, "cifar10", "None", "FGSM", 21.4),
        (11, "cifar10", "Layer 4+5", "PGD", 20.7),
        (12, "cifar10", "Time per epoch (s)", "Prototype Conformity", 102.9),
        (12, "cifar10", "Number of epochs", "Cross-entropy", 164),
        (13, "cifar10", "VGG-19", "Target Ours", 88.8),
        (13, "cifar10", "Ours", "Target VGG-19", 50.31),
    ],
)
def test_numbers_stand_where_the_paper_prints_them(number, dataset, row, column, value):
    assert at(number, dataset, row, column).published == value


@pytest.mark.parametrize("number", TABLES)
def test_accuracies_are_per_cent_and_other_figures_positive(number):
    for section in published(number).sections:
        for position in published(number).positions(section.dataset):
            low, high = (0, 100) if position.cell.quantity == "accuracy" else (1, 1000)
            assert position.published is None or low <= position.published <= high


def test_the_suspicious_number_is_remarked_upon():
    remark = at(3, "cifar10", "Ours + AdvTrain FGSM", "White-box C&W").remark
    assert "misprint" in remark
    assert "55.7" in remark


@pytest.mark.parametrize("number", TABLES)
def test_sections_use_the_catalogues_names_and_budgets(number):
    for section in published(number).sections:
        spec = dataset_spec(section.dataset)
        eps = OWN_BUDGETS.get((number, section.dataset), spec.eps)
        assert section.eps in (None, eps)
        assert section.c in (None, spec.carlini_wagner_c)


def test_positions_ask_the_right_questions():
    ours = {"dataset": "cifar10", "target": "ours"}
    pgd = Part(name="pgd", parameters={"eps": 0.03})
    assert at(3, "cifar10", "Ours", "No attack").cell == Cell(**ours)
    assert at(3, "cifar10", "Ours", "White-box PGD").cell == Cell(**ours, source="ours", attack=pgd)
    assert at(3, "cifar10", "Ours", "Black-box PGD").cell == Cell(
        **ours, source="vgg19", attack=pgd
    )
    assert at(3, "mnist", "Softmax", "White-box C&W").cell == Cell(
        dataset="mnist",
        target="softmax",
        source="softmax",
        attack=Part(name="cw", parameters={"c": 10}),
    )
    joint = Part(name="pgd", parameters={"loss": "joint", "eps": 0.03})
    assert at(4, "cifar10", "Ours", "Adaptive PGD").cell == Cell(
        **ours, source="ours", attack=joint
    )
    assert at(4, "cifar10", "Ours", "Conventional PGD").cell.attack == pgd
    assert at(5, "cifar10", "FGSM eps = 0.04", "Yu et al. [45]*").cell == Cell(
        dataset="cifar10",
        target="yu-fgsm",
        source="yu-fgsm",
        attack=Part(name="fgsm", parameters={"eps": 0.04}),
    )
    assert at(9, "cifar10", "PGD", "Ours-PCL").cell.attack == pgd.merged({"eps": 8 / 255})
    assert at(11, "cifar10", "Layer 3+4+5", "PGD").cell == Cell(**ours, source="ours", attack=pgd)
    assert at(12, "cifar10", "Number of epochs", "Prototype Conformity").cell == Cell(
        **ours, quantity="epochs"
    )
    assert at(13, "cifar10", "VGG-19", "Target Ours").cell == Cell(
        dataset="cifar10", target="ours-pgd", source="vgg19", attack=pgd
    )


@pytest.mark.parametrize("number", TABLES)
def test_another_data_set_gets_the_same_questions_with_its_own_budgets(number):
    table = published(number)
    positions = table.positions("digits")
    assert len(positions) == len(table.rows) * len(table.columns)
    for position, original in zip(positions, table.positions(table.datasets[0]), strict=True):
        assert position.published is None
        assert position.remark == ""
        assert position.cell.dataset == "digits"
        assert position.cell.target == original.cell.target
        assert position.cell.source == original.cell.source
        if position.cell.attack:
            name = "c" if position.cell.attack.name == "cw" else "eps"
            assert position.cell.attack.name == original.cell.attack.name
            assert position.cell.attack.parameters.keys() == original.cell.attack.parameters.keys()
            if position.row.attack is None or name not in position.row.attack.parameters:
                digits = DATASETS["digits"]
                budget = {"eps": digits.eps, "c": digits.carlini_wagner_c}[name]
                assert position.cell.attack.parameters[name] == budget


def test_unknown_tables_and_data_sets_are_named():
    with pytest.raises(
        UserError, match=r"no table 99.*Known: --table 3, 4, 5, 6, 7, 8, 9, 11, 12, 13"
    ):
        published(99)
    with pytest.raises(UserError, match="no data set called 'cifar11'"):
        published(3).positions("cifar11")


def test_the_independent_result_is_the_published_one():
    (result,) = independent_results()
    assert (result.clean, result.claimed, result.measured) == (89.16, 32.32, 0.28)
    assert result.eps == 8 / 255
