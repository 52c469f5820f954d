"""Measured numbers beside published ones."""

from __future__ import annotations

import pytest
from fabricated import (
    make_answer,
    make_answers,
    make_data,
    make_evidence,
    make_measurement,
    make_model,
    make_recipe,
    make_training,
)

from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.table import published, published_numbers
from robustbench_pcl.recipes.named import is_recipe, named_recipe
from robustbench_pcl.report.overview import overview, overview_text
from robustbench_pcl.report.tables.scale_note import scale_note
from robustbench_pcl.report.tables.table import report_table
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.specs.recipe import Schedule

NOTHING = make_evidence([])


def clean(target, value, dataset="cifar10"):
    return make_answer(Cell(dataset=dataset, target=target), value)


def notes(table) -> str:
    return "\n".join(note for section in table.sections for note in section.footnotes)


@pytest.mark.parametrize("number", published_numbers())
@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
def test_every_position_shows_its_own_record(number, dataset):
    positions = published(number).positions(dataset)
    answers = make_answers(number, [dataset])
    (section,) = report_table(number, make_evidence(answers), [dataset]).sections
    measured = [entry.measured for entry in section.entries]
    if number == 12:  # one run gives both figures
        assert measured[:5] == [record.seconds_per_epoch for record in answers]
        assert measured[5:] == [record.recipe.schedule.epochs for record in answers]
    else:
        assert measured == [record.correct / 10 for record in answers]
    assert [entry.published for entry in section.entries] == [p.published for p in positions]
    assert [row.heading for row in section.rows] == list(published(number).rows_for(dataset))
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
    asked = report_table(3, evidence, ["mnist"], seed=4)
    assert [section.dataset for section in asked.sections] == ["mnist"]
    assert asked.commands == ("pclbench run --table 3 --dataset mnist --seed 4",)


def test_other_data_sets_are_shown_once_half_of_the_table_is_measured():
    few, half = make_answers(11, ["digits"])[:3], make_answers(11, ["digits"])[:12]

    def shown(*answers):
        return [s.dataset for s in report_table(11, make_evidence(answers)).sections]

    assert shown(*few) == ["digits"]
    assert shown(clean("ours", 90), *few) == ["cifar10"]
    assert shown(clean("ours", 90), *half) == ["cifar10", "digits"]


def test_the_best_of_a_column_is_marked_with_all_ties():
    evidence = make_evidence([clean("softmax", 80), clean("ours", 90), clean("ours-pgd", 90)])
    (section,) = report_table(3, evidence).sections
    assert [row.entries[0].best for row in section.rows] == [False, True, False, True]
    assert not any(entry.best for row in section.rows for entry in row.entries[1:])


def test_nothing_is_best_when_all_are_equal_or_alone():
    for answers in ([clean("ours", 90)], [clean("ours", 90), clean("softmax", 90)]):
        (section,) = report_table(3, make_evidence(answers)).sections
        assert not any(entry.best for entry in section.entries)


def test_the_fewest_seconds_are_best():
    runs = [make_training(make_recipe("ours"), 3.0), make_training(make_recipe("center"), 2.0)]
    (section,) = report_table(12, make_evidence(runs)).sections
    assert [entry.best for entry in section.rows[0].entries] == [False, True, False, False, False]
    assert section.rows[0].worst_case is None
    epochs = [entry.measured for entry in section.rows[1].entries]
    assert epochs == [None, 12, None, None, 12]


def test_fewer_epochs_are_not_better():
    runs = [
        make_training(make_recipe(name, schedule=Schedule(epochs=epochs)), 2.0)
        for name, epochs in (("ours", 3), ("center", 2))
    ]
    (section,) = report_table(12, make_evidence(runs)).sections
    assert not any(entry.best for entry in section.rows[1].entries)
    assert (
        "Seconds: the median epoch's, with 2 threads; other work on the machine lengthens them."
    ) in section.footnotes


def test_nothing_is_best_where_numbers_of_images_differ():
    few = make_measurement(make_model("softmax"), correct=80, n=100)
    (section,) = report_table(3, make_evidence([few, clean("ours", 90)])).sections
    assert not any(entry.best for entry in section.entries)


def test_footnotes_name_the_recipes_behind_the_headings():
    text = notes(report_table(5, make_evidence([clean("ours", 90)]))).replace(" ", " ")
    assert (
        "Recipes: Base = softmax, Yu* = yu-fgsm, Ross* = ross-fgsm, Pang* = adp-fgsm, "
        "Ours_f* = ours-fgsm, Ours_p* = ours-pgd."
    ) in text


