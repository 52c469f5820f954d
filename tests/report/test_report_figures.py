"""The paper's figures from stored records: what is drawn, what is said, what is missing."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

import pytest
from fabricated import ENVIRONMENT, make_evidence, make_measurement, make_model
from fabricated_embeddings import make_embedding, make_embeddings, make_layout, with_regions

from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.figures import FIGURES
from robustbench_pcl.report.figure_sections import figure_sections
from robustbench_pcl.report.figures import paper_figures, report_figure
from robustbench_pcl.report.sweeps import Curve, Missing, Point, weaker_than_one_step
from robustbench_pcl.store.rules import wilson

NOTHING = make_evidence([])
FEATURES = [1, 4, 5, 6]
ACCURACY = "90.0\N{NO-BREAK SPACE}% [79.9\N{EN DASH}95.3]"
"""Of 54 of 60 images, with Wilson's interval."""
SHARES = {"FGSM": 0.8, "BIM": 0.6, "MIM": 0.65, "PGD": 0.4, "PGD on margin": 0.3}


def words(svg: str) -> list[str]:
    return [text.strip() for text in ElementTree.fromstring(svg).itertext() if text.strip()]


def holding(*embeddings):
    return make_evidence([], embeddings)


def sweep_records(
    shares=SHARES, dataset="cifar10", *, n=1000, skip=(), mode="exact", name="ours", **parameters
):
    """Accuracies that fall with the budget, each attack to its own share of the rest."""
    target = make_model(name, dataset=dataset)
    for attack in FIGURES[7].attacks:
        for number, (eps, cell) in enumerate(FIGURES[7].cells(dataset, attack, name)):
            if (attack.label, eps) in skip:
                continue
            complete = cell.attack_for("quick")
            dump = {**complete.dump(), **parameters} if complete else None
            correct = round(n * 0.9 * shares[attack.label] ** number)
            source = target if dump else None
            yield make_measurement(target, source, dump, correct, n, mode=mode if dump else "exact")


PRINTED = "The paper's numbers: Tables 3, 5 and 9."


def measured_curves(section):
    """The curves of a section's plots that are not the paper's."""
    return [curve for plot in section.part.plots for curve in plot.curves if not curve.published]


def swept(*arguments, **more):
    return make_evidence(sweep_records(*arguments, **more))


@pytest.mark.parametrize("number", FEATURES)
def test_a_figure_of_features_shows_every_panel(number, tmp_path):
    figure = FIGURES[number]
    drawn = report_figure(number, holding(*make_embeddings(tmp_path, figure)))
    assert (drawn.stored, drawn.missing) == (len(figure.panels), 0)
    assert drawn.commands == ()
    assert drawn.title.startswith(f"Figure {number}. ")
    assert "Digits, demo scale, n = 60 images." in drawn.caption
    assert "{" not in drawn.caption
    svg = drawn.drawing.svg()
    shown = words(svg)
    assert "not stored yet" not in shown
    assert "Digits" in shown
    for panel in figure.panels:
        label, _, accuracy = panel.label.format(epochs=0, accuracy=ACCURACY).partition(": ")
        assert label in shown or panel.trained, label
        assert not accuracy or accuracy in shown
    assert drawn.drawing.svg() == svg


def test_a_figure_is_the_same_to_the_byte_on_another_day(tmp_path):
    evidence = holding(*make_embeddings(tmp_path, FIGURES[1]))
    first, second = (report_figure(1, evidence).drawing for _ in range(2))
    assert (first.svg(), first.png(), first.pdf()) == (second.svg(), second.png(), second.pdf())


def test_epochs_and_budgets_are_filled_in(tmp_path):
    evidence = holding(*make_embeddings(tmp_path, FIGURES[6]))
    shown = words(report_figure(6, evidence).drawing.svg())
    titles = ["Start", *(f"Epoch {epoch}" for epoch in (3, 6, 12))]
    assert [word for word in shown if word in titles] == titles
    assert shown.count(ACCURACY) == 4
    both = [*make_embeddings(tmp_path, FIGURES[1]), *make_embeddings(tmp_path, FIGURES[1], "mnist")]
    assert "with eps = 0.3 and 0.1," in report_figure(1, holding(*both)).caption


