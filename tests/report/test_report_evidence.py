"""Which record answers a cell: that of the one complete attack it asks for, of one model."""

from __future__ import annotations

import pytest
from fabricated import (
    make_attack,
    make_evidence,
    make_measurement,
    make_model,
    make_recipe,
    make_training,
)
from reading import notes

from robustbench_pcl.paper.tables import AttackRequest, Cell
from robustbench_pcl.report.table import report_table

ASKED = AttackRequest(name="pgd", eps=0.03)
PGD = make_attack("pgd")
OURS, VGG = make_model("ours"), make_model("vgg19")
CLEAN = Cell(dataset="cifar10", target="ours")
WHITE = CLEAN.changed(source="ours", attack=ASKED)
BLACK = CLEAN.changed(source="vgg19", attack=ASKED)


def values(cell, *records, scale="quick", seed=None):
    rows = make_evidence(records).matching(cell, scale, seed)
    return [getattr(row, cell.quantity) for row in rows]


def chosen(cells, *records):
    answers = make_evidence(records).answers(cells)
    return [record and getattr(record, "accuracy", None) for record in answers.records]


def test_each_kind_of_cell_gets_its_own_record():
    records = (
        make_measurement(OURS, correct=900),
        make_measurement(OURS, OURS, PGD, correct=270),
        make_measurement(OURS, VGG, PGD, correct=760),
        make_measurement(VGG, VGG, PGD, correct=10),
        make_training(make_recipe("ours")),
    )
    assert values(CLEAN, *records) == [90]
    assert values(WHITE, *records) == [27]
    assert values(BLACK, *records) == [76]
    assert values(CLEAN.changed(quantity="seconds_per_epoch"), *records) == [2.5]
    assert values(CLEAN.changed(quantity="epochs"), *records) == [12]


