"""The picture of the images that an attack fooled first: exactly those pixels, or none."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from robustbench_pcl.evaluation.checked import CheckedSet
from robustbench_pcl.report.strips import description, first_fooled, strip, strip_file
from robustbench_pcl.store.adversarial_sets import find_set
from robustbench_pcl.store.records import find_measurement


@pytest.fixture(scope="module")
def attacked(tiny_home, tiny, tmp_path_factory):
    """A workspace with a clean accuracy and one under PGD; to be read only."""
    from robustbench_pcl import Workspace

    folder = tmp_path_factory.mktemp("attacked")
    shutil.copytree(tiny_home / "checkpoints", folder / "checkpoints")
    workspace = Workspace(folder, device="cpu")
    clean = workspace.measure(tiny("ours"), images=40)
    return workspace, clean, workspace.measure(tiny("ours"), "pgd", images=40)


def pixels(png):
    """uint8 (rows, 3, 8, 8): clean, adversarial and difference of each image."""
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture).reshape(-1, 8, 3, 8).transpose(0, 2, 1, 3)


def test_it_shows_the_images_that_were_right_until_they_were_attacked(attacked):
    workspace, clean, measured = attacked
    rows = np.flatnonzero(clean.withstood() & ~measured.withstood())[:3]
    assert len(rows) == 3
    assert first_fooled(measured, clean).tolist() == rows.tolist()
    assert first_fooled(measured, None).tolist() == rows.tolist()
    images = find_set(workspace.paths.adversarial_sets, measured.adversarial_set)
    before = workspace.dataset("digits").test.images[rows, 0]
    after = CheckedSet("its", images).pixels(rows)[:, 0]
    shown = pixels(strip(workspace.paths, measured))
    assert np.array_equal(shown[:, 0], before)
    assert np.array_equal(shown[:, 1], np.rint(255 * after))
    change = np.clip(0.5 + 10 * (after - before.astype(np.float32) / 255), 0, 1)
    assert np.array_equal(shown[:, 2], np.rint(255 * change))


def test_it_says_which_images_and_what_the_model_answers(attacked):
    workspace, clean, measured = attacked
    images = find_set(workspace.paths.adversarial_sets, measured.adversarial_set)
    sentences = [
        f"Test image {images.columns['indices'][row]}: label {images.columns['labels'][row]}, "
        f"answer {images.columns['predictions'][row]}."
        for row in first_fooled(measured, clean)
    ]
    assert description(strip(workspace.paths, measured)) == " ".join(sentences)
    assert description(b"no picture") == ""


def test_the_same_images_make_the_same_bytes_without_anything_else_in_them(attacked):
    workspace, _, measured = attacked
    png = strip(workspace.paths, measured)
    assert strip(workspace.paths, measured) == png
    with Image.open(io.BytesIO(png)) as picture:
        assert set(picture.info) == {"Description"}


def test_there_is_none_of_what_was_not_attacked_or_is_no_longer_stored(attacked, tmp_path):
    workspace, clean, measured = attacked
    assert strip(workspace.paths, clean) is None
    withstood = measured.changed(verdicts="ff" * 5, felled_by="")
    assert strip(workspace.paths, withstood) is None
    copy = shutil.copytree(workspace.paths.root, tmp_path / "copy")
    paths = type(workspace.paths)(copy)
    file = paths.adversarial_sets / f"{measured.adversarial_set}.h5"
    file.write_bytes(file.read_bytes()[:1000])
    assert strip(paths, measured) is None
    file.unlink()
    assert strip(paths, measured) is None
    assert find_measurement(paths, measured.id) == measured


def test_one_that_was_written_is_shown_as_it_is(attacked, tmp_path):
    workspace, _, measured = attacked
    paths = type(workspace.paths)(tmp_path)
    written = strip_file(paths, measured.id)
    written.parent.mkdir(parents=True)
    written.write_bytes(strip(workspace.paths, measured))
    assert written == tmp_path / "results" / "strips" / f"{measured.id}.png"
    assert strip(paths, measured) == written.read_bytes()
