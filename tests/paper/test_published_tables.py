"""The paper's numbers, and the questions their positions ask."""

from __future__ import annotations

from collections import defaultdict

import pytest
from pydantic import ValidationError

from robustbench_pcl.data.catalogue import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.independent import independent_results
from robustbench_pcl.paper.table import (
    Heading,
    PaperTable,
    Remark,
    Section,
    published,
    published_numbers,
)
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.cell import Cell

TABLES = published_numbers()


def at(number: int, dataset: str, row: str, column: str):
    found = [
        position
        for position in published(number).positions(dataset)
        if (position.row.label, position.column.name) == (row, column)
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("number", "datasets", "rows", "columns"),
    [
        (3, ("mnist", "cifar10", "cifar100", "fmnist", "svhn"), 4, 11),
        (11, ("cifar10",), 8, 3),
        (12, ("cifar10",), 2, 5),
        (13, ("cifar10",), 4, 4),
    ],
)
def test_a_table_has_the_papers_shape_and_every_number(number, datasets, rows, columns):
    table = published(number)
    assert table.datasets == datasets
    assert (len(table.rows), len(table.columns)) == (rows, columns)
    for dataset in datasets:
        positions = table.positions(dataset)
        assert len(positions) == rows * columns
        assert all(position.published is not None for position in positions)


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
            assert low <= position.published <= high


def test_adversarial_accuracy_is_below_clean_accuracy():
    table = published(3)
    for dataset in table.datasets:
        for section_row in table.section(dataset).values:
            assert max(section_row[1:]) < section_row[0]


def test_tables_that_ask_the_same_agree_or_say_that_they_do_not():
    printed = defaultdict(list)
    for number in TABLES:
        for dataset in published(number).datasets:
            for position in published(number).positions(dataset):
                printed[position.cell.model_dump_json()].append((number, position))
    shared = [found for found in printed.values() if len(found) > 1]
    assert len(shared) >= 8  # None and Layer 3+4+5 of Table 11, two transfers of Table 13
    for found in shared:
        values = [position.published for _, position in found]
        if max(values) - min(values) > 0.05 + 1e-9:  # one table rounds to one decimal
            assert [number for number, _ in found] == [3, 13]
            assert values == [46.7, 49.1]
            assert all(position.remark for _, position in found)


def test_the_suspicious_number_is_remarked_upon():
    remark = at(3, "cifar10", "Ours + AdvTrain FGSM", "White-box C&W").remark
    assert "misprint" in remark
    assert "55.7" in remark


@pytest.mark.parametrize("number", TABLES)
def test_sections_use_the_catalogues_names_and_budgets(number):
    for section in published(number).sections:
        spec = dataset_spec(section.dataset)
        assert section.eps in (None, spec.eps)
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
    for position, original in zip(positions, table.positions("cifar10"), strict=True):
        assert position.published is None
        assert position.remark == ""
        assert position.cell.dataset == "digits"
        assert position.cell.target == original.cell.target
        assert position.cell.source == original.cell.source
        if position.cell.attack:
            name = "c" if position.cell.attack.name == "cw" else "eps"
            budget = {"eps": DATASETS["digits"].eps, "c": DATASETS["digits"].carlini_wagner_c}[name]
            assert position.cell.attack.parameters == {name: budget}


def test_unknown_tables_and_data_sets_are_named():
    with pytest.raises(UserError, match=r"no table 99.*Known: --table 3, 11, 12, 13"):
        published(99)
    with pytest.raises(UserError, match="no data set called 'cifar11'"):
        published(3).positions("cifar11")


def simple(**changes) -> PaperTable:
    """Attacks in rows, each with its own budget, as in the paper's Table 5."""
    fields = {
        "number": 5,
        "title": "Comparison",
        "caption": "",
        "columns": (
            Heading(label="Baseline", target="softmax"),
            Heading(label="Ours", target="ours"),
        ),
        "rows": (
            Heading(label="No attack"),
            Heading(label="0.02", group="FGSM", attack=Part(name="fgsm", parameters={"eps": 0.02})),
            Heading(label="0.04", group="FGSM", attack=Part(name="fgsm", parameters={"eps": 0.04})),
        ),
        "sections": (
            Section(dataset="cifar10", values=((90.8, 90.5), (36.5, 72.5), (None, 56.3))),
        ),
    }
    return PaperTable(**{**fields, **changes})


def test_attacks_may_stand_in_rows_with_their_own_budgets_and_gaps():
    positions = simple().positions("cifar10")
    assert [position.published for position in positions] == [90.8, 90.5, 36.5, 72.5, None, 56.3]
    assert positions[5].cell == Cell(
        dataset="cifar10",
        target="ours",
        source="ours",
        attack=Part(name="fgsm", parameters={"eps": 0.04}),
    )
    assert not simple().targets_in_rows
    assert not simple().is_matrix


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sections": (Section(dataset="cifar10", values=((1.0, 2.0),)),)}, "one value a position"),
        ({"rows": (Heading(label="x", target="ours"),) * 3}, "both give a target"),
        ({"columns": (Heading(label="a"), Heading(label="b"))}, "give no target"),
        ({"rows": (Heading(label="x"),) * 3}, "same name"),
        (
            {"remarks": (Remark(dataset="cifar10", row="x", column="Ours", text="odd"),)},
            "no position for the remark 'odd'",
        ),
    ],
)
def test_inconsistent_tables_are_refused(changes, complaint):
    with pytest.raises(ValidationError, match=complaint):
        simple(**changes)


def test_a_matrix_grows_and_keeps_its_numbers():
    table = published(13).extended(["ours", "softmax"])
    positions = {(p.cell.source, p.cell.target): p for p in table.positions("cifar10")}
    assert len(positions) == 36
    assert positions["vgg19", "ours-pgd"].published == 88.8
    assert positions["ours-pgd", "ours-pgd"].remark
    assert positions["softmax", "vgg19"].published is None
    assert positions["softmax", "ours"].cell.attack == Part(name="pgd", parameters={"eps": 0.03})
    with pytest.raises(ValueError, match="not a matrix"):
        published(3).extended(["ours"])


def test_the_independent_result_is_the_published_one():
    (result,) = independent_results()
    assert (result.clean, result.claimed, result.measured) == (89.16, 32.32, 0.28)
    assert result.eps == 8 / 255
