"""What tables compare: recipes on the same images, several seeds, models of a user's own."""

from __future__ import annotations

import json
import re
from statistics import fmean, stdev

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
from reading import notes

from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.statistics import interval_of_mean
from robustbench_pcl.paper.tables import Cell, published
from robustbench_pcl.report.render import FORMATS, render
from robustbench_pcl.report.table import report_table

PGD = make_attack("pgd")


def entries(table, column, target=None):
    """The entries of a row-wise table under a heading, or that of one recipe."""
    (section,) = table.sections
    place = [heading.name for heading in table.columns].index(column)
    found = {row.heading.target: row.entries[place] for row in section.rows}
    return found if target is None else found[target]


def clean(target, correct, n=20, **changes):
    """Clean verdicts, the first ones right."""
    seed = {"seed": changes.pop("seed")} if "seed" in changes else {}
    return make_measurement(make_model(target, **seed), correct=correct, n=n, **changes)


def best(*records):
    table = report_table(3, make_evidence(records), ["cifar10"])
    return [entry.best for entry in entries(table, "Clean").values()]


def test_only_a_significant_difference_is_marked():
    """Of 20 images, six more are significant (p = 2/64), five more are not (p = 2/32)."""
    assert best(clean("softmax", 14), clean("ours", 20)) == [False, True, False, False]
    assert not any(best(clean("softmax", 15), clean("ours", 20)))
    assert not any(best(clean("ours", 20)))
    assert not any(best(clean("softmax", 20), clean("ours", 20)))


def test_recipes_that_cannot_be_told_apart_are_all_left_unmarked():
    assert not any(best(clean("softmax", 2), clean("ours", 19), clean("ours-pgd", 20)))
    marked = best(clean("softmax", 2), clean("ours", 10), clean("ours-pgd", 20))
    assert marked == [False, False, False, True]


def test_how_images_are_paired_decides_and_not_only_how_many_are_right():
    """8 more right of 20, but on images that the other one gets wrong and the other way round."""
    first = make_measurement(make_model("ours"), right=right("1" * 14 + "0" * 6))
    nested = make_measurement(make_model("softmax"), right=right("1" * 6 + "0" * 14))
    crossed = make_measurement(make_model("softmax"), right=right("0" * 14 + "1" * 6))
    assert any(best(first, nested))
    assert not any(best(first, crossed))


def test_different_images_are_never_compared():
    ours = clean("ours", 20)
    assert any(best(ours, clean("softmax", 2)))
    assert not any(best(ours, clean("softmax", 2, data=make_data(digest="other"))))
    assert not any(best(ours, clean("softmax", 1, n=10)))


def test_all_steps_are_not_better_than_an_early_stop():
    """An image that is fooled on the way and right at the end counts only for one of them."""

    def marked(ours, softmax, modes):
        records = [
            make_measurement(model, model, PGD, correct=correct, n=20, mode=mode)
            for model, correct, mode in zip(
                (make_model("ours"), make_model("softmax")), (ours, softmax), modes, strict=True
            )
        ]
        found = entries(report_table(3, make_evidence(records)), "White-box PGD")
        return [found[name].best for name in ("ours", "softmax")]

    assert marked(20, 2, ("fast", "exact")) == [True, False]
    assert marked(20, 2, ("early-stop", "early-stop")) == [True, False]
    assert marked(20, 2, ("early-stop", "fast")) == [True, False]
    assert marked(20, 2, ("fast", "early-stop")) == [False, False]


@pytest.mark.parametrize("form", ["text", "md", "latex", "html"])
def test_the_legend_says_what_the_mark_means(form):
    records = [clean("ours", 20), clean("softmax", 2)]
    text = re.sub(r"\s+", " ", render(report_table(3, make_evidence(records)), form))
    assert "significantly better than each other recipe compared, on the same images" in text
    assert re.search(r"\(exact McNemar test, 5(~|&nbsp;| )\\?% level\)", text)


