"""Figures: what they need is planned, made once, and kept while training goes on."""

import math
import shutil

import numpy as np
import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.jobs import bench as bench_module
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.jobs.embeddings import embed, find_embedding, keeper
from robustbench_pcl.jobs.estimate import Estimator
from robustbench_pcl.jobs.figures import figure_jobs
from robustbench_pcl.jobs.plan import Craft, Embed, Measure, Train, plan
from robustbench_pcl.paper.figures import FIGURES
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.view import View
from robustbench_pcl.store.embeddings import load_embeddings
from robustbench_pcl.training import loop

PGD = Part(name="pgd", parameters={"eps": 0.1, "steps": 2})
DEEP = View(layer=5)
LAYER_1 = View(layer=1, method="tsne")


@pytest.fixture
def bench(tiny_home, tmp_path):
    shutil.copytree(tiny_home / "checkpoints", tmp_path / "checkpoints")
    return Bench(tmp_path, device="cpu", images=20)


@pytest.fixture
def two(tiny):
    """A recipe with two neurons in its penultimate layer, and the one that it starts from."""
    return tiny("ours", embedding=2, start=tiny("softmax", embedding=2))


@pytest.mark.parametrize("number", FIGURES)
@pytest.mark.parametrize("dataset", ["digits", "cifar100"])
def test_every_figure_can_be_planned_and_estimated(number, dataset, tiny_home):
    jobs = figure_jobs(number, dataset, "demo", 3)
    done = set()
    for job in jobs:
        assert {need.key for need in job.needs} <= done, job.title
        done.add(job.key)
    assert len({job.title for job in jobs if not isinstance(job, Train)}) == len(
        [job for job in jobs if not isinstance(job, Train)]
    )
    assert {job.recipe.seed for job in jobs if isinstance(job, Train)} == {3}
    if dataset == "digits":
        estimator = Estimator(Bench(tiny_home, device="cpu"))
        assert all(0 < estimator.seconds(job) < math.inf for job in jobs)


def test_figures_bring_what_they_show():
    def kinds(number):
        jobs = figure_jobs(number, "digits", "demo")
        return [
            sum(isinstance(job, kind) for job in jobs) for kind in (Train, Craft, Measure, Embed)
        ]

    assert kinds(1) == [2, 2, 0, 4]  # softmax-2d is also what ours-2d starts from
    assert kinds(4) == [3, 0, 0, 2]
    assert kinds(5) == [2, 0, 0, 4]
    assert kinds(6) == [2, 0, 0, 4]
    assert kinds(7) == [2, 30, 31, 0]


def test_there_is_no_figure_3():
    with pytest.raises(UserError, match=r"no figure 3.*--figure 1, 4, 5, 6, 7"):
        figure_jobs(3, "digits", "demo")


def test_titles_say_what_is_seen(tiny):
    assert [
        Embed(tiny("ours"), view).title
        for view in (DEEP, LAYER_1, View(layer=5, attack=PGD), View(layer=5, epoch=0))
    ] == [
        "features of layer 5 of ours, digits",
        "t-SNE of layer 1 of ours, digits",
        "features of layer 5 of ours under pgd eps 0.1, digits",
        "features of layer 5 of ours after epoch 0, digits",
    ]


def test_an_embedding_is_made_once(bench, tiny):
    job = Embed(tiny("ours"), LAYER_1)
    assert not job.done(bench)
    job.run(bench)
    assert job.done(bench)
    (stored,) = load_embeddings(bench.home.embeddings)
    written = stored.path.stat().st_mtime_ns
    assert embed(bench, tiny("ours"), LAYER_1) == stored
    assert stored.path.stat().st_mtime_ns == written
    assert len(stored.layout().points) == 20
    again = Bench(bench.home.root, device="cpu", images=21)
    assert not job.done(again)  # other images


def test_another_machine_makes_the_same_points(bench, tiny):
    first = embed(bench, tiny("ours"), LAYER_1)
    points = first.layout().points
    first.path.unlink()
    np.testing.assert_array_equal(embed(bench, tiny("ours"), LAYER_1).layout().points, points)


def test_attacked_images_come_from_the_stored_set(bench, tiny):
    view = View(layer=4, method="tsne", attack=PGD)
    job = Embed(tiny("ours"), view)
    assert [need.kind for need in job.needs] == ["train", "craft"]
    assert find_embedding(bench, tiny("ours"), view) is None  # nor is there a set
    found = embed(bench, tiny("ours"), view)
    crafted = bench.find_adversarial_set(tiny("ours"), PGD)
    assert found.spec.adversarial_set == crafted.spec.id
    measured = bench.measure(tiny("ours"), attack=PGD)
    assert found.layout().accuracy == measured.accuracy
    assert job.done(bench)


def test_training_keeps_the_features_that_figures_look_at(tmp_path, two):
    bench = Bench(tmp_path, device="cpu", images=20)
    bench.train(two)
    views = [View(layer=5, epoch=epoch) for epoch in (0, 1, 2, 4)]  # of four epochs
    found = [find_embedding(bench, two, view) for view in views]
    assert all(found)
    assert all(Embed(two, view).done(bench) for view in views)
    assert find_embedding(bench, two, View(layer=5, epoch=3)) is None
    first, last = found[0].layout(), found[-1].layout()
    assert len(first.points) == 500  # all test images, however many are attacked
    assert not np.array_equal(first.anchors, last.anchors)
    trained = embed(Bench(tmp_path, device="cpu", images=500), two, DEEP).layout()
    np.testing.assert_array_equal(last.points, trained.points)
    np.testing.assert_array_equal(last.anchors, trained.anchors)
    assert embed(bench, two, views[0]) == found[0]


def test_a_resumed_training_keeps_the_rest(tmp_path, two, monkeypatch):
    def stopping(bench, recipe):
        keep = keeper(bench, recipe)

        def stop(model, epoch):
            keep(model, epoch)
            if epoch == 3:
                raise KeyboardInterrupt

        return stop

    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    bench = Bench(tmp_path, device="cpu")
    bench.train(two.start)
    with monkeypatch.context() as patch:
        patch.setattr(bench_module, "keeper", stopping)
        with pytest.raises(KeyboardInterrupt):
            bench.train(two)
    views = [View(layer=5, epoch=epoch) for epoch in (0, 1, 2, 4)]
    early = [find_embedding(bench, two, view) for view in views]
    assert [bool(found) for found in early] == [True, True, True, False]
    bench.train(two)
    assert [find_embedding(bench, two, view) for view in views[:3]] == early[:3]
    assert find_embedding(bench, two, views[3]) is not None


def test_a_training_that_no_figure_looks_at_keeps_nothing(tmp_path, tiny):
    epoch = tiny().schedule.model_copy(update={"epochs": 1})
    for recipe in (tiny(embedding=2, schedule=epoch), tiny("ours", schedule=epoch)):
        Bench(tmp_path, device="cpu").train(recipe)
    assert not (tmp_path / "results" / "embeddings").exists()


def test_what_training_did_not_keep_is_said(bench, two, tmp_path):
    bench.train(two)
    view = View(layer=5, epoch=2)
    find_embedding(bench, two, view).path.unlink()
    with pytest.raises(UserError, match=r"ours after epoch 2 were not kept.*Move .*away"):
        Embed(two, view).run(bench)


def test_a_plan_may_mix_numbers_and_pictures(tiny):
    jobs = plan([Embed(tiny("ours"), DEEP), Measure(tiny("ours"))])
    assert [job.kind for job in jobs] == ["train", "train", "measure", "embed"]
