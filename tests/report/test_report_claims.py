"""What a table claims at least, and what the strongest stored attacks leave of it."""

from __future__ import annotations

import pytest
from fabricated import make_answers, make_evidence, make_measurement, make_model

from robustbench_pcl.paper.table import published
from robustbench_pcl.report.formats.render import render
from robustbench_pcl.report.tables.claims import CLAIM, largest_eps, with_worst_cases
from robustbench_pcl.report.tables.table import report_table
from robustbench_pcl.specs.base import Part

PGD = Part(name="pgd", parameters={"eps": 0.03, "steps": 10})
OURS, SOFTMAX = make_model("ours"), make_model("softmax")


def shown(number, *records, dataset="cifar10"):
    return with_worst_cases(report_table(number, make_evidence(records), [dataset]))


def right(bits: str) -> list[bool]:
    return [bit == "1" for bit in bits]


def test_the_worst_case_stands_behind_the_white_box_columns_beside_the_claim():
    records = [
        make_measurement(OURS, OURS, PGD, right=right("1110000000")),
        make_measurement(OURS, OURS, PGD.merged({"loss": "margin"}), right=right("0001111111")),
    ]
    table = shown(3, *records)
    assert table.columns[6].name == "White-box Worst case"
    (section,) = table.sections
    worst = [row.entries[6] for row in section.rows]
    assert [entry.measured for entry in worst] == [None, 0, None, None]
    # Table 3 prints least for PGD; 5.7 in the third row is C&W, which has no such budget.
    assert [entry.published for entry in worst] == [0.0, 27.2, 42.5, 46.0]
    assert worst[1].difference == -27.2
    assert worst[1].n == 10
    low, high = worst[1].interval
    assert low == 0
    assert high == pytest.approx(27.8, abs=0.1)  # Wilson's interval of 0 of 10
    assert all(entry.remark == CLAIM for entry in worst)
    assert section.rows[1].entries[5].measured == 30  # the cell itself asks about cross-entropy


def test_where_recipes_are_in_columns_the_worst_case_is_the_last_row():
    fgsm, weak = (
        Part(name=name, parameters={"eps": eps, "steps": steps})
        for name, eps, steps in (("fgsm", 0.04, 1), ("pgd", 0.01, 10))
    )
    records = [
        make_measurement(OURS, OURS, fgsm, right=right("1111110000")),
        make_measurement(OURS, OURS, weak, right=right("0111111111")),
        make_measurement(OURS, OURS, PGD.merged({"eps": 0.05}), right=right("0000000000")),
        make_measurement(SOFTMAX, SOFTMAX, weak, right=right("1000000000")),
    ]
    (section,) = shown(5, *records).sections
    last = section.rows[-1]
    assert last.heading.label == "Worst case, eps = 0.04"
    by_recipe = {entry.cell.target: entry for entry in last.entries}
    assert by_recipe["ours"].measured == 50
    assert by_recipe["softmax"].measured == 10
    assert by_recipe["madry"].measured is None
    assert by_recipe["ours"].published == 39.3  # PGD with 0.02; 41.1 is C&W
    assert by_recipe["yu-fgsm"].published == 38.2
    assert section.worst_cases["ours"].attacks == ("FGSM", "PGD (eps 0.01)")
    assert section.worst_cases["softmax"].attacks == ("PGD (eps 0.01)",)
    assert not any(entry.best for entry in last.entries)  # they withstood different attacks
    assert len(section.rows) == len(published(5).rows) + 1


def test_the_best_worst_case_is_marked_where_all_withstood_the_same():
    records = [
        make_measurement(OURS, OURS, PGD, right=right("1110000000")),
        make_measurement(SOFTMAX, SOFTMAX, PGD, right=right("1000000000")),
    ]

    def best(*records):
        (section,) = shown(3, *records).sections
        return [row.entries[6].best for row in section.rows]

    assert best(*records) == [False, True, False, False]
    margin = PGD.merged({"loss": "margin"})
    stronger = make_measurement(OURS, OURS, margin, right=right("1110000000"))
    assert not any(best(*records, stronger))
    fewer = make_measurement(SOFTMAX, SOFTMAX, PGD, right=right("10000"))
    assert not any(best(records[0], fewer))


def test_a_matrix_compares_its_diagonal():
    records = [make_measurement(OURS, SOFTMAX, PGD), *make_answers(13, ["cifar10"])]
    (section,) = shown(13, *records).sections
    diagonal = [section.rows[index].entries[index] for index in range(4)]
    last = section.rows[-1].entries
    assert [entry.measured for entry in last] == [entry.measured for entry in diagonal]
    assert [entry.published for entry in last] == [0.0, 0.0, 43.7, 49.1]


@pytest.mark.parametrize("number", [3, 5, 9, 13])
def test_nothing_is_added_where_no_attack_is_stored(number):
    table = report_table(number, make_evidence([make_measurement(OURS)]), ["cifar10"])
    assert with_worst_cases(table) is table
    assert "orst" not in render(table, "text")


def test_nothing_is_added_to_training_figures():
    table = report_table(12, make_evidence(make_answers(12, ["cifar10"])))
    assert with_worst_cases(table) is table


def test_the_largest_budget_is_that_of_white_box_attacks():
    def asked(number, dataset):
        return largest_eps(p.cell for p in published(number).positions(dataset))

    assert asked(3, "cifar10") == 0.03
    assert asked(5, "cifar10") == 0.04
    assert asked(6, "mnist") == 0.2
    assert asked(9, "cifar10") == pytest.approx(8 / 255)
    assert asked(12, "cifar10") is None


def test_carlini_and_wagner_count_only_within_the_budget():
    cw = Part(name="cw", parameters={"c": 0.1, "steps": 1000})
    records = [
        make_measurement(OURS, OURS, PGD, right=right("1111100000")),
        make_measurement(OURS, OURS, cw, right=right("0111111111"), largest_linf=0.02),
    ]
    (section,) = shown(3, *records).sections
    assert section.worst_cases["ours"].accuracy == 40
    assert section.worst_cases["ours"].attacks == ("C&W", "PGD")
    records[1] = records[1].model_copy(update={"largest_linf": 0.031})
    (section,) = shown(3, *records).sections
    assert section.worst_cases["ours"].attacks == ("PGD",)


def test_models_that_decide_otherwise_are_other_models():
    nearest = make_model("ours-nearest", weights=OURS.weights)
    records = [
        make_measurement(OURS, OURS, PGD, right=right("1111100000")),
        make_measurement(nearest, nearest, PGD, right=right("0000000001")),
        make_measurement(OURS, nearest, PGD, right=right("0000000000")),
    ]
    (section,) = shown(11, *records).sections
    assert section.worst_cases["ours"].accuracy == 50
