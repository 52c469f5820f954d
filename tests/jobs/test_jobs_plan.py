"""Plans: everything that is needed, once, in an order that works."""

import math
import shutil

import pytest

from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.jobs.estimate import Estimator
from robustbench_pcl.jobs.executors.local import Local
from robustbench_pcl.jobs.plan import Craft, Measure, Train, describe, lacking, plan
from robustbench_pcl.jobs.tables import table_jobs, transfer_jobs
from robustbench_pcl.paper.table import published, published_numbers
from robustbench_pcl.specs.base import Part

PGD = Part(name="pgd", parameters={"eps": 0.1})
FGSM = Part(name="fgsm", parameters={"eps": 0.1})


def kinds(jobs):
    return [type(job).__name__ for job in jobs]


def assert_ordered(jobs):
    """Every job comes once, and after all that it needs."""
    done = set()
    for job in jobs:
        match job:
            case Train(recipe):
                needed = [Train(recipe.start)] if recipe.start else []
            case Craft(source, _, _):
                needed = [Train(source)]
            case Measure(target, source, attack, until_fooled):
                needed = [Train(recipe) for recipe in (target, source) if recipe]
                if attack:
                    needed.append(Craft(source or target, attack, until_fooled))
        assert repr(job) not in done
        assert {repr(other) for other in needed} <= done, job.title
        done.add(repr(job))


def test_a_measurement_brings_what_it_needs(tiny):
    jobs = plan([Measure(tiny("ours"), tiny("ours-pgd"), PGD)])
    assert [job.title for job in jobs] == [
        "train softmax on digits",
        "train ours-pgd on digits",
        "train ours on digits",
        "pgd eps 0.1 on ours-pgd, digits",
        "ours under pgd eps 0.1 from ours-pgd, digits",
    ]
    assert_ordered(jobs)


def test_what_is_shared_is_planned_once(tiny):
    recipes = [tiny(), tiny("ours"), tiny("ours-pgd")]
    jobs = plan(
        [*transfer_jobs(recipes, recipes, PGD), Measure(tiny(), tiny(), PGD), Measure(tiny())],
        [Train(tiny("ours"))],
    )
    assert kinds(jobs) == ["Train"] * 3 + ["Craft"] * 3 + ["Measure"] * 10
    assert_ordered(jobs)


def test_a_measurement_until_fooled_brings_a_set_of_its_own(tiny):
    jobs = plan([Measure(tiny(), tiny(), PGD, until_fooled=flag) for flag in (True, False)])
    assert kinds(jobs) == ["Train", "Craft", "Craft", "Measure", "Measure"]
    assert [job.until_fooled for job in jobs[1:]] == [True, False, True, False]
    assert_ordered(jobs)


@pytest.mark.parametrize("number", published_numbers())
def test_tables_attacks_take_all_steps(number):
    jobs = table_jobs(number, "digits", "demo")
    assert not any(getattr(job, "until_fooled", False) for job in jobs)


def test_matrices_attacks_take_all_steps(tiny):
    assert not any(job.until_fooled for job in transfer_jobs([tiny()], [tiny()], PGD))


def test_a_matrix_goes_row_by_row(tiny):
    one, two = tiny(), tiny("ours")
    jobs = transfer_jobs([one, two], [one, two], PGD)
    pairs = [(job.source.name, job.target.name) for job in jobs]
    assert pairs == [
        ("softmax", "softmax"),
        ("softmax", "ours"),
        ("ours", "softmax"),
        ("ours", "ours"),
    ]


def test_models_that_decide_otherwise_share_a_training_and_nothing_else(tiny):
    softmax, nearest = (tiny("ours", inference=rule) for rule in ("softmax", "nearest"))
    jobs = plan([Measure(recipe, recipe, PGD) for recipe in (softmax, nearest)])
    assert kinds(jobs) == ["Train", "Train", "Craft", "Craft", "Measure", "Measure"]


def test_a_training_alone(tiny):
    assert kinds(plan((), [Train(tiny("ours"))])) == ["Train", "Train"]
    assert plan(()) == []


@pytest.mark.parametrize("number", published_numbers())
def test_every_table_can_be_planned_on_digits(number):
    jobs = table_jobs(number, "digits", "demo")
    assert_ordered(jobs)
    titles = {job.title for job in jobs}
    assert len(titles) == len(jobs)  # so that a plan reads without doubt
    wanted = [position.cell for position in published(number).positions("digits")]
    measured = [job for job in jobs if isinstance(job, Measure)]
    trained = {job.recipe.name for job in jobs if isinstance(job, Train)}
    for cell in wanted:
        assert cell.target in trained
        if cell.quantity == "accuracy":
            assert any(
                (job.target.name, job.source and job.source.name, job.attack)
                == (cell.target, cell.source, cell.attack)
                for job in measured
            ), cell


