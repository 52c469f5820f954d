"""What is stored about one model or two: every number against a count made by hand."""

from __future__ import annotations

import json
import re
from io import StringIO

import pandas as pd
import pytest
from fabricated import (
    make_answer,
    make_attack,
    make_data,
    make_evidence,
    make_measurement,
    make_model,
    right,
)
from reading import parsed

from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.tables import Cell
from robustbench_pcl.report.figures import model_figure, model_sweep
from robustbench_pcl.report.model_formats import lines, render_models
from robustbench_pcl.report.model_report import attacked_models, stored_budgets
from robustbench_pcl.report.page import full_page
from robustbench_pcl.report.render import FORMATS
from robustbench_pcl.store.rules import wilson

OURS, SOFTMAX = make_model("ours"), make_model("softmax")
PGD, MARGIN, FGSM = make_attack("pgd"), make_attack("pgd", loss="margin"), make_attack("fgsm")


def on(model, bits, attack=None, source=None, **changes):
    """The measurement of a model, on its own images unless they are another's."""
    source = (source or model) if attack else None
    return make_measurement(model, source, attack, right=right(bits), **changes)


RECORDS = [
    on(OURS, "1111111100"),
    on(OURS, "0011111100", PGD, seconds=4.0, forward_passes=120, backward_passes=90),
    on(OURS, "1000111100", MARGIN),
    on(OURS, "1111111001", FGSM, SOFTMAX),
]


def budgets(*records, names=("ours",), **asked):
    return stored_budgets(make_evidence(records), names, **asked)


def cells(budget):
    """A section's lines by their first entry."""
    return {name: entries for name, *entries in lines(budget)}


def test_each_attack_has_what_it_left_felled_and_took():
    (budget,) = budgets(*RECORDS)
    assert budget.heading == "ours on CIFAR-10, quick scale, L-infinity, eps = 0.03, n = 10"
    shown = cells(budget)
    assert list(shown) == ["Clean", "FGSM from softmax", "PGD", "PGD on margin", "Worst case"]
    # Right when clean: images 0 to 7. Felled: 7 by FGSM, 0 and 1 by PGD, 1 to 3 on the margin.
    assert shown["PGD"][2:] == ["1", "40.0", "4.0", "12.0", "9.0"]
    assert shown["PGD on margin"][2:4] == ["2", "60.0"]
    assert shown["FGSM from softmax"][2:4] == ["1", "20.0"]
    assert shown["PGD"][0] == "60.0"
    assert shown["Worst case"][0] == "30.0"
    assert budget.worst_case[1] == pytest.approx([100 * end for end in wilson(3, 10)])
    assert budget.felled_by() == [[1], [1, 2], [2], [2], [], [], [], [0], None, None]


def test_what_is_left_is_estimated_from_the_images_that_few_attacks_felled():
    (budget,) = budgets(*RECORDS)
    # Felled by one attack: 0, 2, 3, 7; by two: 1. So 4 * 3 / (2 * 2), of the 3 that withstood.
    assert budget.missed == 3
    text = " ".join(budget.notes())
    assert "Of the 3 images that withstood, about 3 could still be fooled" in text
    assert "an estimate: it assumes that attacks find images independently" in text


def test_an_estimate_is_never_more_than_what_is_left():
    (budget,) = budgets(on(OURS, "11111"), on(OURS, "00111", PGD), on(OURS, "11001", MARGIN))
    assert budget.missed == 1  # not 4 * 3 / 2


@pytest.mark.parametrize(
    ("bits", "expected"),
    [(["1100"], "once there are two attacks"), (["1100", "0011"], "No image withstood")],
)
def test_where_nothing_can_be_estimated_it_is_said(bits, expected):
    attacked = [on(OURS, each, attack) for each, attack in zip(bits, (PGD, MARGIN), strict=False)]
    (budget,) = budgets(on(OURS, "1111"), *attacked)
    assert expected in " ".join(budget.notes())


def test_the_worst_case_of_a_budget_is_over_smaller_ones_too():
    weak = make_attack("pgd", eps=0.01)
    only_weak = make_attack("fgsm", eps=0.01)
    small, large = budgets(
        on(OURS, "11111111"),
        on(OURS, "01111111", weak),
        on(OURS, "10001111", PGD),
        on(OURS, "11110111", only_weak),
    )
    assert (small.eps, large.eps) == (0.01, 0.03)
    assert list(cells(small)) == ["Clean", "FGSM", "PGD", "Worst case"]
    assert list(cells(large)) == ["Clean", "FGSM, eps 0.01", "PGD", "Worst case"]
    assert cells(small)["Worst case"][0] == "75.0"
    assert cells(large)["PGD"][:1] == ["62.5"]  # its own at this budget
    assert cells(large)["PGD"][3] == "80.0"  # with what it felled at the smaller one
    assert cells(large)["Worst case"][0] == "37.5"


