"""What a table claims at least, and what the strongest stored attacks leave of it."""

from __future__ import annotations

import json
import re

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
from robustbench_pcl.report.summaries import CLAIM, PGD_ONLY, SMALLER
from robustbench_pcl.report.table import report_table
from robustbench_pcl.report.table_figures import table_figures
from robustbench_pcl.report.worst_case import largest_eps

PGD, MARGIN = make_attack("pgd"), make_attack("pgd", loss="margin")
OURS, SOFTMAX = make_model("ours"), make_model("softmax")


def shown(number, *records, dataset="cifar10"):
    return report_table(number, make_evidence(records), [dataset])


def case_of(table, target="ours"):
    """The worst case of a recipe in a table of one section."""
    (section,) = table.sections
    return next((case for case in section.worst_cases if case.target == target), None)


def summaries(table, title, target="ours"):
    """A recipe's entry under a title, which is a row or a column."""
    (section,) = table.sections
    found = [
        entry
        for row in section.rows
        for entry in row.entries
        if entry.is_summary
        and title in (row.heading.label, entry.column.label)
        and entry.cell.target == target
    ]
    return found[0] if found else None


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
    table = shown(5, *records)
    (section,) = table.sections
    last = section.rows[-2]
    assert last.heading.label == "Worst case"
    by_recipe = {entry.cell.target: entry for entry in last.entries}
    assert by_recipe["ours"].measured == 50
    assert by_recipe["softmax"].measured == 10
    assert by_recipe["madry"].measured is None
    assert by_recipe["ours"].published == 39.3  # PGD with 0.02; 41.1 is C&W
    assert by_recipe["yu-fgsm"].published == 38.2
    assert case_of(table).attacks == ("FGSM", "PGD (eps 0.01)")
    assert case_of(table, "softmax").attacks == ("PGD (eps 0.01)",)
    assert not any(entry.best for entry in last.entries)  # they withstood different attacks
    assert len(section.rows) == len(published(5).rows) + 2


def test_a_worst_case_is_of_the_budget_that_was_really_attacked():
    """Where nothing was attacked at a section's largest budget, no number claims that."""
    weak = make_attack("pgd", eps=0.01)
    records = [
        make_measurement(OURS, OURS, make_attack("pgd", eps=0.04), right=right("1100000000")),
        make_measurement(SOFTMAX, SOFTMAX, weak, right=right("1110000000")),
    ]
    table = shown(5, *records)
    whole, smaller = (summaries(table, "Worst case", name) for name in ("ours", "softmax"))
    assert (whole.cell.attack.eps, whole.mark) == (0.04, "")
    assert (smaller.cell.attack.eps, smaller.mark) == (0.01, SMALLER)
    assert case_of(table, "softmax").eps == 0.01
    assert f"{SMALLER} Not attacked beyond eps = 0.01: Softmax." in notes(table)
    cells = json.loads(render(table, "json"))["rows"]
    eps = {cell["target"]: cell["eps"] for cell in cells if cell["attack"] == "Worst case"}
    assert (eps["ours"], eps["softmax"]) == (0.04, 0.01)
    for form, sign in (
        ("text", "30.0†"),
        ("md", "30.0†"),
        ("latex", r"30.0\rlap{\textsuperscript{$\dagger$}}"),
    ):
        assert sign in render(table, form)
    assert "30.0†" in render(table, "html")
    assert "†" not in render(shown(5, records[0]), "text")


def test_what_has_no_such_budget_counts_with_what_it_took():
    """Carlini and Wagner's images, and those within an L2 ball."""
    for attack in (make_attack("cw", c=0.1), {**PGD, "eps": 0.5, "norm": "l2"}):
        record = make_measurement(OURS, OURS, attack, right=right("10"), largest_linf=0.02)
        table = shown(3, make_measurement(OURS, right=right("11")), record)
        assert case_of(table).eps == 0.02
        assert summaries(table, "Worst case").mark == SMALLER


