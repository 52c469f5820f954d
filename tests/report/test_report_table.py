"""Measured numbers beside published ones."""

from __future__ import annotations

import pytest
from fabricated import (
    make_answer,
    make_answers,
    make_attack,
    make_evidence,
    make_measurement,
    make_model,
    make_recipe,
    make_training,
)
from reading import notes

from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.tables import Cell, published, published_numbers
from robustbench_pcl.recipe import Schedule
from robustbench_pcl.report.table import report_table

NOTHING = make_evidence([])


def clean(target, value, dataset="cifar10"):
    return make_answer(Cell(dataset=dataset, target=target), value)


@pytest.mark.parametrize("number", published_numbers())
@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
def test_every_position_shows_its_own_record(number, dataset):
    positions = published(number).positions(dataset)
    answers = make_answers(number, [dataset])
    (section,) = report_table(number, make_evidence(answers), [dataset]).sections
    measured = [entry.measured for entry in section.entries if not entry.is_summary]
    if number == 12:  # one run gives both figures
        assert measured[:5] == [record.seconds_per_epoch for record in answers]
        assert measured[5:] == [record.recipe.schedule.epochs for record in answers]
    else:
        assert measured == [record.correct / 10 for record in answers]
    asked = [entry for entry in section.entries if not entry.is_summary]
    assert [entry.published for entry in asked] == [p.published for p in positions]
    assert [entry.cell for entry in asked] == [p.cell for p in positions]
    headings = [row.heading for row in section.rows if not row.entries[0].is_summary]
    assert headings == list(published(number).rows_for(dataset))
    assert section.missing == 0
    assert section.command == ""


def test_with_nothing_measured_the_papers_numbers_and_commands_are_shown():
    table = report_table(3, NOTHING)
    assert [section.dataset for section in table.sections] == list(published(3).datasets)
    assert all(section.measured == 0 and section.missing == 44 for section in table.sections)
    assert table.commands[1] == "pclbench run --table 3 --dataset cifar10"
    assert all(section.scale is None for section in table.sections)


def test_sections_without_a_measurement_are_dropped_once_there_is_one():
    evidence = make_evidence([clean("ours", 90.0), clean("softmax", 95.0, "svhn")])
    table = report_table(3, evidence)
    assert [section.dataset for section in table.sections] == ["cifar10", "svhn"]
    assert [section.missing for section in table.sections] == [43, 43]
    assert table.commands == (
        "pclbench run --table 3 --dataset cifar10 --scale quick",
        "pclbench run --table 3 --dataset svhn --scale quick",
    )
    asked = report_table(3, evidence, ["mnist"], seeds=[4])
    assert [section.dataset for section in asked.sections] == ["mnist"]
    assert asked.commands == ("pclbench run --table 3 --dataset mnist --seed 4",)


def test_other_data_sets_are_shown_once_half_of_the_table_is_measured():
    few, half = make_answers(11, ["digits"])[:3], make_answers(11, ["digits"])[:12]

    def shown(*answers):
        return [s.dataset for s in report_table(11, make_evidence(answers)).sections]

    assert shown(*few) == ["digits"]
    assert shown(clean("ours", 90), *few) == ["cifar10"]
    assert shown(clean("ours", 90), *half) == ["cifar10", "digits"]


def test_fewer_seconds_and_epochs_are_not_better():
    """Neither has an interval."""
    runs = [
        make_training(make_recipe(name, schedule=Schedule(epochs=epochs)), seconds)
        for name, epochs, seconds in (("ours", 3, 3.0), ("center", 2, 2.0))
    ]
    (section,) = report_table(12, make_evidence(runs)).sections
    assert [entry.measured for entry in section.rows[0].entries] == [None, 2, None, None, 3]
    assert [entry.measured for entry in section.rows[1].entries] == [None, 2, None, None, 3]
    assert not any(entry.best for entry in section.entries)


def test_numbers_have_no_rounding_errors():
    (section,) = report_table(3, make_evidence([clean("ours", 56.5)])).sections
    entry = section.rows[1].entries[0]
    assert (entry.measured, entry.difference) == (56.5, -33.95)


def test_the_most_faithful_scale_is_shown_and_the_others_are_named():
    paper = make_measurement(make_model("ours", scale="paper"), correct=880)
    quick = [clean("ours", 70), clean("softmax", 60)]
    table = report_table(3, make_evidence([paper, *quick]))
    (section,) = table.sections
    assert section.scale == "paper"
    assert section.rows[1].entries[0].measured == 88
    assert section.rows[0].entries[0].measured is None
    assert "Also measured at quick scale: 2 cells (--scale quick)." in notes(table)
    (chosen,) = report_table(3, make_evidence([paper, *quick]), scale="quick").sections
    assert [row.entries[0].measured for row in chosen.rows[:2]] == [60, 70]


def test_a_matrix_shows_recipes_that_were_source_and_target():
    pgd = make_attack("pgd")
    models = {name: make_model(name) for name in ("vgg19", "ours", "softmax")}
    pairs = [("vgg19", "ours", 80), ("ours", "vgg19", 60), ("ours", "ours", 10)]
    records = [
        make_measurement(models[target], models[source], pgd, correct=10 * correct)
        for source, target, correct in [*pairs, ("vgg19", "softmax", 30)]
    ]
    table = report_table(13, make_evidence(records))
    assert [column.label for column in table.columns[4:]] == ["ours"]
    (section,) = table.sections
    asked = [entry for entry in section.entries if not entry.is_summary]
    cells = {(e.cell.source, e.cell.target): e.measured for e in asked}
    assert len(cells) == 25
    assert all(cells[source, target] == correct for source, target, correct in pairs)
    other = make_attack("pgd", steps=40)
    records = [
        make_measurement(models[target], models[source], other)
        for source, target in (("vgg19", "ours"), ("ours", "vgg19"))
    ]
    assert len(report_table(13, make_evidence(records)).columns) == 4  # another attack's
    assert section.missing == 16  # only the paper's own positions are filled by its command


def test_unknown_tables_and_data_sets_are_refused():
    with pytest.raises(UserError, match="no table 2"):
        report_table(2, NOTHING)
    with pytest.raises(UserError, match="no data set called 'cifar11'"):
        report_table(3, NOTHING, ["cifar11"])
