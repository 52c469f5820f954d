"""What a table claims at least, and what the strongest stored attacks leave of it."""

from __future__ import annotations

import pytest
from fabricated import (
    make_answers,
    make_attack,
    make_evidence,
    make_measurement,
    make_model,
    make_training,
    right,
)
from reading import notes

from robustbench_pcl.paper.tables import published
from robustbench_pcl.report.render import render
from robustbench_pcl.report.table import CLAIM, report_table
from robustbench_pcl.report.worst_case import largest_eps

PGD, MARGIN = make_attack("pgd"), make_attack("pgd", loss="margin")
OURS, SOFTMAX = make_model("ours"), make_model("softmax")


def shown(number, *records, dataset="cifar10"):
    return report_table(number, make_evidence(records), [dataset])


def test_the_worst_case_stands_behind_the_white_box_columns_beside_the_claim():
    records = [
        make_measurement(OURS, OURS, PGD, right=right("1110000000")),
        make_measurement(OURS, OURS, MARGIN, right=right("0001111111")),
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
    fgsm, weak = make_attack("fgsm", eps=0.04), make_attack("pgd", eps=0.01)
    records = [
        make_measurement(OURS, OURS, fgsm, right=right("1111110000")),
        make_measurement(OURS, OURS, weak, right=right("0111111111")),
        make_measurement(OURS, OURS, make_attack("pgd", eps=0.05), right=right("0000000000")),
        make_measurement(SOFTMAX, SOFTMAX, weak, right=right("1000000000")),
    ]
    (section,) = shown(5, *records).sections
    last = section.rows[-1]
    assert last.heading.label == "Worst case"
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
    stronger = make_measurement(OURS, OURS, MARGIN, right=right("1110000000"))
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
    table = shown(number, make_measurement(OURS))
    assert not any(entry.is_worst_case for entry in table.sections[0].entries)
    assert len(table.columns) == len(published(number).columns)
    assert "orst" not in render(table, "text")


def test_nothing_is_added_to_training_figures():
    (section,) = shown(12, make_training()).sections
    assert not any(entry.is_worst_case for entry in section.entries)


def test_the_largest_budget_is_that_of_white_box_attacks():
    def asked(number, dataset):
        return largest_eps(p.cell for p in published(number).positions(dataset))

    assert asked(3, "cifar10") == 0.03
    assert asked(5, "cifar10") == 0.04
    assert asked(6, "mnist") == 0.2
    assert asked(9, "cifar10") == pytest.approx(8 / 255)
    assert asked(12, "cifar10") is None


def test_carlini_and_wagner_count_only_within_the_budget():
    cw = make_attack("cw", c=0.1)
    records = [
        make_measurement(OURS, OURS, PGD, right=right("1111100000")),
        make_measurement(OURS, OURS, cw, right=right("0111111111"), largest_linf=0.02),
    ]
    (section,) = shown(3, *records).sections
    assert section.worst_cases["ours"].accuracy == 40
    pgd, cw_named = sorted(section.worst_cases["ours"].attacks, reverse=True)
    assert pgd == "PGD"
    assert cw_named.startswith("C&W (c 0.1")
    records[1] = records[1].changed(largest_linf=0.031)
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


def test_an_image_counts_only_if_it_withstands_everything():
    fgsm = make_attack("fgsm")
    records = [
        make_measurement(OURS, right=right("1111111101")),
        make_measurement(OURS, OURS, fgsm, right=right("1110111011")),
        make_measurement(OURS, OURS, PGD, right=right("0111110011")),
        make_measurement(OURS, OURS, MARGIN, right=right("0101111011")),
        # Not white-box, another model, too large a budget, other images: none of these count.
        make_measurement(OURS, SOFTMAX, PGD, right=right("0000000000")),
        make_measurement(SOFTMAX, SOFTMAX, PGD, right=right("0000000000")),
        make_measurement(OURS, OURS, make_attack("fgsm", eps=0.1), right=right("0000000000")),
        make_measurement(OURS, OURS, make_attack("fgsm", eps=0.02), right=right("00000")),
    ]
    case = shown(3, *records).sections[0].worst_cases["ours"]
    # 1111111101 & 1110111011 & 0111110011 & 0101111011 = 0100110001
    assert (case.accuracy, case.n) == (40, 10)
    assert case.attacks == ("FGSM", "PGD", "PGD on margin")


def test_attacks_that_differ_only_in_steps_are_named_apart():
    records = [
        make_measurement(OURS, OURS, make_attack("pgd", steps=steps), right=right("110"))
        for steps in (10, 40, 200)
    ]
    table = shown(3, make_measurement(OURS, right=right("111")), *records)
    assert table.sections[0].worst_cases["ours"].attacks == ("PGD", "PGD-200", "PGD-40")
    assert "within eps = 0.03: PGD, PGD-200 and PGD-40 (n = 3)." in notes(table)


def test_an_early_stop_counts_where_no_set_of_all_steps_is_stored():
    early = {"mode": "early-stop", "correct_8bit": None}
    stopped = make_measurement(OURS, OURS, PGD, right=right("1000"), **early)
    assert shown(3, stopped).sections[0].worst_cases["ours"].accuracy == 25
    whole = make_measurement(OURS, OURS, PGD, right=right("1100"))
    assert shown(3, stopped, whole).sections[0].worst_cases["ours"].accuracy == 50
    margin = make_measurement(OURS, OURS, MARGIN, right=right("0100"), **early)
    assert shown(3, whole, margin).sections[0].worst_cases["ours"].accuracy == 25
