"""Which record answers a cell."""

from __future__ import annotations

import pytest
from fabricated import make_evidence, make_measurement, make_model, make_recipe, make_training

from robustbench_pcl.report.tables.worst_case import worst_case
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.cell import Cell

PGD = Part(name="pgd", parameters={"eps": 0.03})
STORED_PGD = Part(name="pgd", parameters={"eps": 0.03, "steps": 10, "relative_step_size": 0.25})
OURS, VGG = make_model("ours"), make_model("vgg19")
WHITE = Cell(dataset="cifar10", target="ours", source="ours", attack=PGD)
BLACK = Cell(dataset="cifar10", target="ours", source="vgg19", attack=PGD)
CLEAN = Cell(dataset="cifar10", target="ours")


def values(cell, *records, **filters):
    return [answer.value for answer in make_evidence(records).answers(cell, **filters)]


def test_each_kind_of_cell_gets_its_own_record():
    records = (
        make_measurement(OURS, correct=900),
        make_measurement(OURS, OURS, STORED_PGD, correct=270),
        make_measurement(OURS, VGG, STORED_PGD, correct=760),
        make_measurement(VGG, VGG, STORED_PGD, correct=10),
        make_training(make_recipe("ours")),
    )
    assert values(CLEAN, *records) == [90]
    assert values(WHITE, *records) == [27]
    assert values(BLACK, *records) == [76]
    assert values(CLEAN.model_copy(update={"quantity": "seconds_per_epoch"}), *records) == [2.5]
    assert values(CLEAN.model_copy(update={"quantity": "epochs"}), *records) == [12]


@pytest.mark.parametrize(
    "record",
    [
        make_measurement(OURS),
        make_measurement(make_model("ours", dataset="digits"), OURS, STORED_PGD),
        make_measurement(make_model("ours-pgd"), OURS, STORED_PGD),
        make_measurement(OURS, OURS, STORED_PGD.merged({"eps": 8 / 255})),
        make_measurement(OURS, OURS, STORED_PGD.merged({"eps": 0.03 + 1e-8})),
        make_measurement(OURS, OURS, STORED_PGD.merged({"loss": "margin"})),
        make_measurement(OURS, OURS, Part(name="bim", parameters={"eps": 0.03})),
        make_measurement(OURS, OURS, Part(name="pgd", parameters={"steps": 10})),
        make_measurement(OURS, make_model("ours", seed=1), STORED_PGD),
        make_measurement(OURS, VGG, STORED_PGD),
    ],
    ids=lambda record: f"{record.target.recipe.name}-{record.attack and record.attack.name}",
)
def test_what_differs_does_not_answer(record):
    assert values(WHITE, record) == []


def test_budgets_are_equal_up_to_rounding_and_the_default_loss_may_be_named():
    nearly = STORED_PGD.merged({"eps": 0.03 + 1e-12, "loss": "cross-entropy"})
    assert values(WHITE, make_measurement(OURS, OURS, nearly)) == [50]


def test_a_cell_may_ask_for_the_adaptive_loss():
    adaptive = WHITE.model_copy(update={"attack": PGD.merged({"loss": "joint"})})
    joint = make_measurement(OURS, OURS, STORED_PGD.merged({"loss": "joint"}), correct=100)
    plain = make_measurement(OURS, OURS, STORED_PGD, correct=200)
    assert values(adaptive, joint, plain) == [10]
    assert values(WHITE, joint, plain) == [20]


def test_scale_and_seed_choose():
    paper, other_seed = make_model("ours", scale="paper"), make_model("ours", seed=1)
    records = [
        make_measurement(OURS, correct=1),
        make_measurement(paper, correct=2),
        make_measurement(other_seed, correct=3),
    ]
    assert values(CLEAN, *records, scale="paper") == [0.2]
    assert values(CLEAN, *records, seed=1) == [0.3]
    assert values(CLEAN, *records, scale="demo") == []
    assert make_evidence(records).scales([CLEAN, WHITE]) == {"paper": 1, "quick": 1}


def test_a_black_box_source_has_the_targets_scale():
    paper_vgg = make_model("vgg19", scale="paper")
    record = make_measurement(OURS, paper_vgg, STORED_PGD)
    assert values(BLACK, record) == [50]
    assert values(BLACK, record, scale="quick") == []


def test_the_papers_steps_come_first_and_then_the_newest():
    long = make_measurement(
        OURS, OURS, STORED_PGD.merged({"steps": 100}), correct=1, created="2025-03-01"
    )
    old = make_measurement(OURS, OURS, STORED_PGD, correct=2, created="2025-01-01")
    new = make_measurement(OURS, OURS, STORED_PGD, correct=3, created="2025-02-01")
    assert values(WHITE, long, old, new) == pytest.approx([0.3, 0.2, 0.1])


def right(bits: str) -> list[bool]:
    return [bit == "1" for bit in bits]


def test_the_worst_case_counts_an_image_only_if_it_withstands_everything():
    fgsm = Part(name="fgsm", parameters={"eps": 0.03})
    margin = STORED_PGD.merged({"loss": "margin"})
    records = [
        make_measurement(OURS, right=right("1111111101")),
        make_measurement(OURS, OURS, fgsm, right=right("1110111011")),
        make_measurement(OURS, OURS, STORED_PGD, right=right("0111110011")),
        make_measurement(OURS, OURS, margin, right=right("0101111011")),
        # Not white-box, another model, too large a budget, other images: none of these count.
        make_measurement(OURS, VGG, STORED_PGD, right=right("0000000000")),
        make_measurement(VGG, VGG, STORED_PGD, right=right("0000000000")),
        make_measurement(OURS, OURS, fgsm.merged({"eps": 0.1}), right=right("0000000000")),
        make_measurement(OURS, OURS, fgsm.merged({"eps": 0.02}), right=right("00000")),
    ]
    case = worst_case(records, OURS.weights, 0.03)
    # 1111111101 & 1110111011 & 0111110011 & 0101111011 = 0100110001
    assert case is not None
    assert case.accuracy == 40
    assert case.n == 10
    assert case.attacks == ("FGSM", "PGD", "PGD on margin loss")


def test_there_is_no_worst_case_without_an_attack():
    assert worst_case([make_measurement(OURS)], OURS.weights, 0.03) is None
    assert worst_case([], OURS.weights, 0.03) is None