def test_the_best_worst_case_is_marked_where_all_withstood_the_same():
    records = [
        make_measurement(OURS, OURS, PGD, right=right("1111111000")),
        make_measurement(SOFTMAX, SOFTMAX, PGD, right=right("1000000000")),
    ]

    def best(*records):
        (section,) = shown(3, *records).sections
        return [row.entries[6].best for row in section.rows]

    assert best(*records) == [False, True, False, False]
    stronger = make_measurement(OURS, OURS, MARGIN, right=right("1111111000"))
    assert not any(best(*records, stronger))
    fewer = make_measurement(SOFTMAX, SOFTMAX, PGD, right=right("10000"))
    assert not any(best(records[0], fewer))


def test_a_matrix_counts_its_columns_and_claims_its_diagonal():
    records = [make_measurement(OURS, SOFTMAX, PGD), *make_answers(13, ["cifar10"])]
    (section,) = shown(13, *records).sections
    columns = zip(*(row.entries for row in section.rows[:4]), strict=True)
    worst = section.rows[4].entries
    # The verdicts of these answers are of the first images each time.
    assert [entry.measured for entry in worst] == [min(e.measured for e in c) for c in columns]
    assert [entry.published for entry in worst] == [0.0, 0.0, 43.7, 49.1]


@pytest.mark.parametrize("number", [3, 5, 9, 13])
def test_nothing_is_added_where_no_attack_is_stored(number):
    table = shown(number, make_measurement(OURS))
    assert not any(entry.is_summary for entry in table.sections[0].entries)
    assert len(table.columns) == len(published(number).columns)
    assert "orst" not in render(table, "text")


def test_nothing_is_added_to_training_figures():
    (section,) = shown(12, make_training()).sections
    assert not any(entry.is_summary for entry in section.entries)


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
    case = case_of(shown(3, *records))
    assert case.accuracy == 40
    pgd, cw_named = sorted(case.attacks, reverse=True)
    assert pgd == "PGD"
    assert cw_named.startswith("C&W (c 0.1")
    records[1] = records[1].changed(largest_linf=0.031)
    assert case_of(shown(3, *records)).attacks == ("PGD",)


def test_models_that_decide_otherwise_are_other_models():
    nearest = make_model("ours-nearest", weights=OURS.weights)
    records = [
        make_measurement(OURS, OURS, PGD, right=right("1111100000")),
        make_measurement(nearest, nearest, PGD, right=right("0000000001")),
        make_measurement(OURS, nearest, PGD, right=right("0000000000")),
    ]
    case = case_of(shown(11, *records))
    assert case.attacks == ("PGD",)
    assert case.accuracy == 0  # by what the other model's images do to this one


def test_an_image_counts_only_if_it_withstands_everything():
    fgsm = make_attack("fgsm")
    records = [
        make_measurement(OURS, right=right("1111111101")),
        make_measurement(OURS, OURS, fgsm, right=right("1110111011")),
        make_measurement(OURS, OURS, PGD, right=right("0111110011")),
        make_measurement(OURS, OURS, MARGIN, right=right("0101111011")),
        # Another model, too large a budget, other images: none of these count.
        make_measurement(SOFTMAX, SOFTMAX, PGD, right=right("0000000000")),
        make_measurement(OURS, OURS, make_attack("fgsm", eps=0.1), right=right("0000000000")),
        make_measurement(OURS, OURS, make_attack("fgsm", eps=0.02), right=right("00000")),
    ]
    case = case_of(shown(3, *records))
    # 1111111101 & 1110111011 & 0111110011 & 0101111011 = 0100110001
    assert (case.accuracy, case.n) == (40, 10)
    assert case.attacks == ("FGSM", "PGD", "PGD on margin")