def test_white_box_pgd_also_runs_on_the_margin():
    jobs = table_jobs(3, "digits", "demo")
    losses = {
        (job.target.name, job.attack.parameters.get("loss"))
        for job in jobs
        if isinstance(job, Measure) and job.attack and job.attack.name == "pgd"
        if job.source == job.target
    }
    assert {("ours", None), ("ours", "margin")} <= losses


def test_a_seed_reaches_every_recipe():
    trainings = [job for job in table_jobs(3, "digits", "demo", 3) if isinstance(job, Train)]
    assert {job.recipe.seed for job in trainings} == {3}


def test_attacks_are_described_in_a_few_words():
    assert describe(PGD) == "pgd eps 0.1"
    assert describe(Part(name="pgd", parameters={"eps": 8 / 255, "loss": "margin"})) == (
        "pgd eps 0.03137 loss margin"
    )
    assert describe(Part(name="cw", parameters={"c": 10})) == "cw c 10"
    assert describe(PGD.merged({"loss": "cross-entropy"})) == "pgd eps 0.1"


def test_estimates_are_positive_and_grow_with_the_work(tiny, tiny_home):
    estimator = Estimator(Bench(tiny_home, device="cpu", images=50))
    larger = Estimator(Bench(tiny_home, device="cpu", images=500), estimator._seconds)
    jobs = [*plan([Measure(tiny("ours-pgd"), attack=PGD)]), Craft(tiny(), FGSM)]
    seconds = [estimator.seconds(job) for job in jobs]
    assert all(math.isfinite(value) and value > 0 for value in seconds)
    craft = Craft(tiny(), PGD)
    assert larger.seconds(craft) == pytest.approx(10 * estimator.seconds(craft))
    assert estimator.seconds(craft) == pytest.approx(10 * estimator.seconds(Craft(tiny(), FGSM)))
    assert estimator.seconds(Craft(tiny(), PGD, until_fooled=True)) < estimator.seconds(craft)
    exact = Estimator(Bench(tiny_home, device="cpu", images=50, exact=True))
    stopped = Craft(tiny(), PGD, until_fooled=True)
    assert exact.seconds(stopped) == exact.seconds(craft)  # exact sets take all steps
    both = [estimator.seconds(Train(tiny(name))) for name in ("ours-pgd", "ours")]
    assert both[0] > both[1]
    everything = [estimator.seconds(Train(tiny(train_images=n))) for n in (10**6, None)]
    assert everything[0] == pytest.approx(everything[1])  # there are no more than that


@pytest.mark.parametrize("number", published_numbers())
def test_every_table_can_be_estimated(number, tiny_home):
    estimator = Estimator(Bench(tiny_home, device="cpu"))
    for job in table_jobs(number, "digits", "demo"):
        assert 0 < estimator.seconds(job) < math.inf, job.title


def test_only_what_is_missing_is_run(tiny, tiny_home, tmp_path, monkeypatch):
    shutil.copytree(tiny_home / "checkpoints", tmp_path / "checkpoints")
    bench = Bench(tmp_path, device="cpu", images=10)
    jobs = plan([Measure(tiny(), tiny(), FGSM), Measure(tiny())])
    assert [job.done(bench) for job in jobs] == [True, False, False, False]
    ran = []
    for kind in (Train, Craft, Measure):
        run = kind.run
        monkeypatch.setattr(
            kind, "run", lambda job, bench, run=run: (ran.append(job), run(job, bench))
        )
    costed = [(job, 1.0) for job in jobs]
    Local().execute(costed, bench)
    assert ran == jobs[1:]
    assert all(job.done(bench) for job in jobs)
    Local().execute(costed, bench)
    assert len(ran) == 3


def test_what_a_stored_model_went_on_from_is_not_lacking(tiny_home, tiny, tmp_path):
    """A checkpoint that came alone is attacked as it is."""
    trained = Bench(tiny_home, device="cpu")
    alone = Bench(tmp_path, device="cpu", images=20)
    recipe = alone.open(trained.checkpoint(tiny("ours")).path)
    assert recipe.start is not None
    jobs = [Measure(recipe), Measure(recipe, recipe, FGSM)]
    assert kinds(plan(jobs)) == ["Train", "Train", "Craft", "Measure", "Measure"]
    assert kinds(lacking(jobs, alone)) == ["Craft", "Measure", "Measure"]
    Local().execute([(job, 1.0) for job in lacking(jobs, alone)], alone)
    assert lacking(jobs, alone) == []
    assert not alone.home.checkpoints.exists()


def test_everything_is_lacking_where_nothing_is_stored(tiny, tmp_path):
    jobs = [Measure(tiny("ours"), tiny(), PGD)]
    found = lacking(jobs, Bench(tmp_path, device="cpu"))
    assert found == plan(jobs)
    assert_ordered(found)
