"""Which diagnosis speaks of a number, and the code beside it in every format and nowhere else."""

from __future__ import annotations

import json
from io import StringIO

import pandas as pd
import pytest
from fabricated import (
    make_answers,
    make_attack,
    make_data,
    make_diagnosis,
    make_evidence,
    make_measurement,
    make_model,
)
from golden_files import rendered
from reading import notes, parsed

from robustbench_pcl.report.diagnosed import load_diagnosed
from robustbench_pcl.report.render import FORMATS, render
from robustbench_pcl.report.results import load_evidence, results
from robustbench_pcl.report.table import report_table
from robustbench_pcl.report.worst_case import worst_case
from robustbench_pcl.store.records import Paths, save_measurement, save_record

OURS, OTHER = make_model("ours"), make_model("ours", weights="other")
PGD, FGSM = make_attack("pgd"), make_attack("fgsm")
LARGE, SMALL = make_attack("pgd", eps=0.1), make_attack("pgd", eps=0.01)
L2 = make_attack("apgd", norm="l2", eps=0.5)
LATER = "2025-06-01T00:00:00+00:00"


def verdict(diagnoses, attack=PGD, model=OURS, source=None, **changes):
    """The code beside one number, if these diagnoses are stored."""
    record = make_measurement(model, source or model, attack, **changes)
    return make_evidence([record, *diagnoses]).measurements["verdict"][0]


SPEAKS = {
    "of its own attack": ([make_diagnosis(OURS, PGD)], {}),
    "of another attack within the budget": ([make_diagnosis(OURS, PGD)], {"attack": FGSM}),
    "of a smaller budget": ([make_diagnosis(OURS, LARGE)], {}),
    "of an attack without budget, if it took no more": (
        [make_diagnosis(OURS, PGD)],
        {"attack": make_attack("cw"), "largest_linf": 0.02},
    ),
}
SILENT = {
    "of images that another model made": ([make_diagnosis(OURS, PGD)], {"source": OTHER}),
    "of the weak attack's images that another model made": (
        [make_diagnosis(OURS, PGD, "attack too weak")],
        {"source": OTHER},
    ),
    "without attack": ([make_diagnosis(OURS, PGD)], {"attack": None}),
    "of other weights": ([make_diagnosis(OURS, PGD)], {"model": OTHER}),
    "of a larger budget": ([make_diagnosis(OURS, SMALL)], {}),
    "of other images": ([make_diagnosis(OURS, PGD, data=make_data(digest="other"))], {}),
    "in another norm": ([make_diagnosis(OURS, L2)], {}),
    "of an attack without budget that took more": (
        [make_diagnosis(OURS, PGD)],
        {"attack": make_attack("cw"), "largest_linf": 0.2},
    ),
    "of an attack that was not the weak one": (
        [make_diagnosis(OURS, PGD, "attack too weak")],
        {"attack": FGSM},
    ),
}


@pytest.mark.parametrize("case", SPEAKS)
def test_a_diagnosis_speaks_of_a_number(case):
    diagnoses, number = SPEAKS[case]
    assert verdict(diagnoses, **number) == "PCL103"


@pytest.mark.parametrize("case", SILENT)
def test_no_diagnosis_speaks_of_a_number(case):
    diagnoses, number = SILENT[case]
    assert verdict(diagnoses, **number) is None


def test_a_weak_attack_is_named_beside_its_own_number():
    weak = make_diagnosis(OURS, PGD, "attack too weak")
    assert verdict([weak]) == "PCL102"
    assert verdict([weak, make_diagnosis(OURS, LARGE)], attack=FGSM) == "PCL103"


