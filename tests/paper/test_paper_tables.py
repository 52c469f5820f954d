"""The paper's numbers, and the questions their positions ask."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.independent import independent_results
from robustbench_pcl.paper.tables import (
    AttackRequest,
    Cell,
    Heading,
    PaperTable,
    Position,
    Remark,
    Section,
    published,
    published_numbers,
)
from robustbench_pcl.recipes.load import load_recipe

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
PGD = AttackRequest(name="pgd", eps=0.03)


def at(number: int, dataset: str, row: str, column: str) -> Position:
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
    yu = [f"{attack} eps {eps}" for attack in ("MIM", "PGD") for eps in (0.01, 0.02)]
    assert all(at(5, "cifar10", row, "Yu [45]*").published is None for row in yu)
    yu = [f"{attack} eps {eps}" for attack in ("MIM", "PGD") for eps in (0.1, 0.15)]
    assert all(at(6, "mnist", row, "Yu [45]").published is None for row in yu)
    madry = [f"{attack} eps {eps}" for attack in ("BIM", "MIM") for eps in (0.1, 0.15)]
    for row in (*madry, "C&W c 10"):
        assert at(6, "mnist", row, "Madry [17]*").published is None


@pytest.mark.parametrize(
    ("number", "dataset", "row", "column", "value"),
    [
        (3, "cifar10", "Ours + FGSM", "White-box C&W", 5.7),
        (3, "svhn", "Ours + PGD", "Black-box PGD", 89.3),
        (4, "cifar10", "Ours + PGD", "Conventional MIM", 49.3),
        (4, "fmnist", "Ours + FGSM", "Adaptive PGD", 34.7),
        (5, "cifar10", "FGSM eps 0.02", "Yu [45]*", 48.5),
        (6, "mnist", "BIM eps 0.15", "Ross [33]", 32.1),
        (7, "cifar100", "MIM eps 0.005", "ADP [16]", 29.4),
        (8, "cifar100", "Ours + PGD", "FGSM", 49.1),
        (9, "cifar10", "FGSM", "Center [22]", 27.38),
        (11, "cifar10", "Layer 4+5", "PGD", 20.7),
        (12, "cifar10", "Epochs", "Softmax", 164),
        (13, "cifar10", "VGG-19", "Target Ours + PGD", 88.8),
    ],
)
def test_numbers_stand_where_the_paper_prints_them(number, dataset, row, column, value):
    assert at(number, dataset, row, column).published == value


def test_one_recipe_has_one_name_in_all_tables():
    """But where a table is about layers, which are what its rows are called."""
    names: dict[str, set[str]] = {}
    for number in set(TABLES) - {11}:
        table = published(number)
        for heading in (*table.rows, *table.columns):
            for recipe in {heading.target, heading.source} - {None}:
                if heading.attack is None or table.is_matrix:
                    names.setdefault(recipe, set()).add(heading.label)
    assert {recipe: labels for recipe, labels in names.items() if len(labels) > 1} == {
        # The asterisk, where others in the same table are not adversarially trained.
        "madry": {"Madry [17]", "Madry [17]*"},
    }


def test_clean_accuracy_has_one_name():
    for number in TABLES:
        for position in published(number).positions("digits"):
            clean = position.cell.attack is None and position.cell.quantity == "accuracy"
            assert clean == ("Clean" in (position.row.label, position.column.label))


@pytest.mark.parametrize("number", TABLES)
def test_accuracies_are_per_cent_and_other_figures_positive(number):
    for section in published(number).sections:
        for position in published(number).positions(section.dataset):
            low, high = (0, 100) if position.cell.quantity == "accuracy" else (1, 1000)
            assert position.published is None or low <= position.published <= high


def test_the_suspicious_number_is_remarked_upon():
    remark = at(3, "cifar10", "Ours + FGSM", "White-box C&W").remark
    assert "misprint" in remark
    assert "55.7" in remark


@pytest.mark.parametrize("number", TABLES)
def test_sections_use_the_data_sets_names_and_budgets(number):
    for section in published(number).sections:
        spec = dataset_spec(section.dataset)
        assert section.eps in (None, OWN_BUDGETS.get((number, section.dataset), spec.eps))
        assert section.c in (None, spec.carlini_wagner_c)


def test_positions_ask_the_right_questions():
    ours = Cell(dataset="cifar10", target="ours")
    white_box = ours.changed(source="ours", attack=PGD)
    assert at(3, "cifar10", "Ours", "Clean").cell == ours
    assert at(3, "cifar10", "Ours", "White-box PGD").cell == white_box
    assert at(3, "cifar10", "Ours", "Black-box PGD").cell == white_box.changed(source="vgg19")
    assert at(3, "mnist", "Softmax", "White-box C&W").cell == Cell(
        dataset="mnist",
        target="softmax",
        source="softmax",
        attack=AttackRequest(name="cw", c=10),
    )
    adaptive = at(4, "cifar10", "Ours", "Adaptive PGD").cell
    assert adaptive == white_box.changed(attack=PGD.changed(loss="joint"))
    assert at(4, "cifar10", "Ours", "Conventional PGD").cell == white_box
    assert at(5, "cifar10", "FGSM eps 0.04", "Yu [45]*").cell == Cell(
        dataset="cifar10",
        target="yu-fgsm",
        source="yu-fgsm",
        attack=AttackRequest(name="fgsm", eps=0.04),
    )
    assert at(9, "cifar10", "PGD", "Ours").cell.attack == PGD.changed(eps=8 / 255)
    assert at(11, "cifar10", "Layer 3+4+5", "PGD").cell == white_box
    assert at(12, "cifar10", "Epochs", "Ours").cell == ours.changed(quantity="epochs")
    transfer = white_box.changed(target="ours-pgd", source="vgg19")
    assert at(13, "cifar10", "VGG-19", "Target Ours + PGD").cell == transfer
    assert white_box.white_box
    assert not transfer.white_box
    assert not ours.white_box


@pytest.mark.parametrize("number", TABLES)
def test_another_data_set_gets_the_same_questions_with_its_own_budgets(number):
    table, digits = published(number), DATASETS["digits"]
    positions = table.positions("digits")
    for position, original in zip(positions, table.positions(table.datasets[0]), strict=True):
        assert (position.published, position.remark) == (None, "")
        same = {"dataset": "digits"}
        if original.cell.attack:
            asked = position.cell.attack
            same["attack"] = original.cell.attack.changed(eps=asked.eps, c=asked.c)
            if position.row.attack is None or not position.row.attack.has_budget:
                standard = (None, digits.carlini_wagner_c), (digits.eps, None)
                assert (asked.eps, asked.c) == standard[asked.name != "cw"]
        assert position.cell == original.cell.changed(**same)


@pytest.mark.parametrize("number", TABLES)
def test_every_model_of_a_table_is_a_recipe(number):
    table = published(number)
    for dataset in (*table.datasets, "digits"):
        cells = [position.cell for position in table.positions(dataset)]
        names = {name for cell in cells for name in (cell.target, cell.source) if name}
        for name in names:
            recipe = load_recipe(name, dataset, "paper")
            assert (recipe.name, recipe.dataset) == (name, dataset)


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


def simple(**changes) -> PaperTable:
    """Attacks in rows, each with its own budget, as in the paper's Table 5."""
    fields = {
        "number": 5,
        "title": "Comparison",
        "caption": "",
        "columns": (
            Heading(label="Softmax", target="softmax"),
            Heading(label="Ours", target="ours"),
        ),
        "rows": (
            Heading(label="Clean"),
            Heading(label="0.02", group="FGSM", attack=AttackRequest(name="fgsm", eps=0.02)),
            Heading(label="0.04", group="FGSM", attack=AttackRequest(name="fgsm", eps=0.04)),
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
        attack=AttackRequest(name="fgsm", eps=0.04),
    )
    assert not simple().targets_in_rows
    assert not simple().is_matrix


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sections": (Section(dataset="cifar10", values=((1.0, 2.0),)),)}, "one value per"),
        ({"rows": (Heading(label="x", target="ours"),) * 3}, "both give a target"),
        ({"columns": (Heading(label="a"), Heading(label="b"))}, "give no target"),
        ({"rows": (Heading(label="x"),) * 3}, "same name"),
        (
            {
                "columns": (
                    Heading(label="a", target="ours", attack=AttackRequest(name="cw", c=1)),
                    Heading(label="b", target="softmax"),
                ),
                "rows": (Heading(label="x"),) * 3,
            },
            "a gives a budget, which only a row may",
        ),
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
    assert positions["softmax", "ours"].cell.attack == PGD


@pytest.mark.parametrize("number", [3, 5])
def test_further_recipes_stand_where_the_papers_do_without_numbers(number):
    paper = published(number)
    further = list(paper.extended(["mine", "Ours"]).positions("cifar10"))
    new = [position for position in further if position.cell.target in ("mine", "Ours")]
    assert [position.published for position in new] == [None] * len(new)
    headings = [position.row if paper.targets_in_rows else position.column for position in new]
    assert {heading.label for heading in headings} == {"mine", "Ours (model)"}
    assert [position for position in further if position not in new] == list(
        paper.positions("cifar10")
    )
    assert paper.extended([]) == paper


def test_tables_and_figures_are_read_without_torch():
    program = (
        "import sys\n"
        "from robustbench_pcl.paper import figures, independent, tables\n"
        "table = tables.published(3)\n"
        "assert all(p.cell.attack_for('quick') for p in table.positions('mnist')[1:11])\n"
        "assert figures.FIGURES and independent.independent_results()\n"
        "assert not {'torch', 'matplotlib', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
