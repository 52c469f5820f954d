"""Requirements: how they are read, which number answers each, and what is refused."""

from __future__ import annotations

import pytest
from fabricated import (
    make_answer,
    make_attack,
    make_certificate,
    make_data,
    make_diagnosis,
    make_evidence,
    make_measurement,
    make_model,
    right,
)

from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.tables import AttackRequest, Cell, published
from robustbench_pcl.report.required import answer, doubts
from robustbench_pcl.report.requirements import Place, read_requirement, read_requirements
from robustbench_pcl.report.selection import Selection
from robustbench_pcl.report.table import report_table
from robustbench_pcl.store.rules import wilson

READ = {
    "ours-pgd.strongest >= 45": ("ours-pgd", "strongest", "", ">=", 45),
    "ours.clean<=99.5": ("ours", "clean", "", "<=", 99.5),
    "  ours.worst-case   >  4e1 ": ("ours", "worst-case", "", ">", 40),
    "ours.pgd.low < 5": ("ours", "pgd", "low", "<", 5),
    "ours.PGD on margin.high == 0": ("ours", "pgd-on-margin", "high", "==", 0),
    "ours.apgd-t.n >= 1000": ("ours", "apgd-t", "n", ">=", 1000),
    "ours.fgsm-from-vgg19 >= 3": ("ours", "fgsm-from-vgg19", "", ">=", 3),
    "ours+loss.separation=16.pgd >= 3": ("ours+loss.separation=16", "pgd", "", ">=", 3),
    "ours+a=3,4,b=x.certified.low>3": ("ours+a=3,4,b=x", "certified", "low", ">", 3),
    "ours.verdict == holds": ("ours", "", "verdict", "==", "holds"),
    "ours.pgd.verdict == flat or rugged": ("ours", "pgd", "verdict", "==", "flat or rugged"),
    "ours+loss.separation=16.verdict == holds": (
        "ours+loss.separation=16",
        "",
        "verdict",
        "==",
        "holds",
    ),
    "strongest >= 45": ("mine", "strongest", "", ">=", 45),
    "strongest.low >= 45": ("mine", "strongest", "low", ">=", 45),
    "verdict == holds": ("mine", "", "verdict", "==", "holds"),
    "pgd.verdict == holds": ("mine", "pgd", "verdict", "==", "holds"),
}


@pytest.mark.parametrize("text", READ)
def test_a_requirement_is_read_from_the_right(text):
    found = read_requirement(text, model="mine")
    assert (found.target, found.quantity, found.part, found.sign, found.wanted) == READ[text]


