"""Plans: everything that is needed, once, in an order that works."""

from typing import Literal

import h5py
import pytest

from robustbench_pcl import FGSM, PGD, Workspace, load_attack
from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.figures import FIGURES
from robustbench_pcl.paper.tables import published, published_numbers
from robustbench_pcl.pipeline.certifying import Certify
from robustbench_pcl.pipeline.diagnosing import Diagnose
from robustbench_pcl.pipeline.estimate import Estimator
from robustbench_pcl.pipeline.executors import Local
from robustbench_pcl.pipeline.planner import (
    KINDS,
    elapsed,
    ensemble_tasks,
    figure_tasks,
    missing,
    plan,
    select,
    survey,
    table_tasks,
)
from robustbench_pcl.pipeline.sharding import Craft
from robustbench_pcl.pipeline.suite import load_suite
from robustbench_pcl.pipeline.tasks import Embed, Generate, Measure, Train
from robustbench_pcl.store.embeddings import View

PGD_01, FGSM_01 = PGD(eps=0.1), FGSM(eps=0.1)


def kinds(tasks):
    return [task.kind for task in tasks]


def assert_ordered(tasks):
    """Every task comes once, after all that it needs, and under a title of its own."""
    done = set()
    for task in tasks:
        assert task.key not in done
        assert {need.key for need in task.needs} <= done, task.title
        done.add(task.key)
    assert len({task.title for task in tasks}) == len(tasks)


def test_a_measurement_brings_what_it_needs(tiny):
    tasks = plan([Measure(tiny("ours"), tiny("ours-pgd"), PGD_01)])
    assert [task.title for task in tasks] == [
        "train softmax on digits",
        "train ours-pgd on digits",
        "train ours on digits",
        "PGD, eps 0.1 on ours-pgd, digits",
        "ours under PGD, eps 0.1 from ours-pgd, digits",
    ]
    assert_ordered(tasks)


def test_what_is_shared_is_planned_once(tiny):
    recipes = [tiny(), tiny("ours"), tiny("ours-pgd")]
    matrix = [Measure(target, source, PGD_01) for source in recipes for target in recipes]
    tasks = plan([*matrix, Measure(tiny(), tiny(), PGD_01), Measure(tiny()), Train(tiny("ours"))])
    assert kinds(tasks) == ["train"] * 3 + ["generate"] * 3 + ["measure"] * 10
    assert_ordered(tasks)


def test_attacks_that_differ_in_any_parameter_are_tasks_of_their_own(tiny):
    attacks = [PGD(eps=0.1, steps=steps) for steps in (10, 40, 200)]
    attacks.append(PGD(eps=0.1, steps=40, relative_step_size=0.5))
    tasks = plan([Measure(tiny(), tiny(), attack) for attack in attacks])
    assert kinds(tasks) == ["train", *["generate"] * 4, *["measure"] * 4]
    assert_ordered(tasks)
    titles = " ".join(task.title for task in tasks)
    assert all(label in titles for label in ("PGD, eps 0.1", "PGD-40, eps 0.1", "PGD-200, eps 0.1"))


def test_each_mode_has_a_set_of_its_own(tiny):
    modes = ("early-stop", "fast", "exact")
    tasks = plan([Measure(tiny(), tiny(), PGD_01, mode=mode) for mode in modes])
    assert kinds(tasks) == ["train", *["generate"] * 3, *["measure"] * 3]
    assert [task.mode for task in tasks[1:]] == [*modes, *modes]


def test_models_that_decide_otherwise_share_a_training_and_nothing_else(tiny):
    rules = [tiny("ours", inference=rule) for rule in ("softmax", "nearest")]
    tasks = plan([Measure(recipe, recipe, PGD_01) for recipe in rules])
    assert kinds(tasks) == ["train", "train", *["generate"] * 2, *["measure"] * 2]