SEEDS = {"softmax": (60, 62, 61), "ours": (80, 82, 84)}


def of_seeds(**correct):
    return [
        clean(name, count, n=100, seed=seed)
        for name, counts in correct.items()
        for seed, count in enumerate(counts)
    ]


def over_seeds(*records, seeds=(0, 1, 2), **options):
    return report_table(3, make_evidence(records), ["cifar10"], seeds=seeds, **options)


def test_several_seeds_are_shown_as_mean_and_spread():
    table = over_seeds(*of_seeds(**SEEDS))
    entry = entries(table, "Clean", "ours")
    assert (entry.measured, entry.seeds, entry.n) == (fmean(SEEDS["ours"]), 3, 100)
    assert entry.spread == pytest.approx(stdev(SEEDS["ours"]))
    assert entry.interval == pytest.approx(interval_of_mean(SEEDS["ours"]))
    assert entry.difference == round(82 - 90.45, 9)
    assert "Means over trainings with seed 0, 1 and 2, ± their standard deviation; " in notes(table)
    assert "checkpoints are stored" not in notes(table)
    one = report_table(3, make_evidence(of_seeds(**SEEDS)), ["cifar10"], seeds=[1])
    assert entries(one, "Clean", "ours").measured == 82
    assert entries(one, "Clean", "ours").spread is None


def test_several_seeds_are_compared_by_their_spread():
    marked = [entry.best for entry in entries(over_seeds(*of_seeds(**SEEDS)), "Clean").values()]
    assert marked == [False, True, False, False]
    apart = of_seeds(softmax=(60, 62, 61), ours=(50, 98, 99))
    assert not any(entry.best for entry in entries(over_seeds(*apart), "Clean").values())
    text = re.sub(r"\s+", " ", render(over_seeds(*apart), "text"))
    assert "Line by line: mean of 3 seeds, its standard deviation (±)" in text
    assert "(Welch's t-test over the seeds, 5 % level)" in text


def test_every_format_has_mean_and_spread():
    table = over_seeds(*of_seeds(ours=(80, 82, 84)))
    for form, words in (
        ("text", r"Ours +82\.0 .*\n +± +2\.0"),
        ("md", r"82\.0 ± 2\.0 \("),
        ("latex", r"\\scriptsize \$\\pm\$ & .*& |2\.0"),
        ("html", r"82\.0.*<small>±2\.0</small>"),
    ):
        assert re.search(words, render(table, form))
    cells = json.loads(render(table, "json"))["rows"]
    (cell,) = [cell for cell in cells if cell["measured"] is not None]
    assert (cell["measured"], cell["spread"], cell["seeds"]) == (82, 2, [0, 1, 2])
    assert max(map(len, render(table, "text").splitlines())) <= 80


def test_seeds_that_are_missing_are_named_and_can_be_measured():
    table = over_seeds(*of_seeds(ours=(80, 82), softmax=(60,)))
    assert "Of fewer seeds: Clean on Softmax and Ours." in notes(table)
    assert entries(table, "Clean", "softmax").seeds == 1
    (section,) = table.sections
    assert (section.measured, section.missing) == (3, 3 * 44 - 3)
    assert table.commands == tuple(
        f"pclbench run --table 3 --dataset cifar10 --scale quick --seed {seed}" for seed in range(3)
    )
    filled = over_seeds(*of_seeds(ours=(80, 82, 84)))
    assert "fewer" not in notes(filled)


def test_the_worst_case_of_several_seeds_is_the_mean_of_theirs():
    records = []
    for seed, bits in enumerate(("1100", "1000", "1111")):
        model = make_model("ours", seed=seed)
        records += [
            make_measurement(model, right=right("1111")),
            make_measurement(model, model, PGD, right=right(bits)),
        ]
    table = over_seeds(*records)
    worst = entries(table, "White-box Worst case", "ours")
    assert worst.measured == pytest.approx(fmean((50, 25, 100)))
    assert (worst.seeds, worst.n) == (3, 4)
    assert [case.seed for case in table.sections[0].worst_cases] == [0, 1, 2]


