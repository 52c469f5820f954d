"""Tables are about attacks that take all steps, whoever computed their gradients."""

from dataclasses import replace

import pytest
from fabricated import make_evidence, make_measurement, make_model

from robustbench_pcl.report.answer import accuracy_answer
from robustbench_pcl.report.tables.footnotes import evidence_notes
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.store.records import Measurement

PGD = Part(name="pgd", parameters={"eps": 0.03, "steps": 10, "relative_step_size": 0.25})
OURS, VGG = make_model("ours"), make_model("vgg19")


def cell(source):
    attack = Part(name="pgd", parameters={"eps": 0.03})
    return Cell(dataset="cifar10", target="ours", source=source, attack=attack)


def measured(crafting, source=OURS, correct=270, **changes):
    return make_measurement(OURS, source, PGD, correct=correct, crafting=crafting, **changes)


def answers(source, *records):
    return [answer.value for answer in make_evidence(records).answers(cell(source))]


@pytest.mark.parametrize(("name", "source"), [("ours", OURS), ("vgg19", VGG)])
def test_who_stopped_at_the_first_success_answers_no_cell(name, source):
    """However new it is, and however many images it is of."""
    stopped = measured(
        "until-fooled",
        source,
        correct=100,
        n=5000,
        correct_8bit=None,
        created="2026-01-01T00:00:00+00:00",
    )
    assert answers(name, stopped) == []
    for mode in ("exact", "fast"):
        assert answers(name, stopped, measured(mode, source)) == [27]
    assert make_evidence([stopped]).scales([cell(name)]) == {}


def test_nor_does_it_lower_the_worst_case_that_stands_under_a_table():
    kept, stopped = measured("fast"), measured("until-fooled", correct=100)
    assert make_evidence([kept, stopped]).measurements == (kept,)


def test_a_record_that_does_not_say_how_its_set_was_made_is_exact():
    old = measured("exact").model_dump(mode="json", exclude={"crafting", "precision"})
    read = Measurement.model_validate(old)
    assert (read.crafting, read.precision) == ("exact", "float32")
    assert answers("ours", read) == [27]


def notes(*precisions):
    answer = accuracy_answer(measured("fast"))
    found = evidence_notes([replace(answer, precision=name) for name in precisions])
    return [note for note in found if "gradients" in note]


def test_a_table_says_whether_attacks_computed_in_bfloat16():
    assert notes("float32", "float32") == []
    (note,) = notes("float32", "bfloat16", "bfloat16")
    assert note == "Attacks computed gradients in bfloat16; every verdict is float32's."
    assert accuracy_answer(measured("fast", precision="bfloat16")).precision == "bfloat16"