def test_a_plan_may_mix_numbers_and_pictures(tiny):
    tasks = plan([Embed(tiny("ours"), View(layer=5)), Measure(tiny("ours"))])
    assert kinds(tasks) == ["train", "train", "measure", "embed"]
    assert plan(()) == []


@pytest.mark.parametrize("number", published_numbers())
def test_every_question_of_a_table_is_planned(number):
    tasks = table_tasks(number, "digits", "demo", 3, images=9)
    assert_ordered(plan(tasks))
    measures = [task for task in tasks if isinstance(task, Measure)]
    asked = {
        (task.target.name, task.source and task.source.name, task.attack and task.attack.label)
        for task in measures
    }
    trained = {task.recipe.name for task in plan(tasks) if isinstance(task, Train)}
    for position in published(number).positions("digits"):
        cell = position.cell
        assert cell.target in trained
        if cell.quantity == "accuracy":
            attack = cell.attack_for("demo")
            assert (cell.target, cell.source, attack and attack.label) in asked
    assert {(task.images, task.seed, task.mode) for task in measures if task.attack} <= {
        (9, 3, "fast")
    }
    assert {task.recipe.seed for task in plan(tasks) if isinstance(task, Train)} == {3}


def test_white_box_pgd_is_also_run_on_the_margin_and_at_the_largest_budget():
    asked = {
        (task.target.name, task.attack.loss, task.attack.eps)
        for task in table_tasks(3, "mnist", "demo")
        if task.attack and task.attack.name == "pgd" and task.white_box
    }
    assert {("ours", loss, 0.3) for loss in ("cross-entropy", "margin")} <= asked


class Standin(PGD):
    """Stands for an attack that is a sequence of others."""

    name: Literal["strongest"] = "strongest"


@pytest.mark.parametrize(("mode", "made"), [("fast", "early-stop"), ("exact", "exact")])
@pytest.mark.parametrize(("number", "eps"), [(3, 0.1), (5, pytest.approx(0.04 / 0.3))])
def test_a_further_attack_meets_all_that_is_attacked_white_box(
    monkeypatch, number, eps, mode, made
):
    monkeypatch.setitem(ATTACKS.members, "strongest", f"{__name__}:Standin")
    tasks = ensemble_tasks(number, "digits", "strongest", "demo", 3, images=9, mode=mode)
    assert all(task.white_box for task in tasks)
    cells = [position.cell for position in published(number).positions("digits")]
    attacked = {cell.target for cell in cells if cell.white_box}
    assert sorted(task.target.name for task in tasks) == sorted(attacked)
    asked = {(t.attack.name, t.attack.eps, t.images, t.seed, t.target.seed) for t in tasks}
    assert len(asked) == 1
    assert asked.pop() == ("strongest", eps, 9, 3, 3)
    assert {task.mode for task in tasks} == {made}


def test_nothing_is_added_where_nothing_is_attacked():
    assert ensemble_tasks(12, "digits", "strongest", "demo") == []


@pytest.mark.parametrize("number", FIGURES)
@pytest.mark.parametrize("dataset", ["digits", "cifar100"])
def test_every_figure_is_planned(number, dataset):
    tasks = plan(figure_tasks(number, dataset, "demo", 3, images=9))
    assert_ordered(tasks)
    assert {task.recipe.seed for task in tasks if isinstance(task, Train)} == {3}
    assert {task.images for task in tasks if not isinstance(task, Train)} == {9}


def test_figures_bring_what_they_show():
    def count(number):
        found = kinds(plan(figure_tasks(number, "digits", "demo")))
        return [found.count(kind) for kind in ("train", "generate", "measure", "embed")]

    assert count(1) == [3, 2, 0, 4]  # softmax-2d, ours-2d and what that starts from
    assert count(4) == [3, 0, 0, 2]
    assert count(5) == [2, 0, 0, 4]
    assert count(6) == [2, 0, 0, 4]
    assert count(7) == [2, 30, 31, 0]
    with pytest.raises(UserError, match=r"no figure 3.*--figure 1, 4, 5, 6, 7"):
        figure_tasks(3, "digits", "demo")