def test_panels_that_are_compared_show_the_same_part_of_the_plane(tmp_path):
    def windows(number):
        found = [
            make_embedding(tmp_path, panel, layout=make_layout(n=20 + 10 * place))
            for place, panel in enumerate(FIGURES[number].panels)
        ]
        (section,) = figure_sections(number, holding(*found), ["digits"])
        return [plot.beside is not None and plot.beside.tobytes() for plot in section.part.plots]

    assert len(set(windows(6))) == 1
    one, two, three, four = windows(1)
    assert one == two
    assert three == four
    assert one != three
    assert windows(5) == [False] * 4


@pytest.mark.parametrize("number", [1, 5, 6])
def test_what_is_missing_is_named_with_the_command(number, tmp_path):
    panels = FIGURES[number].panels
    drawn = report_figure(number, holding(make_embedding(tmp_path, panels[0])), ["digits"], seed=0)
    command = f"pclbench run --figure {number} --dataset digits --scale demo --seed 0"
    assert drawn.commands == (command,)
    assert f"Make it with: {command}." in drawn.caption
    shown = words(drawn.drawing.svg())
    assert shown.count("not stored yet") == len(panels) - 1
    assert command in " ".join(shown)


def test_the_missing_panels_have_their_names(tmp_path):
    some = [make_embedding(tmp_path, panel) for panel in FIGURES[6].panels[:2]]
    caption = report_figure(6, holding(*some), ["digits"]).caption
    assert "Digits: not stored yet: Epoch 6; Epoch 12." in caption


def test_a_figure_that_compares_is_none_without_both_panels(tmp_path):
    """Figure 4: alone, one panel says nothing."""
    ours, triplet = FIGURES[4].panels
    half, cifar = make_embedding(tmp_path, ours), make_embedding(tmp_path, ours, "cifar100")
    both = [cifar, make_embedding(tmp_path, triplet, "cifar100")]
    command = "pclbench run --figure 4 --dataset digits --scale demo"
    with pytest.raises(UserError, match=f"not stored yet: Triplet loss.*{command}"):
        report_figure(4, holding(half), ["digits"])
    with pytest.raises(UserError, match="CIFAR-100 has not all of them: nothing is stored yet"):
        report_figure(4, NOTHING)
    (section,) = report_figure(4, holding(half, *both)).sections
    assert section.dataset == "cifar100"
    assert [figure.title for figure in paper_figures(holding(half))] == []
    assert [figure.title for figure in paper_figures(holding(half, *both))] == [
        "Figure 4. Prototype conformity and triplet loss: CIFAR-100"
    ]


@pytest.mark.parametrize("number", [1, 5, 6, 7])
def test_without_evidence_the_papers_data_sets_wait(number):
    drawn = report_figure(number, NOTHING)
    assert drawn.stored == 0 < drawn.missing
    assert drawn.commands == tuple(
        f"pclbench run --figure {number} --dataset {name}" for name in FIGURES[number].datasets
    )
    assert "nothing is stored yet" in drawn.caption
    assert {"not stored yet", "not measured yet"} & set(words(drawn.drawing.svg()))


def test_unknown_figures_and_data_sets_are_refused():
    with pytest.raises(UserError, match="no figure 2"):
        report_figure(2, NOTHING)
    with pytest.raises(UserError, match="no data set"):
        report_figure(5, NOTHING, ["imagenet"])


