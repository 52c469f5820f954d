"""Embeddings: made once from stored images, and kept while training goes on."""

from functools import partial

import numpy as np
import pytest

from robustbench_pcl import PGD, Workspace
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.tasks import Embed, Train
from robustbench_pcl.pipeline.training import shown_classes
from robustbench_pcl.progress import Progress
from robustbench_pcl.store.embeddings import View, load_embeddings
from robustbench_pcl.training import trainer

ATTACK = PGD(eps=0.1, steps=2)
DEEP = View(layer=5)
LAYER_1 = View(layer=1, method="tsne")
KEPT = [View(layer=5, epoch=epoch) for epoch in (0, 1, 2, 4)]  # of four epochs


@pytest.fixture
def two(tiny):
    """A recipe with two neurons in its penultimate layer, and the one that it starts from."""
    return tiny("ours", embedding=2, start=tiny("softmax", embedding=2))


def test_titles_say_what_is_seen(tiny):
    assert [
        Embed(tiny("ours"), view).title
        for view in (DEEP, LAYER_1, View(layer=5, attack=ATTACK.dump()), KEPT[0])
    ] == [
        "features of layer 5 of ours, digits",
        "t-SNE of layer 1 of ours, digits",
        "features of layer 5 of ours under PGD-2, eps 0.1, digits",
        "features of layer 5 of ours after epoch 0, digits",
    ]


def test_an_embedding_is_made_once(tiny_workspace, tiny):
    task = Embed(tiny("ours"), LAYER_1, 20)
    assert tiny_workspace.find(task) is None
    made = tiny_workspace.make(task)
    assert tiny_workspace.find(task) == made
    (stored,) = load_embeddings(tiny_workspace.paths.embeddings)
    written = stored.path.stat().st_mtime_ns
    assert tiny_workspace.embedding(tiny("ours"), LAYER_1, images=20) == stored
    assert stored.path.stat().st_mtime_ns == written
    assert len(stored.layout().points) == 20
    assert tiny_workspace.find(Embed(tiny("ours"), LAYER_1, 21)) is None


def test_it_is_the_same_wherever_it_is_made(tiny_workspace, tiny):
    first = tiny_workspace.embedding(tiny("ours"), LAYER_1, images=20)
    points = first.layout().points
    first.path.unlink()
    again = tiny_workspace.embedding(tiny("ours"), LAYER_1, images=20)
    np.testing.assert_array_equal(again.layout().points, points)


def test_attacked_images_come_from_the_stored_set(tiny_workspace, tiny):
    task = Embed(tiny("ours"), View(layer=4, method="tsne", attack=ATTACK.dump()), 20)
    assert [need.kind for need in task.needs] == ["train", "generate"]
    assert tiny_workspace.find(task) is None  # nor is there a set
    found = tiny_workspace.make(task)
    images = tiny_workspace.adversarial_set(tiny("ours"), ATTACK, images=20)
    assert found.spec.adversarial_set == images.spec.id
    assert found.spec.view.attack == ATTACK.dump()
    measured = tiny_workspace.measure(tiny("ours"), ATTACK, images=20)
    assert found.layout().accuracy == measured.accuracy
    assert tiny_workspace.find(task) == found


def test_training_keeps_the_features_that_figures_look_at(tmp_path, two):
    workspace = Workspace(tmp_path, device="cpu")
    workspace.train(two)
    found = [workspace.find(Embed(two, view, 20)) for view in KEPT]
    assert all(found)
    assert workspace.find(Embed(two, View(layer=5, epoch=3))) is None
    first, last = found[0].layout(), found[-1].layout()
    assert len(first.points) == 500  # all test images, however many are attacked
    assert not np.array_equal(first.anchors, last.anchors)
    trained = workspace.embedding(two, DEEP, images=500).layout()
    np.testing.assert_array_equal(last.points, trained.points)
    np.testing.assert_array_equal(last.anchors, trained.anchors)
    assert workspace.embedding(two, KEPT[0]) == found[0]


def test_a_resumed_training_keeps_the_rest(tmp_path, two, monkeypatch):
    class Stops(Progress):
        """Interrupts a training in its fourth epoch."""

        def task(self, title, total):
            class Bar:
                def __enter__(self):
                    return self.advance

                def __exit__(self, *_):
                    pass

                left = 3.5 / 4 * total

                def advance(self, done, note):
                    self.left -= done
                    if self.left < 0:
                        raise KeyboardInterrupt

            return Bar()

    monkeypatch.setattr(trainer, "Run", partial(trainer.Run, save_seconds=0.0))
    workspace = Workspace(tmp_path, device="cpu")
    workspace.train(two.start)
    with pytest.raises(KeyboardInterrupt):
        Workspace(tmp_path, device="cpu", progress=Stops()).train(two)
    early = [workspace.find(Embed(two, view)) for view in KEPT]
    assert [bool(found) for found in early] == [True, True, True, False]
    workspace.train(two)
    assert [workspace.find(Embed(two, view)) for view in KEPT[:3]] == early[:3]
    assert workspace.find(Embed(two, KEPT[3])) is not None


def test_a_training_that_no_figure_looks_at_keeps_nothing(tmp_path, tiny):
    epoch = tiny().schedule.changed(epochs=1)
    for recipe in (tiny(embedding=2, schedule=epoch), tiny("ours", schedule=epoch)):
        Workspace(tmp_path, device="cpu").train(recipe)
    assert not (tmp_path / "results" / "embeddings").exists()


def test_what_training_did_not_keep_is_said(tmp_path, two):
    workspace = Workspace(tmp_path, device="cpu")
    workspace.make(Train(two))
    task = Embed(two, KEPT[2])
    workspace.find(task).path.unlink()
    with pytest.raises(UserError, match=r"ours after epoch 2 were not kept.*Move .*away"):
        workspace.make(task)


def test_ten_classes_at_most_and_always_the_same():
    assert shown_classes(3) == (0, 1, 2)
    assert shown_classes(10) == tuple(range(10))
    drawn = shown_classes(100)
    assert drawn == shown_classes(100) == tuple(sorted(set(drawn)))
    assert len(drawn) == 10
    assert max(drawn) > 10
