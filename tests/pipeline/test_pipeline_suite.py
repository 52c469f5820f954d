"""Suites: what a TOML file asks for, with the budgets that a command has."""

import pytest

from robustbench_pcl import load_attack
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.artefacts import Artefacts
from robustbench_pcl.pipeline.diagnosing import Diagnose
from robustbench_pcl.pipeline.suite import load_suite

SUITE = """
datasets = ["mnist", "cifar10"]
targets = ["softmax", "{name}"]
sources = ["vgg19", "softmax"]
scale = "demo"
seed = 4

[recipes.{name}]
base = "ours"
feature_layers = [2, 3]

[[attack]]
name = "pgd"

[[attack]]
name = "pgd"
eps = "8/255"
steps = 40
loss = "margin"
"""


def tasks_of(suite, artefacts, **options):
    """All that a suite asks for."""
    return [task for _, tasks in suite.tasks(artefacts, **options) for task in tasks]


@pytest.fixture
def empty(tmp_path):
    """A folder without artefacts."""
    return Artefacts(tmp_path / "home", device="cpu")


@pytest.fixture
def suite(tmp_path):
    def read(text):
        path = tmp_path / "suite.toml"
        path.write_text(text)
        return load_suite(path)

    return read


def test_a_byte_order_mark_is_no_part_of_a_suite(tmp_path):
    path = tmp_path / "suite.toml"
    plain = b'datasets = ["digits"]\ntargets = ["ours"]\nseed = 4\n[[attack]]\nname = "pgd"\n'
    path.write_bytes(b"\xef\xbb\xbf" + plain)
    assert load_suite(path).part[0].seed == (4,)


@pytest.fixture
def example(suite):
    return suite(SUITE.replace("{name}", "ours-of-a-suite"))


def test_an_attack_without_eps_has_the_data_sets_budget_as_in_any_command(example, empty):
    found = {}
    for task in tasks_of(example, empty):
        if task.attack and task.attack.loss == "cross-entropy":
            found.setdefault(task.dataset, set()).add(task.attack.eps)
            assert task.attack == load_attack("pgd", task.dataset, "demo")
    assert found == {"mnist": {0.3}, "cifar10": {0.03}}


def test_a_suite_asks_for_clean_white_box_and_black_box_accuracy(example, empty):
    measures = tasks_of(example, empty, images=9, mode="exact")
    tasks = [task for task in measures if task.dataset == "mnist"]
    pairs = [(task.target.name, task.source and task.source.name) for task in tasks]
    mine = "ours-of-a-suite"
    assert pairs == [
        ("softmax", None),
        *[("softmax", "softmax")] * 2,
        *[("softmax", "vgg19")] * 2,
        (mine, None),
        *[(mine, mine)] * 2,
        *[(mine, "vgg19")] * 2,
        *[(mine, "softmax")] * 2,
    ]
    strong = tasks[2].attack
    assert (strong.eps, strong.steps, strong.loss) == (8 / 255, 40, "margin")
    assert {(task.images, task.seed, task.mode) for task in tasks if task.attack} == {
        (9, 4, "exact")
    }
    assert {task.target.seed for task in tasks} == {4}


def test_a_recipe_of_the_suites_own_is_a_name_like_any_other(example, empty):
    recipe = tasks_of(example, empty)[-1].target
    assert (recipe.name, recipe.feature_layers) == ("ours-of-a-suite", (2, 3))


PLAIN = 'datasets = ["digits"]\ntargets = ["softmax"]\n[[attack]]\nname = "pgd"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("datasets = [", "is not TOML"),
        (PLAIN.replace('"digits"', ""), "datasets"),
        (PLAIN.replace("digits", "digitz"), "Did you mean digits"),
        (PLAIN.replace("softmax", "sofmax"), "Did you mean softmax"),
        (PLAIN.replace("pgd", "pdg"), "Did you mean pgd"),
        (PLAIN + "steps = 0\n", "steps"),
        (PLAIN + "stepps = 3\n", "Did you mean steps"),
        (PLAIN + "eps = 8\n", "Did you mean --eps 8/255"),
        (PLAIN.replace("pgd", "cw") + "eps = 0.1\n", "no L-infinity budget"),
        ("banana = 3\n" + PLAIN, "banana"),
        ('scale = "tiny"\n' + PLAIN, "scale"),
        (PLAIN + "[recipes.mine]\nbase = 'ouurs'\n", "Did you mean ours"),
    ],
)
def test_what_makes_no_sense_is_said(suite, empty, text, words):
    with pytest.raises(UserError) as raised:
        suite(text).tasks(empty)
    assert words in str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="Cannot read"):
        load_suite(tmp_path / "none.toml")