def test_the_most_faithful_scale_is_shown_unless_another_is_asked_for(tmp_path):
    stored = holding(
        *make_embeddings(tmp_path, FIGURES[5], scale="demo"),
        *make_embeddings(tmp_path, FIGURES[5], scale="quick"),
    )
    assert "quick scale" in report_figure(5, stored).caption
    assert "demo scale" in report_figure(5, stored, scale="demo").caption
    assert not report_figure(5, stored, ["digits"], scale="paper").stored
    assert not report_figure(5, stored, ["digits"], seed=1).stored


def test_one_model_stands_for_a_recipe(tmp_path):
    """Also where the same recipe was trained twice, to different weights."""
    figure = FIGURES[5]
    whole = make_embeddings(tmp_path, figure, weights="whole", day=1)
    newer = make_embedding(tmp_path, figure.panels[1], weights="newer", day=2)
    (section,) = figure_sections(5, holding(*whole, newer), ["digits"])
    assert [plot.layout.points.tolist() for plot in section.part.plots] == [
        embedding.layout().points.tolist() for embedding in whole
    ]
    again = make_embeddings(tmp_path, figure, weights="again", day=3, layout=make_layout(n=40))
    (section,) = figure_sections(5, holding(*whole, newer, *again), ["digits"])
    assert section.images == (40,) * 4
    assert section.notes == ("Of ours 3 models are stored; shown is the one with weights again.",)


@pytest.mark.parametrize(
    "change", [{"eps": 0.2}, {"loss": "margin"}, {"steps": 40}, {"relative_step_size": 0.01}]
)
def test_another_attack_is_not_taken_for_the_one_asked_for(change, tmp_path):
    attacked = FIGURES[1].panels[3]
    stored = make_embedding(tmp_path, attacked)
    (section,) = figure_sections(1, holding(stored), ["digits"])
    assert section.images
    other = make_embedding(tmp_path, attacked, attack={**stored.spec.view.attack, **change})
    (section,) = figure_sections(1, holding(other), ["digits"])
    assert not section.images


def test_some_of_many_classes_are_said_to_be_some(tmp_path):
    classes = tuple(range(0, 100, 10))
    stored = make_embeddings(tmp_path, FIGURES[4], "cifar100", classes=classes)
    drawn = report_figure(4, holding(*stored))
    assert "10 of the 100 classes, drawn at random." in drawn.caption
    assert "6 mushroom" not in words(drawn.drawing.svg())
    assert "2 chair" in words(drawn.drawing.svg())


def test_the_sweep_shows_every_attack():
    drawn = report_figure(7, swept())
    svg = drawn.drawing.svg()
    assert {*SHARES, "CIFAR-10"} <= set(words(svg))
    assert (drawn.stored, drawn.missing, drawn.commands) == (31, 0, ())
    assert "CIFAR-10, quick scale, n = 1,000 images." in drawn.caption
    assert "ours: no iterative attack is weaker than FGSM beyond both intervals." in drawn.caption
    assert report_figure(7, swept()).drawing.svg() == svg


def test_a_weaker_attack_never_answers_for_the_papers():
    """PGD with a tiny step leaves most images alone; it is not the PGD that is asked for."""
    weak = swept(relative_step_size=0.001)
    (section,) = figure_sections(7, weak, ["cifar10"])
    assert section.images == (1000,)  # the clean accuracy
    assert {point.eps for curve in measured_curves(section) for point in curve.points} == {0.0}


def test_early_stop_is_said_where_it_answers():
    assert "Early stop" not in report_figure(7, swept(mode="fast")).caption
    drawn = report_figure(7, swept(mode="early-stop"))
    assert drawn.stored == 31
    assert "at most that after all steps: FGSM, eps 0.0075, FGSM" in drawn.caption
    both = [*sweep_records(mode="early-stop"), *sweep_records({**SHARES, "BIM": 0.61})]
    assert "Early stop" not in report_figure(7, make_evidence(both)).caption


def test_an_iterative_attack_that_is_weaker_than_one_step_is_named():
    caption = report_figure(7, swept({**SHARES, "BIM": 0.9})).caption
    assert "ours: weaker than FGSM beyond both intervals: BIM at eps = 0.0075, BIM at" in caption
    assert "masked gradients" in caption
    assert "PGD at" not in caption
    assert "PGD on the margin loss is not in the paper's figure" in caption


