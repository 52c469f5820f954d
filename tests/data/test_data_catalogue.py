"""The catalogue agrees with what was published."""

import dataclasses

import pytest

from robustbench_pcl.data.catalogue import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError

GREY = ("conv6", 10)
COLOUR = ("resnet110", 0.1)
PUBLISHED = [
    # name, title, shape, classes, train, test, augmentation, eps, (model, c)
    ("digits", "Digits", (1, 8, 8), 10, 1_297, 500, (), 0.1, GREY),
    ("mnist", "MNIST", (1, 28, 28), 10, 60_000, 10_000, (), 0.3, GREY),
    ("fmnist", "F-MNIST", (1, 28, 28), 10, 60_000, 10_000, (), 0.3, GREY),
    ("cifar10", "CIFAR-10", (3, 32, 32), 10, 50_000, 10_000, ("crop", "flip"), 0.03, COLOUR),
    ("cifar100", "CIFAR-100", (3, 32, 32), 100, 50_000, 10_000, ("crop", "flip"), 0.03, COLOUR),
    ("svhn", "SVHN", (3, 32, 32), 10, 73_257, 26_032, ("crop",), 0.03, COLOUR),
]


def test_the_order_is_that_of_the_list():
    assert list(DATASETS) == [row[0] for row in PUBLISHED]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row[0])
def test_facts(row):
    name, title, shape, classes, train, test, augmentation, eps, architecture = row
    spec = dataset_spec(name)
    assert (spec.name, spec.title, spec.shape, len(set(spec.classes))) == (
        name,
        title,
        shape,
        classes,
    )
    assert len(spec.classes) == classes
    assert (spec.train_images, spec.test_images, spec.augmentation) == (train, test, augmentation)
    assert spec.eps == eps
    assert (spec.model, spec.carlini_wagner_c) == architecture
    assert spec.license
    assert spec.citation


@pytest.mark.parametrize("spec", DATASETS.values(), ids=lambda spec: spec.name)
def test_training_interval_keeps_the_paper_proportion_to_eps(spec):
    low, high = spec.training_eps
    assert low == pytest.approx(spec.eps / 3)
    assert high == pytest.approx(spec.eps * 5 / 3)


def test_cifar100_classes_are_the_fine_ones_in_label_order():
    classes = dataset_spec("cifar100").classes
    assert classes == tuple(sorted(classes))
    assert (classes[0], classes[49], classes[99]) == ("apple", "mountain", "worm")


@pytest.mark.parametrize(
    "spec", [spec for spec in DATASETS.values() if spec.torchvision], ids=lambda spec: spec.name
)
def test_torchvision_names_the_same_classes(spec):
    from torchvision import datasets

    classes = getattr(getattr(datasets, spec.torchvision), "classes", None)
    if classes is not None:
        assert spec.classes == tuple(name.split(" - ")[0] for name in classes)


def test_a_spec_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset_spec("mnist").eps = 0.5


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError) as caught:
        dataset_spec("cifar-10")
    assert caught.value.cause == "There is no data set called 'cifar-10'."
    assert "Did you mean cifar10" in caught.value.cure