@pytest.mark.parametrize(
    ("attack", "correct", "code"),
    [
        (PGD, 132, "PCL101"),  # 66 %, which is what everything that was tried leaves
        (FGSM, 132, "PCL101"),
        (FGSM, 141, "PCL101"),  # 70.5 %
        (FGSM, 142, None),  # 71 %, 5 points above it
        (FGSM, 0, "PCL101"),
        (make_attack("pgd", eps=0.01), 141, "PCL101"),  # 66 % or more withstand the smaller budget
        (make_attack("pgd", eps=0.01), 142, None),  # was not tried there
    ],
    ids=str,
)
def test_that_a_number_holds_is_not_said_of_another_far_above(attack, correct, code):
    number = make_measurement(OURS, OURS, attack, correct, 200)
    frame = make_evidence([number, make_diagnosis(OURS, PGD, "holds")]).measurements
    assert frame["verdict"][0] == code


STRONGEST = {
    "61.5 %, where PGD leaves 66": ({"correct": 123}, "PCL101"),
    "61 %, 5 points below it": ({"correct": 122}, None),
    "at another budget": ({"correct": 0, "attack": make_attack("strongest", eps=0.1)}, "PCL101"),
    "in another norm": (
        {"correct": 0, "attack": make_attack("apgd", norm="l2", eps=0.02)},
        "PCL101",
    ),
    "on another model's images": ({"correct": 0, "source": OTHER}, "PCL101"),
    "of other images": ({"correct": 0, "data": make_data(digest="other")}, "PCL101"),
    "of fewer images": ({"correct": 0, "n": 100}, "PCL101"),
}


@pytest.mark.parametrize("case", STRONGEST)
def test_nor_where_another_attack_leaves_far_less(case):
    changes, code = STRONGEST[case]
    usual = {"target": OURS, "source": OURS, "attack": make_attack("strongest"), "n": 200}
    records = [make_measurement(OURS, OURS, PGD, 132, 200), make_measurement(**usual | changes)]
    evidence = make_evidence([*records, make_diagnosis(OURS, PGD, "holds")])
    assert evidence.measurements["verdict"][0] == code
    assert (evidence.diagnosed.of_measurement(records[0]) is None) == (code is None)


def test_a_command_that_measures_looks_at_all_that_is_stored(tmp_path):
    """What ``attack --format json`` prints of one number is what ``results`` says of it."""
    paths, number = Paths(tmp_path), make_measurement(OURS, OURS, PGD, 132, 200)
    held = make_diagnosis(OURS, PGD, "holds")
    save_record(paths.diagnoses, held.id, held)
    assert load_diagnosed(paths).of_measurement(number) == held
    save_measurement(paths, make_measurement(OURS, OURS, make_attack("strongest"), 0, 200))
    assert load_diagnosed(paths).of_measurement(number) is None


def test_of_several_the_own_attacks_then_the_nearest_budgets_then_the_newest_speaks():
    own = make_diagnosis(OURS, PGD, "holds")
    other = make_diagnosis(OURS, FGSM, "flat or rugged")
    far, newer = make_diagnosis(OURS, LARGE), make_diagnosis(OURS, PGD, created=LATER)
    assert verdict([far, other]) == "PCL104"  # the smaller budget
    assert verdict([other, own, far]) == "PCL101"  # its own attack
    assert verdict([own, newer]) == verdict([newer, own]) == "PCL103"  # the newer one


def test_the_worst_case_has_the_code_of_its_budget():
    record = make_measurement(OURS, OURS, PGD)
    evidence = make_evidence([record, make_diagnosis(OURS, PGD)])
    (row,) = evidence.records["cifar10", "ours", "quick"]
    assert worst_case(evidence, row, 0.03).verdict == "PCL103"
    assert worst_case(evidence, row, 0.04).verdict is None


def diagnosed(number=3, verdict="saturated"):
    """A table with an answer to every cell, and a diagnosis of `ours` at its largest budget."""
    attack = make_attack("pgd", "mnist", eps=0.3)
    diagnosis = make_diagnosis(make_model("ours", dataset="mnist"), attack, verdict)
    return report_table(
        number, make_evidence([*make_answers(number, ["mnist"]), diagnosis]), ["mnist"]
    )