def test_attacks_that_differ_only_in_steps_are_named_apart():
    records = [
        make_measurement(OURS, OURS, make_attack("pgd", steps=steps), right=right("110"))
        for steps in (10, 40, 200)
    ]
    table = shown(3, make_measurement(OURS, right=right("111")), *records)
    assert case_of(table).attacks == ("PGD", "PGD-200", "PGD-40")
    assert "within eps = 0.03: PGD, PGD-200 and PGD-40 (n = 3)." in notes(table)


def test_sets_that_were_made_elsewhere_count_too():
    """Of other models, of unknown ones, with or without all steps: what fools it, fools it."""
    own = make_measurement(OURS, OURS, PGD, right=right("1111111100"))
    transfer = make_measurement(OURS, SOFTMAX, PGD, right=right("0111111111"))
    stopped = {"mode": "early-stop", "correct_8bit": None}
    early = make_measurement(OURS, SOFTMAX, MARGIN, right=right("1011111111"), **stopped)
    table = shown(3, own, transfer, early)
    case = case_of(table)
    assert (case.accuracy, case.attacks) == (60, ("PGD",))
    assert case.elsewhere == {"softmax": ("PGD", "PGD on margin")}
    assert ("images made on other models: PGD and PGD on margin from Softmax on Ours.") in notes(
        table
    )
    assert case_of(shown(3, transfer, early)) is None  # nothing was made for the model itself
    foreign = make_measurement(OURS, None, PGD, right=right("1101111111"))
    clean = make_measurement(OURS, right=right("1111111111"))
    assert case_of(shown(3, clean, foreign)).accuracy == 90
    assert case_of(shown(3, own, transfer, early, foreign)).accuracy == 50
    too_far = foreign.changed(largest_linf=0.05)
    assert case_of(shown(3, own, too_far)).accuracy == 80


def test_many_sources_are_counted_not_named():
    own = make_measurement(OURS, OURS, PGD, right=right("1111111100"))
    others = [
        make_measurement(OURS, make_model(f"ours-l{layer}"), PGD, right=right("0111111111"))
        for layer in ("1", "2", "3", "4", "5", "12", "23", "34", "45")
    ]
    said = notes(shown(3, own, *others))
    assert "The worst case also includes images made on 9 other models." in said
    assert "ours-l12" in notes(shown(3, own, *others[4:]))


def test_an_early_stop_counts_beside_a_set_of_all_steps():
    """An image that any step brought across is adversarial, also where the last step is not."""
    stopped = make_measurement(OURS, OURS, PGD, right=right("1000"), mode="early-stop")
    whole = make_measurement(OURS, OURS, PGD, right=right("1100"))
    assert case_of(shown(3, stopped)).accuracy == 25
    assert case_of(shown(3, stopped, whole)).accuracy == 25
    margin = make_measurement(OURS, OURS, MARGIN, right=right("0100"), mode="early-stop")
    assert case_of(shown(3, whole, margin)).accuracy == 25


def ensemble(name="strongest", eps=0.03, **parameters):
    """A complete attack of that name as it is stored; nothing here runs it."""
    return {"name": name, "eps": eps, **parameters}


@pytest.mark.parametrize("number", [3, 5, 13])
def test_pgd_only_is_said_where_no_stronger_attack_was_run(number):
    eps = largest_eps(p.cell for p in published(number).positions("cifar10"))
    target = make_model("madry" if number == 13 else "ours")
    pgd = make_measurement(target, target, make_attack("pgd", eps=eps), right=right("1110"))
    clean = make_measurement(target, right=right("1111"))
    weak = shown(number, clean, pgd)
    name = target.recipe.name
    assert summaries(weak, "Strongest", name).words == PGD_ONLY
    assert summaries(weak, "Auto", name) is None
    for form in ("text", "md", "latex", "html", "csv", "json"):
        assert PGD_ONLY in re.sub(r"\s+", " ", render(weak, form))
    assert f"{PGD_ONLY}: neither AutoAttack nor a stronger attack was run yet: pclbench run " in (
        notes(weak)
    )
    assert "--with strongest." in notes(weak)
    ran = make_measurement(target, target, ensemble(eps=eps), right=right("1000"))
    strong = shown(number, clean, pgd, ran)
    entry = summaries(strong, "Strongest", name)
    assert (entry.measured, entry.words, entry.n) == (25, "", 4)
    assert entry.interval[0] < 25 < entry.interval[1]
    assert entry.published == summaries(strong, "Worst case", name).published
    assert PGD_ONLY not in render(strong, "json")
    assert case_of(strong, name).accuracy == 25
    assert summaries(strong, "Auto", name) is None