def test_images_of_another_size_or_beyond_the_budget_do_not_mix():
    far = make_attack("cw")
    many, few, unbounded = (
        [on(OURS, "11110000", PGD)],
        [on(OURS, "1000", PGD), on(OURS, "1111")],
        [on(OURS, "00000000", far)],
    )
    first, minimal, second = budgets(*many, *unbounded, *few)
    assert (first.model.n, minimal.norm, second.model.n) == (8, "l2", 4)
    assert cells(first)["Worst case"][0] == "50.0"
    assert "L2, no budget" in minimal.heading
    assert cells(second)["Worst case"][0] == "25.0"
    assert "No clean accuracy" in " ".join(first.notes())
    other = on(OURS, "0000", PGD, data=make_data(digest="others"))
    assert len(budgets(*few, other)) == 2


def test_an_attack_in_another_norm_counts_where_its_images_lie_within_the_budget():
    euclidean = {"name": "cw", "c": 1.0}
    near = on(OURS, "1101", euclidean, largest_linf=0.03, largest_l2=0.9)
    far = on(OURS, "0001", {**euclidean, "c": 9.0}, largest_linf=0.04, largest_l2=1.1)
    inside, minimal = budgets(on(OURS, "1110", PGD), near, far)
    assert list(cells(inside)) == ["C&W, c 1", "PGD", "Worst case"]
    assert cells(inside)["Worst case"][0] == "50.0"
    assert list(cells(minimal)) == ["C&W, c 1", "C&W, c 9", "Worst case"]


def test_of_two_ways_to_run_an_attack_the_complete_one_is_shown_and_both_count():
    (budget,) = budgets(
        on(OURS, "11111"), on(OURS, "00111", PGD), on(OURS, "10011", PGD, mode="early-stop")
    )
    assert cells(budget)["PGD"][0] == "60.0"
    assert cells(budget)["Worst case"][0] == "40.0"
    assert not any("Early stop" in note for note in budget.notes())


def test_a_sequence_says_what_each_stage_felled():
    stages = ("APGD on cross-entropy", "FAB", "Square")
    auto = {"name": "auto", "eps": 0.03, "version": "standard"}
    (budget,) = budgets(
        on(OURS, "11110"),
        on(OURS, "00100", auto, stages=stages, felled_by="0202000401", mode="early-stop"),
    )
    assert budget.attacks[0].stages == dict(zip(stages, (2, 0, 1), strict=True))
    text = " ".join(budget.notes())
    assert "in their order: 2 by APGD on cross-entropy; 1 by Square; none by the other 1." in text
    assert "Early stop: " in text


def test_namesakes_are_told_apart():
    other = make_model("ours", seed=1)
    first, second = budgets(on(OURS, "10", PGD), on(other, "11", PGD))
    assert (first.name, second.name) == ("ours (seed 0)", "ours (seed 1)")
    (only,) = budgets(on(OURS, "10", PGD), on(other, "11", PGD), seed=1)
    assert (only.name, cells(only)["Worst case"][0]) == ("ours", "100")
    again = make_model("ours", weights="0123456789ab")
    names = [budget.name for budget in budgets(on(OURS, "10", PGD), on(again, "11", PGD))]
    assert names == [f"ours (weights {OURS.weights[:8]})", "ours (weights 01234567)"]


def test_attacks_of_one_name_are_told_apart():
    sources = [make_model("softmax", weights=digit * 12) for digit in "ab"]
    transferred = [on(OURS, "10", FGSM, source) for source in sources]
    (budget,) = budgets(*transferred, on(OURS, "11", PGD), on(OURS, "11", PGD, id="b", seed=1))
    assert [each.label for each in budget.attacks] == [
        "PGD, seed 0",
        "PGD, seed 1",
        "FGSM from softmax, seed 0, weights aaaaaaaa",
        "FGSM from softmax, seed 0, weights bbbbbbbb",
    ]


def test_two_models_are_compared_on_the_same_images_under_the_same_attacks():
    mine, theirs = "1" * 18 + "00", "1" * 8 + "0" * 11 + "1"
    records = [
        *(on(OURS, "1" * 20), on(SOFTMAX, "1" * 20)),
        *(on(OURS, mine, PGD), on(SOFTMAX, theirs, PGD)),
        *(on(OURS, "1" * 20, FGSM), on(SOFTMAX, "0" + "1" * 19, MARGIN)),
    ]
    found = budgets(*records, names=("ours", "softmax"))
    clean, pgd = json.loads(render_models(found, "json"))["comparisons"]
    assert (clean["first"], clean["second"], clean["attack"]) == ("ours", "softmax", "Clean")
    assert (clean["only_first"], clean["only_second"], clean["p"]) == (0, 0, 1)
    assert (pgd["attack"], pgd["first_accuracy"], pgd["second_accuracy"]) == ("PGD", 90, 45)
    assert (pgd["only_first"], pgd["only_second"]) == (10, 1)
    assert pgd["p"] == pytest.approx(2 * 12 / 2**11)
    assert "ours and softmax on CIFAR-10" in render_models(found, "text")
    again = [*records, on(OURS, "0" + "1" * 19, MARGIN)]
    found = budgets(*again, names=("ours", "softmax"))
    last = json.loads(render_models(found, "json"))["comparisons"][-1]
    assert (last["attack"], last["first_accuracy"]) == ("All of these", 85)
    assert (last["second_accuracy"], last["only_first"], last["only_second"]) == (40, 10, 1)