def test_footnotes_say_which_data_sets_the_table_has_no_numbers_for():
    words = "The paper's Table 11 has no numbers for Digits."
    assert words in notes(report_table(11, make_evidence([clean("ours", 90, "digits")])))
    assert words not in notes(report_table(11, make_evidence([clean("ours", 90)])))


def test_the_scale_of_black_box_sources_is_said():
    pgd = Part(name="pgd", parameters={"eps": 0.03, "steps": 10})
    source = make_model("vgg19", width=0.125)
    text = notes(report_table(3, make_evidence([make_measurement(make_model(), source, pgd)])))
    assert "resnet110 at 0.25 of its width; vgg19 at 0.125 of its width;" in text


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
    assert "2 cells measured at quick scale too: --scale quick." in notes(table)
    (chosen,) = report_table(3, make_evidence([paper, *quick]), scale="quick").sections
    assert [row.entries[0].measured for row in chosen.rows[:2]] == [60, 70]


def test_a_row_never_mixes_checkpoints():
    pgd = Part(name="pgd", parameters={"eps": 0.03, "steps": 10})
    first, second = make_model("ours", weights="first"), make_model("ours", weights="second")
    records = [
        make_measurement(first, correct=900),
        make_measurement(first, first, pgd, correct=100),
        make_measurement(second, correct=950, created="2025-06-01"),
    ]
    (section,) = report_table(11, make_evidence(records)).sections
    assert [entry.measured for entry in section.rows[-1].entries] == [90, None, 10]
    records.append(make_measurement(second, second, pgd, correct=200, created="2025-06-01"))
    (section,) = report_table(11, make_evidence(records)).sections
    assert [entry.measured for entry in section.rows[-1].entries] == [95, None, 20]


def test_footnotes_say_how_the_numbers_were_made():
    cw = Part(name="cw", parameters={"c": 0.1, "steps": 100})
    loss = Part(name="pcl", parameters={"weight": 0.01})
    start = make_recipe("softmax", model="resnet20", schedule=Schedule(epochs=4))
    model = make_model("ours", model="resnet20", width=1.0, loss=loss, start=start)
    data = make_data(source="an archive", lossy=True, subset=True)
    records = [
        make_measurement(model, data=data, n=400, correct=200),
        make_measurement(model, model, cw, data=data, n=100, correct=50),
    ]
    text = notes(report_table(3, make_evidence(records))).replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "Quick scale: resnet20 in place of resnet110; the first 8000 training images; "
        "16 epochs (paper: 500)."
    ) in text
    assert (
        "Images from an archive: lossy copies of the published pixels and "
        "a part of the published set."
    ) in text
    assert "Loss of ours: pcl (weight = 0.01)." in text
    assert "C&W with 100 steps (the paper's Table 2: 1000)." in text
    assert "n = 100 to 400 images; the widest 95 % interval is ±9.8 points." in text
    assert "Measured on CPU." in text
    assert "Not adaptive: the attacks maximise cross-entropy, C&W the logit margin, not" in text
    assert "Worst case" not in text  # C&W has no L-infinity budget


def test_footnotes_say_which_attacks_know_the_loss():
    text = notes(report_table(4, make_evidence([clean("ours", 90)])))
    assert (
        "Adaptive, maximising the joint loss with its prototypes: Adaptive FGSM, Adaptive BIM, "
        "Adaptive MIM and Adaptive PGD. The other attacks maximise cross-entropy."
    ) in text
    assert "daptive" not in notes(report_table(12, make_evidence([make_training()])))


def test_footnotes_say_who_decides_otherwise_than_by_one_networks_logits():
    records = [clean("contrastive", 90), clean("ours", 90), clean("triplet", 80)]
    text = notes(report_table(9, make_evidence(records)))
    assert (
        "Class predicted by contrastive and triplet: the nearest prototype or class mean, not the "
        "largest logit."
    ) in text
    assert "Loss of ours: pcl (separation = 4.0, weight = 1.0)." in text
    assert "Loss of triplet: triplet (margin = 3.0, alpha = 0.5, weight = 1.0)." in text
    text = notes(report_table(7, make_evidence([clean("adp", 90, "cifar100")])))
    assert "Class predicted by adp: the largest mean probability of 3 networks." in text


def test_a_data_sets_own_note_is_quoted():
    record = make_measurement(data=make_data(lossy=True, note="JPEG copy, 8,000 images"))
    text = notes(report_table(3, make_evidence([record])))
    assert "Images from torchvision: JPEG copy, 8,000 images." in text