WRONG = {
    "ours.pgd": "has no operator",
    "ours.pgd 45": "has no operator",
    "ours.pgd = 45": "Write == for equal",
    "ours.pgd => 45": "no operator",
    "ours.pgd >= ": "there is no number",
    "ours.pgd >= 45 %": "'45 %' is no number",
    "ours.pgd >= nan": "'nan' is no number",
    "ours.pgd >= holds": "'holds' is no number",
    "ours.pgdd >= 45": "Did you mean pgd",
    "ours >= 45": "no quantity called 'ours'",
    "ours. >= 45": "names no quantity",
    "low >= 45": "names no quantity",
    "strongest >= 45": "names no model",
    ">= 45": "no operator",
    "": "no operator",
    "ours.verdict >= holds": "a verdict is not more or less",
    "ours.verdict == fine": "no verdict called 'fine'",
    "ours.verdict == 45": "no verdict called '45'",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_requirement_is_refused_in_two_lines(text):
    with pytest.raises(UserError) as refused:
        read_requirement(text)
    assert WRONG[text] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_has_one_a_line_and_its_mistakes_have_their_line(tmp_path):
    path = tmp_path / "required.txt"
    path.write_text("# of the release\nours.pgd >= 3  # as ever\n\nclean >= 90\n")
    found = list(read_requirements(path, "mine"))
    assert [(each.target, each.place) for each in found] == [
        ("ours", Place(path, 2)),
        ("mine", Place(path, 4)),
    ]
    path.write_text("ours.pgd >= 3\nours.pgd\n")
    with pytest.raises(UserError, match=r"line 2: 'ours.pgd' has no operator"):
        list(read_requirements(path))


@pytest.mark.parametrize("content", [b"", b"# nothing\n\n", b"\xff\xfe\x00", None])
def test_a_file_without_requirements_is_refused(content, tmp_path):
    path = tmp_path / "required.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError):
        list(read_requirements(path))


OURS = make_model("ours")
PGD, MARGIN = make_attack("pgd"), make_attack("pgd", loss="margin")


def evidence(*others):
    """Of ten images 9 are right when clean; PGD, PGD on margin and `strongest` leave 8, 6, 5."""
    bits = {None: "1111111110", "pgd": "1111111100", "margin": "1111101000"}
    attacks = {None: None, "pgd": PGD, "margin": MARGIN, "strongest": make_attack("strongest")}
    bits["strongest"] = "0111110000"
    records = [
        make_measurement(OURS, attack and OURS, attack, right=right(bits[name]))
        for name, attack in attacks.items()
    ]
    return make_evidence([*records, *others])


def asked(text, found=None, **selection):
    return answer(read_requirement(text), found or evidence(), Selection(**selection))


MEASURED = {
    "ours.clean": 90,
    "ours.pgd": 80,
    "ours.pgd-on-margin": 60,
    "ours.strongest": 50,
    "ours.worst-case": 40,
    "ours.pgd.n": 10,
}


@pytest.mark.parametrize("left", MEASURED)
@pytest.mark.parametrize("selection", [{}, {"table": 3}, {"scale": "quick", "eps": 0.03}])
def test_a_quantity_is_the_stored_number(left, selection):
    at = MEASURED[left]
    assert asked(f"{left} == {at}", **selection).status == "holds"
    assert asked(f"{left} >= {at}", **selection).status == "holds"
    assert asked(f"{left} > {at}", **selection).status == "does not hold"
    assert asked(f"{left} < {at}", **selection).status == "does not hold"


def test_an_end_of_the_interval_can_be_required():
    low, high = (100 * end for end in wilson(4, 10))
    assert asked("ours.worst-case.low >= 0").measured == pytest.approx(low)
    assert asked("ours.worst-case.high >= 0").measured == pytest.approx(high)
    assert asked(f"ours.worst-case.low >= {low + 0.1}").status == "does not hold"


def test_files_say_where_a_number_is_stored():
    found = asked("ours.worst-case >= 0").number
    assert len(found.files) == 4
    assert set(asked("ours.pgd >= 0").number.files) < set(found.files)


def test_a_table_and_a_requirement_have_the_same_numbers():
    positions = published(3).positions("cifar10")
    records = [make_answer(each.cell, 90 - 1.5 * k) for k, each in enumerate(positions)]
    stored = make_evidence(records)
    (section,) = report_table(3, stored, ["cifar10"]).sections
    for entry in section.entries:
        cell = entry.cell
        if cell.attack is None or cell.attack.name not in ("worst-case", "strongest"):
            name = cell.attack.name if cell.attack else "clean"
            source = f"-from-{cell.source}" if cell.attack and not cell.white_box else ""
        else:
            name, source = cell.attack.name, ""
        text = f"{cell.target}.{name}{source} >= 0"
        assert asked(text, stored, table=3).measured == entry.measured


def test_certified_is_the_share_that_no_perturbation_fools():
    stored = make_evidence([make_certificate(OURS)])
    assert asked("ours.certified >= 33", stored).status == "holds"
    assert asked("ours.certified >= 34", stored).status == "does not hold"
    assert asked("ours.certified.n == 3", stored).status == "holds"
    assert asked("ours.certified >= 66", stored, eps=0.01).status == "holds"
    beyond = asked("ours.certified >= 0", stored, eps=0.07)
    assert (beyond.status, beyond.command) == (
        "nothing measured",
        "pclbench certify ours --dataset cifar10 --scale quick --eps 0.07",
    )


def test_a_verdict_is_the_one_that_tables_print_beside_the_number():
    old = make_diagnosis(OURS, PGD, "holds")
    new = make_diagnosis(OURS, PGD, "saturated", created="2026-01-01T00:00:00+00:00")
    stored = evidence(old, new)
    assert asked("ours.verdict == saturated", stored).status == "holds"
    assert asked("ours.pgd.verdict == holds", stored).status == "does not hold"
    assert asked("ours.fgsm.verdict == saturated", stored).status == "holds"
    assert asked("ours.verdict == saturated", stored, eps=0.01).status == "holds"
    black_box = asked("ours.pgd-from-softmax.verdict == saturated", stored)
    assert black_box.status == "nothing measured"
    assert asked("ours.verdict == holds", stored, eps=0.1).status == "nothing measured"
    weak = make_diagnosis(OURS, PGD, "attack too weak", created="2027-01-01T00:00:00+00:00")
    stored = evidence(weak, old)
    assert asked("ours.pgd.verdict == attack too weak", stored).status == "holds"
    assert (
        asked("ours.fgsm.verdict == attack too weak", evidence(weak)).status == "nothing measured"
    )
    assert asked("ours.verdict == attack too weak", evidence(weak)).status == "holds"


def test_a_model_whose_number_does_not_hold_is_named():
    doubted = make_diagnosis(OURS, PGD, "saturated")
    fine = make_diagnosis(make_model("softmax"), PGD, "holds")
    stored = evidence(doubted, fine)
    answers = [asked("ours.pgd >= 0", stored), asked("ours.pgd.low >= 0", stored)]
    assert doubts(answers, stored) == [doubted]
    assert doubts([asked("softmax.pgd >= 0", stored)], stored) == []


MISSING = {
    ("ours.auto >= 1", None): "pclbench attack ours --attack auto --dataset cifar10 --scale quick",
    ("ours.pgd >= 1", 8 / 255): "pclbench attack ours --attack pgd --dataset cifar10 --scale quick "
    "--eps 8/255",
    ("ours.pgd-on-dlr >= 1", None): "pclbench attack ours --attack pgd --loss dlr "
    "--dataset cifar10 --scale quick",
    ("ours.bim-from-vgg19 >= 1", None): "pclbench transfer --source vgg19 --target ours "
    "--attack bim --dataset cifar10 --scale quick",
    ("ours.worst-case >= 1", 0.04): "pclbench attack ours --attack strongest --dataset cifar10 "
    "--scale quick --eps 0.04",
    ("ours.certified >= 1", None): "pclbench certify ours --dataset cifar10 --scale quick",
    ("ours.verdict == holds", None): "pclbench diagnose ours --dataset cifar10 --scale quick",
    ("softmax.clean >= 1", None): "pclbench attack softmax --attack fgsm",
}


@pytest.mark.parametrize(("text", "eps"), MISSING)
def test_what_is_not_measured_does_not_hold_and_names_the_command(text, eps):
    found = asked(text, eps=eps)
    assert found.status == "nothing measured"
    assert found.command == MISSING[text, eps]


def test_what_had_a_smaller_budget_answers_for_no_larger_one():
    attack = make_attack("pgd", eps=0.02)
    stored = make_evidence([make_measurement(OURS, OURS, attack, right=right("10"))])
    assert asked("ours.worst-case >= 0", stored).status == "nothing measured"
    assert asked("ours.worst-case == 50", stored, eps=0.02).status == "holds"


def test_a_model_that_was_changed_by_hand_is_measured_by_its_file():
    model = make_model("ours+loss.separation=16")
    stored = make_evidence([make_measurement(model, right=right("10"))])
    found = asked("ours+loss.separation=16.pgd >= 0", stored)
    name = f"cifar10-ours+loss.separation=16-quick-{model.checkpoint}-{model.weights}.safetensors"
    assert found.command.startswith(f"pclbench attack checkpoints/{name} --attack pgd")


def on(dataset, scale="quick", seed=0, correct=5):
    target = make_model("ours", dataset=dataset, scale=scale, seed=seed)
    return make_measurement(target, correct=correct, n=10, data=make_data(dataset))


def test_several_data_sets_are_told_apart():
    stored = make_evidence([on("cifar10"), on("svhn", correct=7)])
    with pytest.raises(UserError, match=r"on cifar10 and svhn\. Choose one: --dataset"):
        asked("ours.clean >= 0", stored, table=3)
    assert asked("ours.clean == 70", stored, dataset="svhn").status == "holds"
    found = asked("ours.clean >= 0", stored, dataset="mnist")
    assert found.command == "pclbench attack ours --attack fgsm --dataset mnist"


def test_scale_and_seed_are_chosen_as_tables_choose_them():
    stored = make_evidence([on("cifar10", "demo", correct=1), on("cifar10", seed=1, correct=2)])
    assert asked("ours.clean == 20", stored).status == "holds"
    assert asked("ours.clean == 10", stored, scale="demo").status == "holds"
    assert asked("ours.clean == 20", stored, seed=1).status == "holds"
    assert asked("ours.clean >= 0", stored, scale="quick", seed=0).status == "nothing measured"


REFUSED = {
    ("ourz.pgd >= 0", ()): "Did you mean ours",
    ("ours.pgd-on-nothing >= 0", ()): "loss",
    ("ours.pgd-from-nobody >= 0", ()): "no model called 'nobody'",
    ("ours.pgd >= 0", (("table", 2),)): "no table 2",
}


@pytest.mark.parametrize(("text", "selection"), REFUSED)
def test_what_there_is_not_is_refused(text, selection):
    with pytest.raises(UserError) as refused:
        asked(text, **dict(selection))
    assert REFUSED[text, selection] in str(refused.value)


def test_a_cell_is_answered_by_the_attack_that_it_asks_for():
    request = AttackRequest(name="pgd", eps=0.03, loss="margin")
    cell = Cell(dataset="cifar10", target="ours", source="ours", attack=request)
    (row,) = evidence().matching(cell, "quick")
    assert asked("ours.pgd-on-margin >= 0").measured == row.accuracy