def codes(table):
    """What stands beside the numbers of each row, by the row."""
    return {
        row.heading.name: [entry.verdict for entry in row.entries]
        for section in table.sections
        for row in section.rows
    }


def test_the_code_stands_beside_every_number_that_the_diagnosis_speaks_of():
    found = codes(diagnosed())
    # Clean; FGSM, BIM, C&W (without budget), MIM, PGD; worst case; no number of the strongest; the
    # same five attacks from another model.
    a = "PCL103"
    assert found["Ours"] == ["", a, a, "", a, a, a, "", "", "", "", "", ""]
    assert {code for row in found if row != "Ours" for code in found[row]} == {""}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_code(form):
    table = diagnosed()
    text = render(table, form)
    shown = codes(table)["Ours"].count("PCL103")
    match form:
        case "text":
            (white_box,) = [line for line in text.splitlines() if "verdict " in line][1:]
            assert white_box.split()[1:] == ["103"] * shown
            assert max(map(len, text.splitlines())) <= 80
        case "md":
            (row,) = [line for line in text.splitlines() if line.startswith("| Ours  ")]
            assert row.count("PCL103 (") == shown
        case "latex":
            assert text.count(r"\scriptsize 103 ") == shown
        case "html":
            cells = [cell for row in parsed(text).rows for cell in row]
            assert sum("PCL103" in cell for cell in cells) == shown
        case "csv":
            frame = pd.read_csv(StringIO(text))
            assert frame["verdict"].value_counts().to_dict() == {"PCL103": shown}
            assert set(frame.loc[frame["verdict"].notna(), "target"]) == {"ours"}
        case "json":
            content = json.loads(text)
            assert [each["verdict"] for each in content["rows"]].count("PCL103") == shown
            (case,) = [each for each in content["sections"][0]["worst_cases"] if each["verdict"]]
            assert (case["target"], case["verdict"]) == ("ours", "PCL103")


def test_a_note_says_what_the_code_means_and_where_there_is_more():
    (note,) = [line for line in notes(diagnosed()).splitlines() if "PCL103" in line]
    assert note == (
        "Ours: PCL103 saturated, judged by PGD, eps 0.3 (competence 11.5 %), n = 200. PGD leaves "
        "68.0 %, but MIFPE leaves 1.0 %: the loss saturates. More: pclbench explain PCL103."
    )
    assert "PCL101 holds" in notes(diagnosed(verdict="holds"))


@pytest.mark.parametrize("form", FORMATS)
def test_without_a_diagnosis_nothing_is_said_of_verdicts(form):
    text = rendered(3, form)
    assert "PCL1" not in text
    if form not in ("csv", "json"):  # they have the same fields whatever is known
        assert "verdict" not in text.replace("verdict is float32", "")


def test_seeds_that_differ_have_both_codes():
    models = [make_model("ours", seed=seed) for seed in (0, 1, 2)]
    records = [make_measurement(model, model, PGD) for model in models]
    diagnoses = [make_diagnosis(models[0], PGD), make_diagnosis(models[1], PGD, "holds")]
    evidence = make_evidence([*records, *diagnoses])
    table = report_table(3, evidence, ["cifar10"], "quick", [0, 1, 2])
    shown = {code for row in codes(table).values() for code in row if code}
    assert shown == {"PCL103, PCL101"}


@pytest.fixture
def folder(tmp_path):
    record = make_measurement(OURS, OURS, PGD)
    save_measurement(Paths(tmp_path), record)
    diagnosis = make_diagnosis(OURS, PGD)
    save_record(Paths(tmp_path).diagnoses, diagnosis.id, diagnosis)
    return tmp_path


def test_what_is_stored_has_its_code_as_a_column(folder):
    (row,) = results(folder).itertuples()
    assert (row.verdict, row.diagnosis) == ("PCL103", make_diagnosis(OURS, PGD).id)
    assert load_evidence(Paths(folder)).diagnoses == (make_diagnosis(OURS, PGD),)