def test_a_scale_says_what_it_cut():
    assert scale_note([named_recipe("ours-pgd", "mnist", "paper")]) == (
        "Paper scale: sizes as published."
    )
    defense = named_recipe("madry", "cifar10", "paper").defense.merged({"steps": 5})
    madry = make_recipe("madry", model="resnet20", defense=defense)
    assert scale_note([make_recipe("vgg19", schedule=Schedule(epochs=10)), madry]) == (
        "Quick scale: vgg19 at 0.25 of its width; resnet20 in place of resnet110; "
        "the first 8000 training images; 10 to 12 epochs (paper: 200); "
        "madry with 5 attack steps (paper: 7)."
    )
    cut = Part(name="pgd", parameters={"steps": 3})
    trained = [make_recipe("ours-pgd", "digits", width=1.0, adversarial_training=cut)]
    assert scale_note(trained) == (
        "Quick scale: 12 epochs (paper: 350); pgd with 3 attack steps (paper: 10)."
    )
    assert scale_note([make_recipe("softmax", "digits", width=1.0)]) == (
        "Quick scale: 12 epochs (paper: 50)."  # 8000 images are more than there are
    )
    assert scale_note([make_recipe("ours-of-mine")]) == (
        "Quick scale: the first 8000 training images."
    )


@pytest.mark.parametrize("number", published_numbers())
def test_every_table_can_be_filled(number):
    for position in published(number).positions("cifar10"):
        assert is_recipe(position.cell.target)
        assert position.cell.source is None or is_recipe(position.cell.source)


def test_the_independent_result_stands_beside_the_papers_claim():
    text = notes(report_table(3, NOTHING, ["cifar10"])).replace("\N{NO-BREAK SPACE}", " ")
    assert "AutoAttack leaves 0.28 % where 32.32 % is claimed" in text
    assert "Croce and Hein" in text
    assert "AutoAttack" not in notes(report_table(3, NOTHING, ["cifar100"]))
    assert "AutoAttack" not in notes(report_table(12, NOTHING))


def test_a_matrix_shows_recipes_that_were_source_and_target():
    pgd = Part(name="pgd", parameters={"eps": 0.03, "steps": 10})
    models = {name: make_model(name) for name in ("vgg19", "ours", "softmax")}
    pairs = [("vgg19", "ours", 80), ("ours", "vgg19", 60), ("ours", "ours", 10)]
    records = [
        make_measurement(models[target], models[source], pgd, correct=10 * correct)
        for source, target, correct in [*pairs, ("vgg19", "softmax", 30)]
    ]
    table = report_table(13, make_evidence(records))
    assert [column.label for column in table.columns[4:]] == ["ours"]
    (section,) = table.sections
    cells = {(e.cell.source, e.cell.target): e.measured for e in section.entries}
    assert len(cells) == 25
    assert all(cells[source, target] == correct for source, target, correct in pairs)
    assert section.missing == 16  # only the paper's own positions are filled by its command


def test_unknown_tables_and_data_sets_are_refused():
    with pytest.raises(UserError, match="no table 2"):
        report_table(2, NOTHING)
    with pytest.raises(UserError, match="no data set called 'cifar11'"):
        report_table(3, NOTHING, ["cifar11"])


def test_the_overview_counts_every_part_of_the_paper_and_data_set():
    evidence = make_evidence([clean("ours", 90.0), clean("ours", 95.0, "digits")])
    lines = overview(evidence, [])
    counts = {
        (line["kind"], line["number"], line["data_set"]): (line["measured"], line["missing"])
        for line in lines
    }
    assert counts["table", 3, "CIFAR-10"] == (1, 43)
    assert counts["table", 3, "Digits"] == (1, 43)
    assert counts["table", 3, "MNIST"] == (0, 44)
    assert counts["table", 11, "CIFAR-10"] == (1, 23)
    assert ("table", 12, "Digits") not in counts
    assert counts["figure", 5, "SVHN"][0] == 0
    assert ("figure", 5, "Digits") not in counts
    tables = dict.fromkeys(line["number"] for line in lines if line["kind"] == "table")
    assert list(tables) == list(range(1, 14))
    text = overview_text(lines)
    assert "CIFAR-10  1 of 44   pclbench run --table 3 --dataset cifar10 --scale quick" in text
    assert "Table 2. Attacks\n  printed from the code\nTable 3." in text
    assert "\nFigure 7. " in text
    assert max(map(len, text.splitlines())) <= 80
    asked = overview(evidence, [], ["svhn"])
    assert {line["data_set"] for line in asked} == {None, "SVHN"}