@pytest.mark.parametrize(("low", "named"), [(50.0, False), (50.1, True), (49.0, False)])
def test_weaker_means_beyond_both_intervals(low, named):
    single = Curve("FGSM", (Point(0.1, 45, (40.0, 50.0)),))
    other = Curve("BIM", (Point(0.1, 60, (low, 70.0)), Point(0.2, 99, (98.0, 100.0))))
    assert list(weaker_than_one_step([single, other])) == ([("BIM", 0.1)] if named else [])


def test_accuracies_that_are_missing_are_named():
    missing = {("BIM", 0.03), ("PGD on margin", 0.12)}
    (section,) = figure_sections(7, swept(skip=missing), ["cifar10"])
    assert section.missing == (Missing("BIM", 0.03), Missing("PGD on margin", 0.12))
    assert section.wanting == "not stored yet: BIM at eps = 0.03; PGD on margin at eps = 0.12"
    assert section.command == "pclbench run --figure 7 --dataset cifar10 --scale quick"
    assert [len(curve.points) for curve in measured_curves(section)] == [7, 6, 7, 7, 6]
    assert section.notes == (
        PRINTED,
    )  # as long as that is missing, no attack is found to be as it should


def test_all_curves_are_of_one_model():
    other = make_model("ours", "other")
    record = make_measurement(other, None, None, 1, created="2026-01-01T00:00:00+00:00")
    mixed = make_evidence([*sweep_records(), record])
    (section,) = figure_sections(7, mixed, ["cifar10"])
    (alone,) = figure_sections(7, swept(), ["cifar10"])
    assert section.part == alone.part


def test_the_page_gets_a_figure_for_each_data_set_with_more_than_half_of_it(tmp_path):
    stored = [
        *make_embeddings(tmp_path, FIGURES[5]),
        *(make_embedding(tmp_path, panel, "mnist") for panel in FIGURES[5].panels[:3]),
        *(make_embedding(tmp_path, panel, "svhn") for panel in FIGURES[5].panels[:2]),
    ]
    figures = list(paper_figures(make_evidence(sweep_records(), stored)))
    assert [figure.title for figure in figures] == [
        "Figure 5. Features from layer to layer: Digits",
        "Figure 5. Features from layer to layer: MNIST",
        "Figure 7. Accuracy against the attack's budget: CIFAR-10",
    ]
    assert "not stored yet: Layer 5." in figures[1].caption
    assert [figure.commands for figure in figures] == [
        ("pclbench run --figure 5 --dataset digits --scale demo",),
        ("pclbench run --figure 5 --dataset mnist --scale demo",),
        ("pclbench run --figure 7 --dataset cifar10 --scale quick",),
    ]
    assert len(list(paper_figures(holding(*stored), ["mnist"]))) == 1
    assert list(paper_figures(NOTHING)) == []


def test_figure_7_of_any_recipe_has_softmax_beside_it_and_the_papers_numbers():
    records = [*sweep_records(name="ours-pgd"), *sweep_records(name="softmax", n=500)]
    drawn = report_figure(7, make_evidence(records), models=["ours-pgd"])
    (section,) = drawn.sections
    assert (drawn.stored, drawn.missing) == (31, 0)  # softmax is beside it, not asked for
    labels = ["ours-pgd", "ours-pgd in the paper", "softmax", "softmax in the paper"]
    for plot in section.part.plots[:4]:
        assert [curve.label for curve in plot.curves] == labels
    assert [curve.label for curve in section.part.plots[4].curves] == ["ours-pgd", "softmax"]
    pgd = {curve.label: curve.points for curve in section.part.plots[3].curves}
    assert section.part.plots[3].title == "PGD"
    paper = pgd["ours-pgd in the paper"]
    assert [(point.eps, point.accuracy) for point in paper][:4] == [
        *[(0.0, 91.89), (0.01, 75.7), (0.01568627450980392, 69.4), (0.02, 58.5)]
    ]
    assert {point.interval for point in paper} == {None}
    assert [point.interval for point in pgd["softmax"]] == [
        pytest.approx([100 * end for end in wilson(round(500 * 0.9 * 0.4**number), 500)])
        for number in range(7)
    ]
    assert "softmax for comparison: n = 500 images." in drawn.caption
    assert "The paper's numbers: Tables 3, 5, 8 and 9." in drawn.caption
    shown = words(drawn.drawing.svg())
    assert {*labels, "FGSM", "PGD on margin"} <= set(shown)
    assert shown.index("FGSM") < shown.index("BIM")


