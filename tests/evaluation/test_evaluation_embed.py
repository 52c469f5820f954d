"""Embeddings show the features, images and classes that their specification names."""

import numpy as np
import pytest
import torch
from evaluation_sets import classes, stored

from robustbench_pcl import PGD
from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.loader import load
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation import embed
from robustbench_pcl.evaluation.embed import lay_out, tsne
from robustbench_pcl.pipeline.training import embedding_specification
from robustbench_pcl.store.embeddings import View
from robustbench_pcl.store.records import ModelRecord
from robustbench_pcl.training.build import build_model

CPU = torch.device("cpu")
N = 30


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def images(digits):
    return pixels(torch.from_numpy(np.array(digits.test.images[:N])))


def made(recipe):
    """A model with prototypes away from zero."""
    model = build_model(recipe, [0.3], [0.4]).eval()
    with torch.no_grad():
        for loss in model.criterion.losses.values():
            loss.prototypes.normal_(generator=torch.Generator().manual_seed(1))
            loss.scale.fill_(3.0)
    return model


def seen(model, recipe, digits, view, n=N, **changes):
    record = ModelRecord(checkpoint="", weights="", recipe=recipe)
    spec = embedding_specification(record, view, digits, n, None).changed(**changes)
    return lay_out(model, spec, digits, None, CPU)


@pytest.fixture
def two(tiny):
    return tiny("ours", embedding=2)


def test_two_neurons_are_drawn_as_they_are(two, digits, images):
    model = made(two)
    found = seen(model, two, digits, View(layer=5))
    with torch.no_grad():
        logits, features = model.classifier.features(images)
    np.testing.assert_allclose(found.points, features[5].numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.labels, digits.test.labels[:N])
    np.testing.assert_array_equal(found.predictions, logits.argmax(dim=1).numpy())
    expected = model.criterion.losses["5"].anchors().detach().numpy()
    np.testing.assert_array_equal(found.anchors, expected)
    assert found.points.dtype == found.head.dtype == np.float32


def test_the_head_gives_each_point_the_models_class(two, digits):
    found = seen(made(two), two, digits, View(layer=5))
    logits = found.points @ found.head[:, :2].T + found.head[:, 2]
    np.testing.assert_array_equal(logits.argmax(axis=1), found.predictions)
    assert len(set(found.predictions)) > 1


def test_where_another_rule_decides_there_is_no_head(tiny, digits):
    recipe = tiny("ours", embedding=2, inference="nearest")
    found = seen(made(recipe), recipe, digits, View(layer=5))
    assert found.head is None
    distances = ((found.points[:, None] - found.anchors[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found.predictions, distances.argmin(axis=1))


def test_without_a_loss_there_are_no_anchors(tiny, digits):
    recipe = tiny("softmax", embedding=2)
    found = seen(made(recipe), recipe, digits, View(layer=5))
    assert found.anchors is None
    assert found.head is not None


@pytest.mark.parametrize("layer", [1, 2, 3, 4, 5])
def test_the_features_are_the_named_layers(tiny, digits, images, layer, monkeypatch):
    caught = {}
    monkeypatch.setattr(
        embed, "tsne", lambda features, seed: caught.update(x=features) or features[:, :2]
    )
    recipe = tiny("ours")
    model = made(recipe)
    found = seen(model, recipe, digits, View(layer=layer, method="tsne"))
    with torch.no_grad():
        output = model.classifier.normalise(images)
        for part in model.classifier.layers[:layer]:
            output = part(output)
        if output.ndim == 4:
            output = output.mean(dim=(2, 3))
    np.testing.assert_allclose(caught["x"], output.numpy(), rtol=1e-4, atol=1e-5)
    assert (found.anchors, found.head) == (None, None)


def test_a_feature_layer_shows_what_its_loss_sees(tiny, digits, images, monkeypatch):
    recipe = tiny("ours")
    model = made(recipe)
    model.classifier.branches["3"] = torch.nn.Linear(model.classifier.layers[3].in_features, 7)
    monkeypatch.setattr(embed, "tsne", lambda features, seed: features)
    found = seen(model, recipe, digits, View(layer=3, method="tsne"))
    with torch.no_grad():
        _, features = model.classifier.features(images)
    np.testing.assert_allclose(found.points, features[3].numpy(), rtol=1e-4, atol=1e-5)


def test_the_model_is_left_as_it_was(two, digits, images):
    model = made(two)
    with torch.no_grad():
        before = model(images)
    seen(model, two, digits, View(layer=5))
    assert not any(layer._forward_hooks for layer in model.classifier.layers)
    with torch.no_grad():
        assert torch.equal(model(images), before)


def test_only_the_first_images_of_the_named_classes_are_shown(two, digits):
    found = seen(made(two), two, digits, View(layer=5), n=25, classes=(2, 7))
    wanted = np.flatnonzero(np.isin(digits.test.labels, (2, 7)))[:25]
    np.testing.assert_array_equal(found.labels, digits.test.labels[wanted])
    everything = seen(made(two), two, digits, View(layer=5), n=1999)
    np.testing.assert_array_equal(everything.labels, digits.test.labels)


def test_a_set_of_attacked_images_is_shown_in_its_order(tiny_workspace, tiny, digits):
    attack, recipe = PGD(eps=0.1, steps=2), tiny("ours")
    images = tiny_workspace.adversarial_set(recipe, attack, images=20)
    model, record = tiny_workspace.model(recipe), tiny_workspace.train(recipe).record
    view = View(layer=4, method="tsne", attack=attack.dump())
    spec = embedding_specification(record, view, digits, 20, images.spec.id)
    found = lay_out(model, spec, digits, images, CPU)
    content = stored(images)
    np.testing.assert_array_equal(found.labels, content["labels"])
    np.testing.assert_array_equal(found.predictions, classes(model, content["images"]))


def test_what_cannot_be_shown_is_said(tiny, two, digits):
    one = tiny("ours")
    with pytest.raises(UserError, match=r"ours has no layer 6\. Its layers are 1 to 5"):
        seen(made(one), one, digits, View(layer=6))
    with pytest.raises(UserError, match=r"Layer 3 of ours has 26 neurons, not two.*ours-2d"):
        seen(made(one), one, digits, View(layer=3))
    with pytest.raises(UserError, match=r"at least 5 images, and there are 4.*--images"):
        seen(made(one), one, digits, View(layer=3, method="tsne"), n=4)
    several = tiny("softmax", members=2)
    with pytest.raises(UserError, match="softmax is an ensemble"):
        seen(build_model(several).eval(), several, digits, View(layer=3))


def clusters(count=90, classes=3, width=20):
    random = np.random.default_rng(0)
    centres = random.normal(size=(classes, width)) * 8
    labels = np.arange(count) % classes
    return (centres[labels] + random.normal(size=(count, width))).astype(np.float32), labels


def test_tsne_is_repeatable_and_has_no_unit():
    features, _ = clusters()
    first = tsne(features, 0)
    assert first.shape == (90, 2)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(tsne(features, 0), first)
    np.testing.assert_allclose(tsne(features * 1024, 0), first, atol=1e-2)


def test_tsne_keeps_what_is_near_near():
    features, labels = clusters()
    points = tsne(features, 0)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()


@pytest.mark.parametrize("count", [5, 7])
def test_tsne_of_a_few_points_and_of_equal_ones(count):
    features, _ = clusters(count)
    assert np.isfinite(tsne(features, 0)).all()
    assert np.isfinite(tsne(np.ones_like(features), 0)).all()