@pytest.mark.parametrize(
    "changes", [{"data": make_data(digest="others")}, {"right": right("110")}, {"attack": FGSM}]
)
def test_models_with_nothing_in_common_are_not_compared(changes):
    other = {"right": right("11"), "attack": PGD, **changes}
    records = [on(OURS, "10", PGD), make_measurement(SOFTMAX, SOFTMAX, **other)]
    found = budgets(*records, names=("ours", "softmax"))
    assert json.loads(render_models(found, "json"))["comparisons"] == []


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_numbers(form):
    long = on(OURS, "1110000000", make_attack("pgd", steps=37, relative_step_size=0.123))
    softmax = [on(SOFTMAX, "1111111000"), on(SOFTMAX, "0000111000", PGD)]
    found = budgets(*RECORDS, long, *softmax, names=("ours", "softmax"))
    written = render_models(found, form)
    assert written.endswith("\n")
    assert all(number in written for number in ("80.0", "60.0", "30.0"))
    if form == "text":
        assert max(map(len, written.splitlines())) <= 80
    elif form == "html":
        assert ["60.0", "31.3 to 83.2", "1", "25.0", "4.0", "12.0", "9.0"] in parsed(written).rows
    elif form == "csv":
        frame = pd.read_csv(StringIO(written))
        assert len(frame) == len([row for each in found for row in lines(each)])
        assert frame["budget"].tolist() == [0.03] * len(frame)
        assert frame["accuracy"].notna().all()
    elif form == "json":
        assert [row["felled_alone"] for row in json.loads(written)["rows"]].count(1) >= 1
    elif form == "latex":
        assert len(re.findall(r"\\begin\{table\*?\}", written)) == 3
        assert "L-infinity" in written
    else:
        assert "| PGD " in written


def test_a_model_that_was_never_attacked_says_how_to():
    found = budgets(make_answer(Cell(dataset="cifar10", target="ours"), 87.6))
    assert "pclbench attack ours --dataset cifar10 --scale quick" in render_models(found, "text")
    with pytest.raises(UserError, match="No attack with a budget") as error:
        model_figure(found)
    assert "pclbench attack ours --eps" in error.value.cure


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"names": ("nobody",)}, "model called 'nobody'.* Stored: ours, softmax."),
        ({"datasets": ["mnist"]}, "It was measured on cifar10 at quick scale"),
        ({"seed": 7}, "leave --dataset, --scale and --seed out"),
        ({"datasets": ["cifr10"]}, "Did you mean cifar10"),
    ],
)
def test_what_is_not_stored_is_named_with_what_is(asked, expected):
    with pytest.raises(UserError, match=expected):
        budgets(*RECORDS, on(SOFTMAX, "1"), **asked)


def test_the_figure_shows_each_attack_from_the_clean_accuracy_on():
    weak = make_attack("pgd", eps=0.01)
    records = [*RECORDS, on(OURS, "0111111100", weak), on(OURS, "0000000000", make_attack("cw"))]
    found = budgets(*records)
    assert [budget.eps for budget in found] == [0.01, 0.03, None]
    drawn = model_sweep(found[:2])
    (plot,) = drawn.plots
    curves = {
        curve.label: [(point.eps, point.accuracy) for point in curve.points]
        for curve in plot.curves
    }
    assert curves == {
        "PGD": [(0, 80), (0.01, 70), (0.03, 60)],
        "PGD on margin": [(0, 80), (0.03, 50)],
        "Worst case": [(0, 80), (0.01, 70), (0.03, 30)],
    }
    assert (drawn.title, plot.standard) == ("ours on CIFAR-10", 0.03)
    assert plot.title == "L-infinity, quick scale, n = 10"
    figure = model_figure(found)
    assert figure.title == "ours: accuracy against the attack's budget"
    svg = figure.drawing.svg()
    assert all(f">{words}<" in svg for words in (*curves, drawn.title, plot.title))


def test_the_page_has_every_attacked_model_or_those_named():
    evidence = make_evidence([*RECORDS, on(SOFTMAX, "1111111000")])
    assert [part[0].model.target for part in attacked_models(evidence)] == ["ours"]
    text = full_page(evidence)
    parsed(text.removeprefix("<!DOCTYPE html>"))
    assert text.count("<summary>What is stored of ours</summary>") == 1
    assert "against the attack's budget" not in text
    assert 'href="#models"' not in full_page(evidence, [3])
    text = full_page(evidence, [3], models=["ours", "softmax"])
    parsed(text.removeprefix("<!DOCTYPE html>"))
    assert "What is stored of ours and softmax" in text
    assert "ours and softmax: accuracy against the attack&#39;s budget" in text
    assert "--page --model ours --model softmax" in text