def test_auto_and_strongest_stand_beside_the_claim():
    records = [
        make_measurement(OURS, OURS, PGD, right=right("1111100000")),
        make_measurement(OURS, OURS, ensemble("auto"), right=right("1000000000")),
        make_measurement(OURS, OURS, ensemble("auto", version="plus"), right=right("1100000000")),
        make_measurement(OURS, OURS, ensemble(eps=0.01), right=right("0000000000")),
        make_measurement(SOFTMAX, SOFTMAX, PGD, right=right("0000000000")),
    ]
    table = shown(3, *records)
    assert [column.label for column in table.columns[6:9]] == ["Worst case", "Auto", "Strongest"]
    auto = summaries(table, "Auto")
    assert (auto.measured, auto.published, auto.remark) == (10, 27.2, CLAIM)
    assert auto.difference == -17.2
    assert auto.cell.attack.eps == 0.03
    # With a third of the budget it is in the worst case, but not an answer at this budget.
    assert summaries(table, "Strongest").measured is None
    assert summaries(table, "Strongest").words == ""
    assert case_of(table).accuracy == 0
    assert summaries(table, "Auto", "softmax").measured is None
    assert summaries(table, "Strongest", "softmax").words == PGD_ONLY
    assert f"{PGD_ONLY}: neither AutoAttack nor a stronger attack was run on Softmax yet" in (
        notes(table)
    )
    for lines in (render(table, "text").splitlines(),):
        assert max(map(len, lines)) <= 80


def test_a_note_says_how_much_an_ensemble_could_do():
    ran = [
        make_measurement(OURS, OURS, PGD),
        make_measurement(SOFTMAX, SOFTMAX, PGD),
        make_measurement(OURS, OURS, ensemble(budget="standard"), mode="early-stop"),
        make_measurement(SOFTMAX, SOFTMAX, make_attack("strongest", budget="quick")),
        make_measurement(SOFTMAX, SOFTMAX, ensemble("auto", version="plus"), mode="fast"),
    ]
    said = [line for line in notes(shown(3, *ran)).splitlines() if re.match("Strongest|Auto", line)]
    assert set(said) == {
        "Auto on Softmax: version plus, eps 0.03, mode fast.",
        "Strongest on Softmax: budget quick, eps 0.03, mode exact.",
        "Strongest on Ours: budget standard, eps 0.03, mode early-stop.",
    }


def test_bars_show_the_worst_case_with_its_interval():
    """A figure draws what the table says, and AutoAttack only where it was run."""
    records = [
        make_measurement(OURS, OURS, PGD, right=right("1110000000")),
        make_measurement(OURS, OURS, MARGIN, right=right("0111111111")),
    ]
    entry = summaries(shown(3, *records), "Worst case")
    assert entry.measured == 20
    assert entry.interval == pytest.approx((5.67, 50.98), abs=0.01)
    (figure,) = table_figures([shown(3, *records)])
    svg = figure.drawing.svg()
    assert "Worst case" in svg
    assert "Strongest" not in svg
    ran = make_measurement(OURS, OURS, ensemble(), right=right("0110000000"))
    (figure,) = table_figures([shown(3, *records, ran)])
    assert "Strongest" in figure.drawing.svg()