def test_keys_tell_artefacts_apart_and_names_do_not_matter(tiny):
    recipe, other = tiny(), tiny("ours")
    tasks = [
        Train(recipe),
        Train(other),
        Generate(recipe, PGD_01),
        Generate(other, PGD_01),
        Generate(recipe, PGD(eps=0.1, steps=4)),
        Generate(recipe, PGD_01, mode="early-stop"),
        Generate(recipe, PGD_01, images=9),
        Generate(recipe, PGD_01, seed=1),
        Generate(recipe.changed(scale="quick"), PGD_01),
        Measure(recipe),
        Measure(recipe, images=9),
        Measure(recipe, recipe, PGD_01),
        Measure(recipe, recipe, PGD_01, mode="early-stop"),
        Measure(other, recipe, PGD_01),
        Embed(recipe, View(layer=5)),
        Embed(other, View(layer=5)),
        Embed(recipe, View(layer=4)),
        Embed(recipe, View(layer=5, method="tsne")),
        Embed(recipe, View(layer=5, attack=PGD_01.dump())),
        Embed(recipe, View(layer=5, epoch=0)),
        Craft(Generate(recipe, PGD_01), 0, 2),
        Craft(Generate(recipe, PGD_01), 1, 2),
        Craft(Generate(recipe, PGD_01), 0, 3),
        Diagnose(recipe, PGD_01),
        Diagnose(other, PGD_01),
        Diagnose(recipe, FGSM_01),
        Diagnose(recipe, PGD_01, images=7),
        Diagnose(recipe, PGD_01, seed=3),
        Diagnose(recipe, PGD_01, sources=(other,)),
        Certify(recipe),
        Certify(other),
        Certify(recipe, images=7),
        Certify(recipe, largest_eps=0.3),
    ]
    assert len({task.key for task in tasks}) == len(tasks)
    assert {task.kind for task in tasks} == set(KINDS)
    renamed = recipe.changed(name="mine")
    assert Train(renamed).key == Train(recipe).key
    assert Measure(recipe, None, PGD_01).key == Measure(recipe, recipe, PGD_01).key


def test_a_command_has_nothing_to_do_for_a_table_whose_cell_was_attacked_by_hand(
    tiny_workspace, tiny
):
    """What ``attack`` stores, where images stop early, answers what ``run`` asks."""
    attack = load_attack("pgd", "digits", "demo")
    tiny_workspace.measure(tiny(), attack, images=20, mode="early-stop")
    asked = Measure(tiny(), tiny(), attack, 20)
    assert missing([asked], tiny_workspace) == []
    assert kinds(missing([Measure(tiny("ours"), tiny(), attack, 20)], tiny_workspace)) == [
        "generate",
        "measure",
    ]


def test_only_what_is_missing_is_made(tiny_workspace, tiny):
    asked = [Measure(tiny(), tiny(), FGSM_01, 10), Measure(tiny(), images=10)]
    tasks = missing(asked, tiny_workspace)
    assert kinds(tasks) == ["generate", "measure", "measure"]
    Local().execute([(task, 1.0) for task in tasks], tiny_workspace)
    assert missing(asked, tiny_workspace) == []
    written = {path: path.stat().st_mtime_ns for path in tiny_workspace.paths.root.rglob("*.*")}
    Local().execute([(task, 1.0) for task in plan(asked)], tiny_workspace)
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_what_a_stored_model_went_on_from_is_not_missing(tiny_home, tiny, tmp_path):
    """A checkpoint that came alone is attacked as it is."""
    trained, alone = Workspace(tiny_home, device="cpu"), Workspace(tmp_path, device="cpu")
    recipe = alone.open(trained.train(tiny("ours")).path)
    assert recipe.start is not None
    tasks = [Measure(recipe, images=20), Measure(recipe, recipe, FGSM_01, 20)]
    assert kinds(plan(tasks)) == ["train", "train", "generate", "measure", "measure"]
    assert kinds(missing(tasks, alone)) == ["generate", "measure", "measure"]
    Local().execute([(task, 1.0) for task in missing(tasks, alone)], alone)
    assert missing(tasks, alone) == []
    assert not alone.paths.checkpoints.exists()


