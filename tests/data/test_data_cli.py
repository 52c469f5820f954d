"""``pclbench data``."""

import json

import pytest
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.data import dataset as data_cache
from robustbench_pcl.data.datasets import DATASETS, dataset_spec

CIFAR10 = dataset_spec("cifar10")


def run(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)], catch_exceptions=False)


def refusal(*arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    return result.stderr


def rows(*arguments):
    return json.loads(run(*arguments, "--format", "json").stdout)["rows"]


def test_list_of_an_empty_cache():
    listed = rows("list")
    assert [row["dataset"] for row in listed] == list(DATASETS)
    assert {row["provenance"] for row in listed} == {"not here"}
    assert listed[3]["train_images"] == 50_000
    assert "pclbench data add" in run("list").stderr


def test_list_tells_where_images_come_from_and_what_is_wrong_with_them(toy, cache):
    data_cache.write(CIFAR10, toy(CIFAR10))
    data_cache.write(dataset_spec("mnist"), toy(dataset_spec("mnist")))
    (cache / "mnist" / "info.json").write_text("{")
    listed = {row["dataset"]: row for row in rows("list")}
    assert listed["cifar10"]["provenance"] == "toy"
    assert listed["cifar10"]["note"] == "20 of 50,000 training and 10 of 10,000 test images"
    assert (listed["cifar10"]["train_images"], listed["cifar10"]["test_images"]) == (20, 10)
    assert listed["mnist"]["provenance"] == "broken"
    assert "CIFAR-10" in run("list").stdout


def test_add_a_file(toy, image_folder, packed):
    raw = toy(CIFAR10)
    result = run("add", "cifar10", packed(image_folder(raw, CIFAR10.classes), "copy.zip"))
    assert result.exit_code == 0
    assert result.stderr.startswith("CIFAR-10: 20 training and 10 test images from image archive")
    assert data_cache.read(CIFAR10) is not None


def test_add_without_a_file_looks_everywhere():
    assert "Digits: 1,297 training" in run("add", "digits").stderr


def test_add_from_a_data_root(toy, idx_files, tmp_path):
    idx_files(toy(dataset_spec("mnist")), tmp_path / "root" / "MNIST" / "raw")
    assert "torchvision files" in run("add", "mnist", "--data-root", tmp_path / "root").stderr


def test_verify(toy, cache):
    data_cache.write(CIFAR10, toy(CIFAR10))
    (row,) = rows("verify")
    assert row["name"] == "cifar10"
    assert row == rows("verify", "cifar10")[0]
    with (cache / "cifar10" / "train-images.npy").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    assert "have changed" in refusal("verify", "cifar10")


def test_verify_of_what_is_not_there():
    assert rows("verify") == []
    assert "not in the cache" in refusal("verify", "cifar10")


def test_path(cache):
    assert run("path").stdout.strip() == str(cache)
    assert run("path", "mnist").stdout.strip() == str(cache / "mnist")


@pytest.mark.parametrize("command", ["add", "verify", "path"])
def test_unknown_names_are_refused(command):
    assert "There is no data set called" in refusal(command, "imagenet")