PARTS = """
targets = ["softmax"]
scale = "demo"
images = 40

[recipes.longer]
base = "softmax"
schedule = { epochs = 20 }

[trajectories.slowly]
base = "ours"
start = "longer"
epochs = [3, 10, 30]
schedule = { learning_rate = 0.01 }
feature_layers = [4]

[[attack]]
name = "fgsm"
mode = "exact"

[[part]]
title = "The first"
datasets = ["digits"]
seed = [0, 3]

[[part]]
title = "The second"
datasets = ["mnist"]
targets = ["slowly"]
images = 9
attack = [{ name = "pgd" }, { name = "pgd", loss = "margin" }]

[[part]]
title = "The third"
datasets = ["digits"]
sources = ["vgg19"]
diagnose = true
attack = [{ name = "pgd", eps = 0.2 }, { name = "fgsm" }]
"""


def test_a_part_says_what_differs_from_what_stands_above_all(suite, empty):
    (first, firsts), (second, seconds), _ = suite(PARTS).tasks(empty)
    assert (first.title, second.title) == ("The first", "The second")
    assert [(task.target.seed, task.attack is None) for task in firsts] == [
        (0, True),
        (0, False),
        (3, True),
        (3, False),
    ]
    assert {(task.dataset, task.images, task.mode) for task in firsts if task.attack} == {
        ("digits", 40, "exact")
    }
    assert {(task.dataset, task.images, task.mode) for task in seconds if task.attack} == {
        ("mnist", 9, "fast")
    }
    assert len(seconds) == 3 * 3
    assert {task.images for task in tasks_of(suite(PARTS), empty, images=5)} == {5}


def test_a_part_may_ask_whether_its_first_attacks_numbers_hold(suite, empty):
    *_, (_, tasks) = suite(PARTS).tasks(empty)
    diagnoses = [task for task in tasks if isinstance(task, Diagnose)]
    assert len(tasks) == 6
    (task,) = diagnoses
    assert (task.target.name, task.attack.name, task.attack.eps) == ("softmax", "pgd", 0.2)
    assert ([source.name for source in task.sources], task.images) == (["vgg19"], 40)


def test_a_trajectory_is_a_chain_of_recipes_that_go_on(suite, empty):
    _, (_, tasks), _ = suite(PARTS).tasks(empty)
    points = [task.target for task in tasks if task.attack is None]
    assert [point.name for point in points] == ["slowly-3", "slowly-10", "slowly-30"]
    assert [point.schedule.epochs for point in points] == [3, 7, 20]
    assert [point.start.name for point in points] == ["longer", "slowly-3", "slowly-10"]
    for point in points:
        assert (point.schedule.learning_rate, point.schedule.milestones) == (0.01, ())
        assert (point.feature_layers, point.loss["name"]) == ((4,), "pcl")
    assert [point.goes_on for point in points] == [False, True, True]
    assert [steps(point) for point in points] == [3, 10, 30]


def steps(recipe):
    """Epochs of the joint loss, all of them."""
    return recipe.schedule.epochs + (steps(recipe.start) if recipe.goes_on else 0)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("[3, 10, 30]", "[3, 3]", "epochs do not rise"),
        ("[3, 10, 30]", "[]", "epochs"),
        ('start = "longer"', 'start = "no-such-start"', "There is no recipe"),
        ("datasets = ", "dataset = ", "dataset"),
        ("[recipes.longer]", "part = 3\n[recipes.longer]", "is not TOML"),
    ],
)
def test_a_part_or_trajectory_that_makes_no_sense_is_said(suite, empty, before, after, words):
    text = PARTS.replace(before, after).replace("slowly", f"slowly-{len(words)}")
    with pytest.raises(UserError) as raised:
        suite(text).tasks(empty)
    assert words in str(raised.value)