def test_everything_is_missing_where_nothing_is_stored(tiny, tmp_path):
    tasks = [Measure(tiny("ours"), tiny(), PGD_01)]
    assert missing(tasks, Workspace(tmp_path, device="cpu")) == plan(tasks)


def test_attacks_of_the_family_all_have_a_title(tiny):
    titles = {Generate(tiny(), ATTACKS.configure(name)).title for name in ATTACKS}
    assert len(titles) == len(ATTACKS)


def test_a_survey_says_what_is_there_without_opening_it(tiny_workspace, tiny, monkeypatch):
    asked = [Measure(tiny(), tiny(), FGSM_01, 10)]
    before = survey(asked, tiny_workspace)
    assert [(task.kind, there) for task, there in before] == [
        ("train", True),
        ("generate", False),
        ("measure", False),
    ]
    tiny_workspace.make(asked[0])
    monkeypatch.setattr(h5py, "File", lambda *_: pytest.fail("a set was opened"))
    assert [there for _, there in survey(asked, tiny_workspace)] == [True, True, True]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["train"], {"train"}),
        (["Generate"], {"generate"}),
        (["train", "generate"], {"train", "generate"}),
        (["digits"], {"train", "generate", "measure"}),
        (["SOFTMAX under"], {"measure"}),
        (["fgsm*"], {"generate", "measure"}),
        (["train *digits"], {"train"}),
        (["soft?ax on*"], set()),
        (["ours"], set()),
    ],
)
def test_a_pattern_chooses_by_kind_title_or_word(patterns, expected, tiny):
    asked = [Measure(tiny(), tiny(), FGSM_01, 10)]
    if expected:
        assert {task.kind for task in select(asked, patterns)} == expected
    else:
        with pytest.raises(UserError, match="No task matches"):
            select(asked, patterns)


def test_work_takes_its_longest_chain_or_the_share_of_a_worker(tiny):
    train, generate, measure = plan([Measure(tiny(), tiny(), FGSM_01, 10)])
    clean = Measure(tiny(), images=10)
    work = [(train, 4.0), (generate, 2.0), (measure, 1.0), (clean, 9.0)]
    assert elapsed(work, 1) == 16
    assert elapsed(work, 2) == 13  # training, then the clean accuracy
    assert elapsed(work, 0) == 13
    assert elapsed([(generate, 3.0), (clean, 3.0)], 2) == 3


def suite_of(count, folder):
    """A suite of so many measurements of which nothing is stored."""
    attacks = "".join(f'[[attack]]\nname = "pgd"\neps = {0.3 / (n + 1)}\n' for n in range(count))
    path = folder / f"{count}.toml"
    path.write_text(f'datasets = ["digits"]\ntargets = ["ours"]\nscale = "demo"\n{attacks}')
    return path


def test_ten_times_the_measurements_take_ten_times_the_calls(tmp_path, calls):
    """To read them, to find what is missing, and to estimate it."""
    workspace = Workspace(tmp_path, device="cpu")

    def work(path):
        tasks = [task for _, asked in load_suite(path).tasks(workspace) for task in asked]
        estimator = Estimator(workspace)
        for task in missing(tasks, workspace):
            assert estimator.bytes(task) > 0
            assert estimator.seconds(task) > 0

    work(suite_of(10, tmp_path))  # what is imported and built once
    few, many = (calls(work, suite_of(count, tmp_path)) for count in (100, 1000))
    assert many < 12 * few