OTHERS = {
    "clean": make_measurement(OURS),
    "another data set": make_measurement(make_model("ours", dataset="digits"), OURS, PGD),
    "another recipe": make_measurement(make_model("ours-pgd"), OURS, PGD),
    "another scale": make_measurement(make_model("ours", scale="paper"), OURS, PGD),
    "another budget": make_measurement(OURS, OURS, make_attack("pgd", eps=8 / 255)),
    "a budget a little larger": make_measurement(OURS, OURS, make_attack("pgd", eps=0.03 + 1e-8)),
    "another loss": make_measurement(OURS, OURS, make_attack("pgd", loss="margin")),
    "another attack": make_measurement(OURS, OURS, make_attack("bim")),
    "small steps": make_measurement(OURS, OURS, make_attack("pgd", relative_step_size=0.0001)),
    "more steps": make_measurement(OURS, OURS, make_attack("pgd", steps=40)),
    "a source of another seed": make_measurement(OURS, make_model("ours", seed=1), PGD),
    "a source of another recipe": make_measurement(OURS, VGG, PGD),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_differs_in_anything_does_not_answer(other):
    assert values(WHITE, OTHERS[other]) == []


def test_a_weak_attack_never_fills_a_published_cell():
    weak = make_measurement(
        OURS, OURS, make_attack("pgd", relative_step_size=0.0001), correct=930, created="2026"
    )
    honest = make_measurement(OURS, OURS, PGD, correct=100)
    cw = make_attack("cw", c=0.1)
    margin = make_measurement(OURS, OURS, {**cw, "confidence": 50.0}, correct=880, created="2026")
    plain = make_measurement(OURS, OURS, cw, correct=200)
    for records, expected in (
        ([weak, margin], [None, None]),
        ([weak, honest, margin, plain], [20, 10]),
    ):
        table = report_table(3, make_evidence([make_measurement(OURS), *records]))
        entries = table.sections[0].rows[1].entries
        assert [entries[3].measured, entries[5].measured] == expected
        text = notes(table)
        assert "Also stored, but with other parameters than the table asks for: PGD, " in text
        assert "C&W, " in text.split("Also stored")[1].split("\n")[0]


def test_pgd_with_10_40_and_200_steps_is_three_attacks():
    records = [
        make_measurement(OURS, OURS, make_attack("pgd", steps=steps), correct=correct)
        for steps, correct in ((200, 220), (10, 360), (40, 310))
    ]
    assert values(WHITE, *records) == [36]


def test_the_scale_decides_what_a_complete_attack_is():
    paper = make_model("ours", scale="paper")
    cell = CLEAN.changed(source="ours", attack=AttackRequest(name="cw", c=0.1))
    quick = make_attack("cw", c=0.1)
    whole = make_attack("cw", scale="paper", c=0.1)
    assert (quick["steps"], whole["steps"]) == (100, 1000)
    assert values(cell, make_measurement(paper, paper, quick), scale="paper") == []
    assert values(cell, make_measurement(paper, paper, whole), scale="paper") == [50]


def test_a_cell_may_ask_for_the_adaptive_loss():
    joint = make_measurement(OURS, OURS, make_attack("pgd", loss="joint"), correct=100)
    plain = make_measurement(OURS, OURS, PGD, correct=200)
    assert values(WHITE.changed(attack=ASKED.changed(loss="joint")), joint, plain) == [10]
    assert values(WHITE, joint, plain) == [20]


def test_scale_and_seed_choose():
    records = [
        make_measurement(OURS, correct=1),
        make_measurement(make_model("ours", scale="paper"), correct=2),
        make_measurement(make_model("ours", seed=1), correct=3),
    ]
    assert values(CLEAN, *records, scale="paper") == [0.2]
    assert values(CLEAN, *records, seed=1) == [0.3]
    assert values(CLEAN, *records, scale="demo") == []
    answers = make_evidence(records).answers([CLEAN, WHITE])
    assert (answers.scale, answers.counts) == ("paper", {"paper": 1, "quick": 1})


def test_a_black_box_source_has_the_targets_scale():
    assert values(BLACK, make_measurement(OURS, VGG, PGD)) == [50]
    assert values(BLACK, make_measurement(OURS, make_model("vgg19", scale="paper"), PGD)) == []


def test_an_exact_set_counts_before_a_fast_one_however_new_that_is():
    exact = make_measurement(OURS, OURS, PGD, correct=300, mode="exact")
    fast = make_measurement(OURS, OURS, PGD, correct=200, mode="fast", n=5000, created="2026")
    early = make_measurement(
        OURS, OURS, PGD, correct=100, mode="early-stop", n=9000, created="2027"
    )
    assert values(WHITE, early, fast, exact)[0] == 30
    assert values(WHITE, early, fast)[0] == 4


def test_among_equals_most_images_count_and_then_the_newest():
    many = make_measurement(OURS, OURS, PGD, correct=1, n=5000)
    old = make_measurement(OURS, OURS, PGD, correct=2, created="2025-01-01")
    new = make_measurement(OURS, OURS, PGD, correct=3, created="2025-02-01")
    assert values(WHITE, old, many, new) == pytest.approx([0.02, 0.3, 0.2])


def test_of_models_alike_always_the_same_answers():
    models = [make_model("ours", weights=f"{digit}" * 16) for digit in range(1, 8)]
    records = [make_measurement(each, correct=place) for place, each in enumerate(models)]
    assert chosen([CLEAN], *records) == chosen([CLEAN], *records[::-1]) == [0.6]


def test_an_early_stop_answers_white_box_cells_with_a_footnote():
    early = {"mode": "early-stop", "correct_8bit": None}
    records = [
        make_measurement(OURS, OURS, make_attack("fgsm"), correct=330, **early),
        make_measurement(OURS, OURS, PGD, correct=65, **early),
        make_measurement(OURS, VGG, PGD, correct=10, **early),
    ]
    table = report_table(3, make_evidence(records))
    entries = table.sections[0].rows[1].entries
    assert [entries[1].measured, entries[5].measured] == [33, 6.5]
    assert entries[11].measured is None  # who fools VGG-19 early need not fool ours
    assert (
        "So the accuracy is at most the accuracy after all steps. "
        "Early stop: White-box FGSM and White-box PGD on Ours."
    ) in notes(table)
    full = make_measurement(OURS, OURS, PGD, correct=100)
    table = report_table(3, make_evidence([*records, full]))
    assert table.sections[0].rows[1].entries[5].measured == 10
    assert "Early stop: White-box FGSM on Ours." in notes(table)


ONE, TWO = make_model("ours", weights="aaaa" * 4), make_model("ours", weights="bbbb" * 4)
"""One recipe, trained with 1 and with 2 threads."""


def test_two_checkpoints_of_a_recipe_are_never_mixed():
    assert ONE.checkpoint == TWO.checkpoint
    records = [
        make_measurement(ONE, correct=965),
        make_measurement(ONE, ONE, PGD, correct=360),
        make_measurement(TWO, correct=970, created="2025-06-01"),
    ]
    assert chosen([CLEAN, WHITE], *records) == [96.5, 36]
    records.append(make_measurement(TWO, TWO, PGD, correct=410, created="2025-06-01"))
    assert chosen([CLEAN, WHITE], *records) == [97, 41]
    assert chosen([WHITE], make_measurement(ONE, TWO, PGD)) == [None]


def test_nor_are_two_checkpoints_that_images_were_made_on():
    vggs = [make_model("vgg19", weights=digest * 8) for digest in ("cc", "dd")]
    fgsm = BLACK.changed(attack=ASKED.changed(name="fgsm"))
    records = [
        make_measurement(OURS, vggs[0], PGD, correct=100, created="2025-06-01"),
        make_measurement(OURS, vggs[1], PGD, correct=200),
        make_measurement(OURS, vggs[1], make_attack("fgsm"), correct=300),
    ]
    assert chosen([BLACK, fgsm], *records) == [20, 30]


def test_the_report_says_that_other_checkpoints_of_a_recipe_exist():
    records = [make_measurement(ONE, correct=965), make_measurement(TWO, created="2025-06-01")]
    text = notes(report_table(3, make_evidence(records)))
    assert (
        "2 checkpoints of Ours are stored. The numbers belong to the weights bbbbbbbb only, not to "
        "aaaaaaaa."
    ) in text
    trained = make_training(weights="eeee" * 4)
    assert "not to eeeeeeee." in notes(report_table(3, make_evidence([records[0], trained])))
    other = make_measurement(make_model("ours", seed=1, weights="ffff" * 4))
    assert "ffffffff (seed 1)." in notes(report_table(3, make_evidence([records[1], other])))
    assert "checkpoints" not in notes(report_table(3, make_evidence(records[:1])))
