"""The data sets there are, as they were published, and those that users add."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets as torchvision_datasets

from robustbench_pcl.data import loader
from robustbench_pcl.data.datasets import (
    DATASETS,
    OWN_SOURCES,
    DatasetSpec,
    add_dataset,
    dataset_spec,
)
from robustbench_pcl.errors import UserError

ALL = pytest.mark.parametrize("spec", list(DATASETS.values()), ids=lambda spec: spec.name)


@ALL
def test_settings_are_the_paper_s(spec):
    grey, tiny = spec.shape[0] == 1, spec.name == "digits"
    assert spec.eps == (0.1 if tiny else 0.3 if grey else 0.03)
    assert spec.carlini_wagner_c == (10.0 if grey else 0.1)
    assert spec.model == ("conv6" if grey else "resnet110")
    low, high = spec.training_eps
    assert (low, high) == (pytest.approx(spec.eps / 3), pytest.approx(spec.eps * 5 / 3))


@ALL
def test_numbers_have_their_fields_types(spec):
    assert type(spec.carlini_wagner_c) is type(spec.eps) is float
    assert {type(size) for size in spec.shape} == {int}


@ALL
def test_torchvision_names_the_same_classes(spec):
    published = getattr(torchvision_datasets, spec.torchvision, None)
    classes = getattr(published, "classes", spec.classes)  # SVHN and digits name none
    assert spec.classes == tuple(name.split(" - ")[0] for name in classes)
    assert len(set(spec.classes)) == len(spec.classes)


def test_cifar100_classes_are_the_fine_ones_in_label_order():
    classes = dataset_spec("cifar100").classes
    assert classes == tuple(sorted(classes))
    assert (len(classes), classes[0], classes[49], classes[99]) == (
        100,
        "apple",
        "mountain",
        "worm",
    )


def test_digits_are_never_mirrored():
    mirrored = {name for name, spec in DATASETS.items() if "flip" in spec.augmentation}
    assert mirrored == {"cifar10", "cifar100"}


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError) as caught:
        dataset_spec("cifar-10")
    assert caught.value.cause == "There is no data set called 'cifar-10'."
    assert "Did you mean cifar10" in caught.value.cure


# Data sets from outside the package

CROSSES = DatasetSpec(
    name="crosses",
    title="Crosses",
    shape=(1, 4, 4),
    classes=("plus", "times"),
    train_images=6,
    test_images=2,
    augmentation=(),
    eps=0.1,
    training_eps=(0.05, 0.15),
    carlini_wagner_c=1,
    model="conv6",
    license="CC0",
    citation="nobody",
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder that modules are imported from; the list of data sets is as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    tables = [(table, dict(table)) for table in (DATASETS, OWN_SOURCES)]
    yield tmp_path
    sys.modules.pop("their_images", None)
    for table, before in tables:
        table.clear()
        table.update(before)


SOURCE = """
import numpy as np
from robustbench_pcl.data.dataset import RawDataset

def find(spec, data_root):
    values = np.arange(8, dtype=np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (8, *spec.shape))
    return RawDataset(images[:6], values[:6] % 2, images[6:], values[6:] % 2, f"from {data_root}")
"""


def test_a_data_set_may_bring_its_source(here):
    (here / "their_images.py").write_text(SOURCE)
    for _ in range(2):
        add_dataset(CROSSES, "their_images:find")
    dataset = loader.load("crosses", Path("root"), download=False)
    assert dataset.spec is dataset_spec("crosses") is CROSSES
    assert dataset.provenance.source == "from root"
    assert not dataset.provenance.subset
    assert np.array_equal(dataset.train.labels, [0, 1, 0, 1, 0, 1])
    assert np.array_equal(dataset.test.images[:, 0, 0, 0], [6, 7])


def test_a_data_set_may_be_given_as_files(here):
    add_dataset(CROSSES)
    for split, count in (("train", 3), ("test", 1)):
        for label, name in enumerate(CROSSES.classes):
            folder = here / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("L", (4, 4), 100 * label).save(folder / f"{number}.png")
    with pytest.raises(UserError, match="pclbench data add crosses FILE"):
        loader.load("crosses", download=False)
    added = loader.add("crosses", Path("images"))
    assert (len(added.train), len(added.test)) == (6, 2)
    assert added.provenance.source == "image folder images"
    assert sorted(loader.load("crosses").test.images[:, 0, 0, 0]) == [0, 100]


def test_a_source_that_finds_nothing_is_asked_in_vain(here):
    (here / "their_images.py").write_text("def find(spec, data_root):\n    return None\n")
    add_dataset(CROSSES, "their_images:find")
    with pytest.raises(UserError, match="Crosses was not found"):
        loader.load("crosses", download=False)


@pytest.mark.parametrize(
    ("name", "find", "words"),
    [
        ("digits", None, "'digits' is the name of another data set. Give yours another one."),
        ("My Crosses", None, "No data set can be called 'My Crosses'. .*: my-crosses."),
        ("crosses", "find", "'find' does not say where the source of data set crosses is"),
    ],
)
def test_data_sets_that_cannot_be_added(here, name, find, words):
    before = dict(DATASETS)
    with pytest.raises(UserError, match=words):
        add_dataset(replace(CROSSES, name=name), find)
    assert before == DATASETS
