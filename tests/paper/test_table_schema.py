"""What a table may look like, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from robustbench_pcl.paper.table import Heading, PaperTable, Remark, Section, published
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.cell import Cell


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
            {
                "columns": (
                    Heading(label="a", target="ours", attack=Part(name="cw", parameters={"c": 1})),
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
    assert positions["softmax", "ours"].cell.attack == Part(name="pgd", parameters={"eps": 0.03})
    with pytest.raises(ValueError, match="not a matrix"):
        published(3).extended(["ours"])
