"""Copies that users bring: what is read from them, and how bad ones are refused."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbench_pcl.data import archives, loader
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError

CIFAR10 = dataset_spec("cifar10")


def assert_same_images(dataset, raw):
    assert np.array_equal(dataset.train.images, raw.train_images)
    assert np.array_equal(dataset.train.labels, raw.train_labels)
    assert np.array_equal(dataset.test.images, raw.test_images)
    assert np.array_equal(dataset.test.labels, raw.test_labels)


@pytest.mark.parametrize("spec", DATASETS.values(), ids=lambda spec: spec.name)
def test_every_data_set_comes_back_from_a_zip(spec, toy, image_folder, folder_names, packed):
    raw = toy(spec)
    dataset = loader.add(spec.name, packed(image_folder(raw, folder_names(spec)), "copy.zip"))
    assert_same_images(dataset, raw)
    count = len(spec.classes)
    assert dataset.provenance.source == "image archive copy.zip"
    assert dataset.provenance.subset
    assert dataset.provenance.note == (
        f"{2 * count} of {spec.train_images:,} training and "
        f"{count} of {spec.test_images:,} test images"
    )
    assert not dataset.provenance.lossy


@pytest.mark.parametrize("name", ["copy.zip", "copy.tar.gz", "copy.tgz", "copy.tar", "folder"])
def test_every_kind_of_archive_holds_the_same(name, toy, image_folder, packed):
    raw = toy(CIFAR10)
    dataset = loader.add("cifar10", packed(image_folder(raw, CIFAR10.classes), name))
    assert_same_images(dataset, raw)


def test_classes_txt_decides_the_labels(toy, image_folder, packed):
    raw = toy(CIFAR10)
    names = tuple("qwertyuiop")
    folder = image_folder(raw, names)
    (folder / "classes.txt").write_text("\ufeff" + "\r\n".join(names) + "\n\n", encoding="utf-8")
    assert_same_images(loader.add("cifar10", packed(folder, "copy.zip")), raw)


@pytest.mark.parametrize("names", [tuple("0123456789"), tuple(f"{n:03}" for n in range(10))])
def test_numbers_decide_the_labels(names, toy, image_folder):
    raw = toy(CIFAR10)
    assert_same_images(loader.add("cifar10", image_folder(raw, names)), raw)


def test_else_the_alphabet_decides(toy, image_folder):
    raw = toy(CIFAR10)
    assert_same_images(loader.add("cifar10", image_folder(raw, tuple("abcdefghij"))), raw)


def test_jpeg_copies_are_marked_lossy(toy, image_folder, packed):
    raw = toy(CIFAR10)
    dataset = loader.add("cifar10", packed(image_folder(raw, CIFAR10.classes, "jpg"), "c.tar.gz"))
    assert dataset.provenance.lossy
    assert dataset.provenance.note.startswith("JPEG copy: pixels differ from the published set; ")
    assert dataset.record("test").lossy
    assert not np.array_equal(dataset.test.images, raw.test_images)


def test_a_jpeg_under_another_name_is_still_lossy(toy, image_folder):
    folder = image_folder(toy(CIFAR10), CIFAR10.classes, "jpg")
    for path in folder.rglob("*.jpg"):
        path.rename(path.with_suffix(".png"))
    assert loader.add("cifar10", folder).provenance.lossy


def test_idx_files_in_a_zip(toy, idx_files, packed, tmp_path):
    raw = toy(dataset_spec("mnist"))
    dataset = loader.add("mnist", packed(idx_files(raw, tmp_path / "idx"), "mnist.zip"))
    assert_same_images(dataset, raw)
    assert dataset.provenance.source == "IDX archive mnist.zip"


def test_other_files_are_passed_over(toy, image_folder, packed):
    raw = toy(CIFAR10)
    folder = image_folder(raw, CIFAR10.classes)
    (folder / "README.md").write_text("hello")
    (folder / "__MACOSX" / "train" / "cat").mkdir(parents=True)
    (folder / "__MACOSX" / "train" / "cat" / "7.png").write_text("no image")
    (folder / "train" / "cat" / "._7.png").write_text("no image")
    assert_same_images(loader.add("cifar10", packed(folder, "copy.zip")), raw)


def test_names_that_point_outside_lead_nowhere(toy, image_folder, packed, tmp_path):
    raw = toy(CIFAR10)
    path = packed(image_folder(raw, CIFAR10.classes), "copy.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../train/cat/99.png", b"evil")
        archive.writestr("/train/cat/99.png", b"evil")
    before = sorted(tmp_path.rglob("*"))
    assert_same_images(loader.add("cifar10", path), raw)
    assert not [path for path in set(tmp_path.rglob("*")) - set(before) if path.suffix == ".png"]


def test_links_in_a_tar_are_not_followed(toy, image_folder, packed):
    raw = toy(CIFAR10)
    path = packed(image_folder(raw, CIFAR10.classes), "copy.tar")
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("train/cat/99.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert_same_images(loader.add("cifar10", path), raw)


def refuse(path: Path, name: str = "cifar10") -> UserError:
    with pytest.raises(UserError) as caught:
        loader.add(name, path)
    assert "\n" not in caught.value.cause + caught.value.cure
    return caught.value


def test_a_missing_file(tmp_path):
    assert "nowhere.zip: there is no such file" in refuse(tmp_path / "nowhere.zip").cause


def test_a_web_page_named_zip(tmp_path):
    path = tmp_path / "cifar.zip"
    path.write_text("<!DOCTYPE html><html>Sign in</html>")
    error = refuse(path)
    assert error.cause == "cifar.zip is a web page."
    assert error.cure == "Download it again."


@pytest.mark.parametrize("name", ["copy.zip", "copy.tar.gz"])
@pytest.mark.parametrize("part", [0.5, 0.99])
def test_a_truncated_archive(name, part, toy, image_folder, packed):
    path = packed(image_folder(toy(CIFAR10), CIFAR10.classes), name)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert "is damaged or incomplete" in refuse(path).cause


@pytest.mark.parametrize("name", ["copy.zip", "copy.tar.gz"])
def test_a_flipped_bit_in_an_archive(name, toy, image_folder, packed):
    path = packed(image_folder(toy(CIFAR10), CIFAR10.classes), name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refuse(path)


def test_an_encrypted_member_is_named(toy, image_folder, packed):
    path = packed(image_folder(toy(CIFAR10), CIFAR10.classes), "copy.zip")
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\1\2")
    content[entry + 8] |= 1  # the flag in the last member's directory entry
    path.write_bytes(content)
    assert "encrypted" in refuse(path).cause


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (Image.new("RGB", (28, 28)), "28x28 RGB"),
        (Image.new("L", (32, 32)), "32x32 L"),
        (Image.new("RGBA", (32, 32)), "32x32 RGBA"),
        (Image.new("P", (32, 32)), "32x32 P"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_image_of_another_kind_is_named(image, found, toy, image_folder):
    folder = image_folder(toy(CIFAR10), CIFAR10.classes)
    image.save(folder / "train" / "cat" / "7.png")
    cause = refuse(folder).cause
    assert cause.endswith(f"cat/7.png is {found}, but the images of CIFAR-10 are 32x32 RGB.")


def test_an_enormous_image_is_refused_before_it_is_decoded(toy, image_folder):
    folder = image_folder(toy(CIFAR10), CIFAR10.classes)
    content = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(content, "PNG")
    (folder / "test" / "cat" / "7.png").write_bytes(content.getvalue())
    assert "cat/7.png is 10000x10000 1" in refuse(folder).cause


def test_a_broken_image_is_named(toy, image_folder):
    folder = image_folder(toy(CIFAR10), CIFAR10.classes)
    (folder / "train" / "cat" / "7.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    assert refuse(folder).cause == "train/cat/7.png is not a readable image."


def test_an_unknown_class_is_named(toy, image_folder):
    folder = image_folder(toy(CIFAR10), CIFAR10.classes)
    (folder / "train" / "cat").rename(folder / "train" / "kitten")
    error = refuse(folder)
    assert error.cause == "The folder 'kitten' is no class of CIFAR-10."
    assert "classes.txt" in error.cure


def test_a_class_that_classes_txt_does_not_list(toy, image_folder):
    folder = image_folder(toy(CIFAR10), tuple("abcdefghij"))
    (folder / "classes.txt").write_text("\n".join("abcdefghik"))
    assert refuse(folder).cause == "The folder 'j' is no class of CIFAR-10."


def test_too_few_unnamed_classes(toy, image_folder):
    folder = image_folder(toy(CIFAR10), tuple("aabcdefghi"))
    assert "is no class of CIFAR-10" in refuse(folder).cause


@pytest.mark.parametrize("number", ["10", "9" * 30])
def test_a_number_that_is_no_label(number, toy, image_folder):
    folder = image_folder(toy(CIFAR10), (*"012345678", number))
    assert refuse(folder).cause == f"The folder {number!r} is no class of CIFAR-10."


@pytest.mark.parametrize("content", ["one\ntwo", "a\n" * 10])
def test_a_class_list_that_does_not_fit(content, toy, image_folder):
    folder = image_folder(toy(CIFAR10), tuple("abcdefghij"))
    (folder / "classes.txt").write_text(content)
    assert "does not list 10 different classes" in refuse(folder).cause


def test_a_missing_split(toy, image_folder):
    folder = image_folder(toy(CIFAR10), CIFAR10.classes)
    (folder / "test").rename(folder / "validation")
    error = refuse(folder)
    assert error.cause == "There are no test images."
    assert "test/<class>/<id>.png" in error.cure


def test_two_data_sets_in_one_archive(toy, image_folder, tmp_path):
    for top in ("both/one", "both/two"):
        image_folder(toy(CIFAR10), CIFAR10.classes, top=top)
    assert "one, two" in refuse(tmp_path / "both").cause


def test_more_images_than_published(toy, idx_files, tmp_path, monkeypatch):
    raw = toy(dataset_spec("mnist"))
    repeated = type(raw)(
        np.repeat(raw.train_images, 3001, axis=0),
        np.repeat(raw.train_labels, 3001),
        raw.test_images,
        raw.test_labels,
        "",
    )
    error = refuse(idx_files(repeated, tmp_path / "idx"), "mnist")
    assert error.cause == "The train images are 60,020, but MNIST has 60,000."


@pytest.mark.parametrize("limit", ["MAX_MEMBERS", "MAX_BYTES", "MAX_MEMBER_BYTES"])
@pytest.mark.parametrize("name", ["copy.zip", "copy.tar.gz", "folder"])
def test_limits(limit, name, image_folder, packed, request):
    path = packed(image_folder(request.getfixturevalue("toy")(CIFAR10), CIFAR10.classes), name)
    request.getfixturevalue("monkeypatch").setattr(archives, limit, 20)
    refuse(path)


def test_a_long_name_in_a_tar_does_not_expand_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 2**16)
    path = tmp_path / "bomb.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("train/cat/" + "0" * 2**20 + ".png"))
    assert path.stat().st_size < 2**13
    assert "expands to more bytes" in refuse(path).cause
