"""What footnotes say about a section's numbers."""

from __future__ import annotations

import re

import pytest
from fabricated import (
    make_answer,
    make_answers,
    make_attack,
    make_data,
    make_evidence,
    make_measurement,
    make_model,
    make_recipe,
    make_training,
)
from reading import notes

from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.paper.tables import Cell, published_numbers
from robustbench_pcl.recipe import Schedule
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.report.notes import scale_note
from robustbench_pcl.report.table import report_table

NOTHING = make_evidence([])


def clean(target, value, dataset="cifar10"):
    return make_answer(Cell(dataset=dataset, target=target), value)


def test_footnotes_name_the_recipes_whose_headings_do_not_say_them():
    text = notes(report_table(5, make_evidence([clean("ours", 90)]))).replace(" ", " ")
    assert ("Recipes: Yu [45]* = yu-fgsm, Ross [33]* = ross-fgsm, ADP [16]* = adp-fgsm.") in text
    assert "Recipes" not in notes(report_table(3, make_evidence([clean("ours", 90)])))


def test_footnotes_say_which_data_sets_the_table_has_no_numbers_for():
    words = "The paper's Table 11 has no numbers for Digits."
    assert words in notes(report_table(11, make_evidence([clean("ours", 90, "digits")])))
    assert words not in notes(report_table(11, make_evidence([clean("ours", 90)])))


def test_seconds_are_said_to_depend_on_threads():
    assert (
        "Seconds: the median epoch's, with 2 threads; other work on the machine makes them longer."
    ) in notes(report_table(12, make_evidence([make_training()])))


def test_a_table_says_whether_attacks_computed_in_bfloat16():
    pgd = make_attack("pgd")
    records = [
        make_measurement(model, model, pgd, precision=precision)
        for model, precision in ((make_model(), "float32"), (make_model("softmax"), "bfloat16"))
    ]
    words = (
        "Attacks computed gradients in bfloat16. The float32 model decided which images are fooled."
    )
    assert words in notes(report_table(3, make_evidence(records[1:])))
    assert "gradients" not in notes(report_table(3, make_evidence(records[:1])))
    both = "in bfloat16 (in float32: White-box PGD on Ours). The float32 model"
    assert both in notes(report_table(3, make_evidence(records)))


def test_the_widest_interval_may_be_the_worst_cases():
    """Attacks that fool other images leave a worst case nearer to half than either of them."""
    model = make_model()
    records = [
        make_measurement(model, model, make_attack(name), right=verdicts)
        for name, verdicts in (
            ("fgsm", [image >= 25 for image in range(100)]),
            ("pgd", [image < 75 for image in range(100)]),
        )
    ]
    assert "the widest 95 % interval is ±9.6 points" in notes(
        report_table(3, make_evidence(records))
    ).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize("number", published_numbers())
def test_a_row_has_one_name_in_headings_and_footnotes(number):
    """Footnotes call a recipe what its heading does, not by its own name."""
    text = notes(
        report_table(number, make_evidence(make_answers(number, ["cifar10"])), ["cifar10"])
    )
    own = re.sub(r"Recipes: .*", "", text)
    assert not re.search(r"\b(ours|softmax|adp|yu|ross|madry|vgg19)-(fgsm|pgd|advtrain)\b", own)
    assert not re.search(r"(Loss of|predicted by|and|,) ours\b", own)


def test_the_scale_of_black_box_sources_is_said():
    pgd = make_attack("pgd")
    source = make_model("vgg19", width=0.125)
    text = notes(report_table(3, make_evidence([make_measurement(make_model(), source, pgd)])))
    assert "resnet110 at 0.25 of its width; vgg19 at 0.125 of its width;" in text