MINE = make_model("mine")


@pytest.mark.parametrize("number", [3, 5, 13])
def test_a_model_stands_beside_the_papers_in_every_format(number):
    attack = make_attack("pgd", eps=0.02 if number == 5 else 0.03)
    record = make_measurement(MINE, MINE, attack, right=right("1110"))
    table = report_table(number, make_evidence([record]), models=["mine"])
    (section,) = table.sections
    asked = [e for e in section.entries if e.cell.target == "mine" and not e.is_summary]
    assert [entry.measured for entry in asked if entry.measured is not None] == [75]
    assert all(entry.published is None for entry in asked)
    worst = [e for e in section.entries if e.cell.target == "mine" and e.is_summary]
    assert [entry.measured for entry in worst] == [75, None]
    for form in FORMATS:
        assert "mine" in render(table, form)
    assert max(map(len, render(table, "text").splitlines())) <= 80
    # What the paper's command measures is the paper's.
    assert section.missing == len(published(number).positions("cifar10"))
    assert "mine" not in render(report_table(number, make_evidence([record])), "text")


def test_a_model_is_beneath_the_papers_and_compared_with_them():
    records = [clean("softmax", 3), clean("mine", 20), clean("ours", 10)]
    table = report_table(3, make_evidence(records), models=["mine", "ours"])
    (section,) = table.sections
    assert [row.heading.target for row in section.rows][3:] == ["ours-pgd", "mine"]
    assert [entry.best for entry in entries(table, "Clean").values()] == [False] * 4 + [True]


def test_a_model_of_another_scale_is_shown_at_its_own_and_the_notes_say_so():
    paper = make_measurement(make_model("ours", scale="paper", width=1.0), correct=900)
    records = [paper, clean("mine", 15), clean("softmax", 3)]
    table = report_table(3, make_evidence(records), models=["mine"])
    (section,) = table.sections
    assert section.scale == "paper"
    assert entries(table, "Clean", "mine").measured == 75
    assert entries(table, "Clean", "softmax").measured is None
    assert "At quick scale: mine." in notes(table)
    assert "Paper scale: " in notes(table)
    assert "Quick scale: " in notes(table)
    only = report_table(3, make_evidence(records), scale="paper", models=["mine"])
    assert entries(only, "Clean", "mine").measured is None


def test_the_command_for_a_stronger_attack_on_a_model_is_its_own():
    models = (MINE, make_model("ours"))
    records = [make_measurement(model, model, PGD, right=right("1110")) for model in models]
    mine = report_table(3, make_evidence(records[:1]), models=["mine"])
    command = "pclbench attack mine --dataset cifar10 --scale quick --attack strongest --eps 0.03"
    assert f"run yet: {command}." in notes(mine)
    both = notes(report_table(3, make_evidence(records), models=["mine"]))
    assert f"--with strongest && {command}." in both


def test_data_sets_on_which_only_the_model_is_measured_are_shown():
    elsewhere = make_answer(Cell(dataset="digits", target="mine"), 90)
    table = report_table(3, make_evidence([clean("ours", 10), elsewhere]), models=["mine"])
    assert [section.dataset for section in table.sections] == ["cifar10", "digits"]
    assert entries_of(table.sections[1], "mine") == [90]


def entries_of(section, target):
    asked = [entry for entry in section.entries if entry.cell.target == target]
    return [entry.measured for entry in asked if entry.measured is not None]


def test_a_model_that_nothing_is_stored_of_is_refused_with_those_that_are():
    evidence = make_evidence([clean("ours", 10), clean("mine", 10)])
    with pytest.raises(UserError, match=r"no stored model called 'mime'.*mean mine\?.*mine, ours"):
        report_table(3, evidence, models=["mime"])
    with pytest.raises(UserError, match="There are none at all"):
        report_table(3, make_evidence([]), models=["mime"])