def test_figure_7_of_several_models_says_what_each_lacks():
    records = [*sweep_records(skip={("PGD", 0.03)}), *sweep_records(name="softmax")]
    (section,) = figure_sections(7, make_evidence(records), ["cifar10"], models=["softmax", "ours"])
    assert section.missing == (Missing("ours: PGD", 0.03),)
    command = "pclbench run --figure 7 --model softmax --model ours --dataset cifar10 --scale quick"
    assert section.command == command
    with pytest.raises(UserError, match="no recipe called 'nobody'"):
        report_figure(7, make_evidence(records), models=["nobody"])


def test_where_softmax_has_only_its_clean_accuracy_it_is_no_comparison():
    records = [*sweep_records(), make_measurement(make_model("softmax"), None, None, 900, 1000)]
    (section,) = figure_sections(7, make_evidence(records), ["cifar10"])
    assert {curve.label for plot in section.part.plots for curve in plot.curves} == {
        *("ours", "ours in the paper")
    }


def test_devices_are_named_only_where_they_differ():
    other = ENVIRONMENT.changed(device="another device")
    records = list(sweep_records())
    (section,) = figure_sections(7, make_evidence(records), ["cifar10"])
    assert section.conditions == "CIFAR-10, quick scale, n = 1,000 images."
    records[3] = records[3].changed(environment=other)
    (section,) = figure_sections(7, make_evidence(records), ["cifar10"])
    assert section.conditions.endswith(f"computed on {ENVIRONMENT.device} and another device.")


def test_a_table_alone_makes_no_sweep():
    """Table 3 measures the same recipe without attack and at the standard budget."""
    budgets = FIGURES[7].budgets("cifar10")
    others = {(label, eps) for label in SHARES for eps in budgets if eps not in (0, 0.03)}
    others.add(("PGD on margin", 0.03))
    drawn = report_figure(7, swept(skip=others), ["cifar10"])
    assert (drawn.stored, drawn.missing) == (5, 26)
    assert list(paper_figures(swept(skip=others))) == []


def test_a_figure_of_many_points_stays_small(tmp_path):
    """The page with all figures and two thousand images per panel has to stay below 1.5 MB."""
    layouts = [make_layout(n=2000, wrong=wrong) for wrong in (100, 1900)]
    stored = [
        make_embedding(tmp_path, panel, layout=with_regions(layouts[panel.attack is not None]))
        for panel in FIGURES[1].panels
    ]
    assert len(report_figure(1, holding(*stored)).drawing.svg()) < 260_000


def test_figures_are_drawn_without_torch_and_counted_without_matplotlib(tmp_path):
    make_embeddings(tmp_path / "results" / "embeddings", FIGURES[6])
    program = (
        "import sys, pathlib\n"
        "from robustbench_pcl.report.text import overview\n"
        "from robustbench_pcl.report.results import load_evidence\n"
        "from robustbench_pcl.store.records import Paths\n"
        "found = load_evidence(Paths(pathlib.Path(sys.argv[1])))\n"
        "assert overview(found)\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from robustbench_pcl.report.figures import report_figure\n"
        "assert report_figure(6, found).stored == 4\n"
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=120)