def test_footnotes_say_how_the_numbers_were_made():
    cw = make_attack("cw", c=0.1)
    loss = {"name": "pcl", "separation": 4.0, "weight": 0.01}
    start = make_recipe("softmax", model="resnet20", schedule=Schedule(epochs=4))
    model = make_model("ours", model="resnet20", width=1.0, loss=loss, start=start)
    data = make_data(source="an archive", lossy=True, subset=True)
    records = [
        make_measurement(model, data=data, n=400, correct=200),
        make_measurement(model, model, cw, data=data, n=100, correct=50),
    ]
    text = notes(report_table(3, make_evidence(records)))
    assert (
        "Quick scale: resnet20 in place of resnet110; at most the first 8,000 training images; "
        "16 epochs (paper: 500)."
    ) in text
    assert (
        "Images from an archive: lossy copies of the published pixels and "
        "a part of the published set."
    ) in text
    assert "Loss of Ours: pcl (separation = 4.0, weight = 0.01)." in text
    assert "C&W with 100 steps (the paper's Table 2: 1000)." in text
    assert "n = 100 to 400 images; the widest 95 % interval is ±9.6 points." in text
    assert "Measured on CPU." in text
    assert (
        "Not adaptive: the table's own attacks maximise cross-entropy, C&W the logit margin,"
        in text
    )
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
        "Class predicted by Contrastive [23] and Triplet [24]: the nearest prototype or class "
        "mean, not the largest logit."
    ) in text
    assert "Loss of Ours: pcl (separation = 4.0, weight = 1.0)." in text
    assert "Loss of Triplet [24]: triplet (margin = 3.0, alpha = 0.5, weight = 1.0)." in text
    text = notes(report_table(7, make_evidence([clean("adp", 90, "cifar100")])))
    assert "Class predicted by ADP [16]: the largest mean probability of 3 networks." in text


def test_a_data_sets_own_note_is_quoted():
    record = make_measurement(data=make_data(lossy=True, note="JPEG copy, 8,000 images"))
    text = notes(report_table(3, make_evidence([record])))
    assert "Images from torchvision: JPEG copy, 8,000 images." in text


def test_a_scale_says_what_it_cut():
    assert scale_note([(load_recipe("ours-pgd", "mnist", "paper"), 60_000)]) == (
        "Paper scale: sizes as published."
    )
    defense = {**load_recipe("madry", "cifar10", "paper").defense, "steps": 5}
    madry = make_recipe("madry", model="resnet20", defense=defense)
    vgg19 = make_recipe("vgg19", schedule=Schedule(epochs=10))
    assert scale_note([(vgg19, 50_000), (madry, 50_000)]) == (
        "Quick scale: vgg19 at 0.25 of its width; resnet20 in place of resnet110; "
        "the first 8,000 training images; 10 to 12 epochs (paper: 200); "
        "madry with 5 attack steps (paper: 7)."
    )
    cut = load_recipe("ours-pgd", "digits", "paper").adversarial_training.changed(steps=3)
    trained = make_recipe("ours-pgd", "digits", width=1.0, adversarial_training=cut)
    assert scale_note([(trained, 1_297)]) == (
        "Quick scale: 12 epochs (paper: 350); pgd with 3 attack steps (paper: 10)."
    )
    assert scale_note([(make_recipe("softmax", "digits", width=1.0), None)]) == (
        "Quick scale: 12 epochs (paper: 50)."  # 8000 images are more than there are
    )


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        ("torchvision", "the first 8,000 training images"),
        (
            "archive: 8,068 of 50,000 training and 9 of 10,000 test images",
            "the first 8,000 training images",
        ),
        ("archive: 7,068 of 50,000 training and 9 of 10,000 test images", "7,068 training images"),
        ("archive: a part of the published set", "at most the first 8,000 training images"),
    ],
)
def test_a_scale_names_the_training_images_that_were_used(provenance, words):
    count = dataset_spec("cifar10").training_count(provenance)
    assert scale_note([(make_recipe("ours-of-mine"), count)]) == f"Quick scale: {words}."


def test_training_images_are_counted_in_the_training_record():
    part = dataset_spec("cifar10").counts(7_068, 1_017)
    recipe = make_recipe("ours")
    training = make_training(recipe, data=make_data(subset=True, note=part))
    model = make_model("ours", weights=training.weights)
    text = notes(report_table(3, make_evidence([make_measurement(model), training])))
    assert "7,068 training images" in text
    assert "at most" in notes(report_table(3, make_evidence([make_measurement(model)])))


def test_the_independent_result_stands_beside_the_papers_claim():
    text = notes(report_table(3, NOTHING, ["cifar10"]))
    assert "AutoAttack leaves 0.28 %; the claim is 32.32 %" in text
    assert "Croce and Hein" in text
    assert "AutoAttack" not in notes(report_table(3, NOTHING, ["cifar100"]))
    assert "AutoAttack" not in notes(report_table(12, NOTHING))
