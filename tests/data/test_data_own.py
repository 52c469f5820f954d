"""Data sets from outside the package: what they bring, and where their images come from."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from robustbench_pcl.cli.data import app
from robustbench_pcl.data import loading
from robustbench_pcl.data.catalogue import DATASETS, OWN_SOURCES, add_dataset, dataset_spec
from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.errors import UserError

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


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder that modules are imported from; the catalogue is as before afterwards."""
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
    dataset = loading.load("crosses", Path("root"), download=False)
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
        loading.load("crosses", download=False)
    result = CliRunner().invoke(app, ["add", "crosses", "images"], catch_exceptions=False)
    assert result.stderr.startswith("Crosses: 6 training and 2 test images from image folder")
    assert sorted(loading.load("crosses").test.images[:, 0, 0, 0]) == [0, 100]


def test_a_source_that_finds_nothing_is_asked_in_vain(here):
    (here / "their_images.py").write_text("def find(spec, data_root):\n    return None\n")
    add_dataset(CROSSES, "their_images:find")
    with pytest.raises(UserError, match="Crosses was not found"):
        loading.load("crosses", download=False)


@pytest.mark.parametrize(
    ("name", "find", "words"),
    [
        ("digits", None, "'digits' is the name of another data set. Give yours another one."),
        ("My Crosses", None, "No data set can be called 'My Crosses'. .*: my-crosses."),
        ("crosses", "find", "'find' does not say where the source of data set crosses is"),
    ],
)
def test_data_sets_that_cannot_be_added(name, find, words):
    before = dict(DATASETS)
    with pytest.raises(UserError, match=words):
        add_dataset(replace(CROSSES, name=name), find)
    assert before == DATASETS
