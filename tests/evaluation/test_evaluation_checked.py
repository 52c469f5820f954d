"""What a number rests on is checked before there is one: pixels, labels, answers, distances."""

import json

import h5py
import numpy as np
import pytest
from store_artefacts import as_before_digests, sign_set

from robustbench_pcl import PGD
from robustbench_pcl.errors import DamagedSetError
from robustbench_pcl.evaluation.checked import check_set
from robustbench_pcl.progress import Progress
from robustbench_pcl.store.adversarial_sets import open_set
from robustbench_pcl.store.embeddings import View
from robustbench_pcl.store.records import load_measurements

N, EPS = 20, 0.1
ATTACK = PGD(eps=EPS)


def in_text(file, name, **changes):
    content = json.loads(np.bytes_(file.attrs[name]).decode())
    file.attrs[name] = np.bytes_(json.dumps({**content, **changes}).encode())


def black_images(file):
    file["images"][:] = 0


def no_numbers(file):
    file["images"][2, 0, 0, 0] = np.nan


def a_pixel_beyond_the_budget(file):
    pixel = file["images"][2, 0, 0, 0]
    file["images"][2, 0, 0, 0] = pixel - 0.4 if pixel > 0.5 else pixel + 0.4


def images_in_another_order(file):
    file["images"][:] = file["images"][:][::-1]


def answers_for_labels(file):
    file["labels"][:] = file["predictions"][:]


def other_indices(file):
    file["indices"][:] = np.arange(1, N + 1)


def a_smaller_perturbation(file):
    in_text(file, "summary", largest_linf=EPS / 2)


def a_smaller_mean(file):
    in_text(file, "summary", mean_l2=1e-3)


def felled_by_nothing(file):
    file["felled_by"][:] = -1


def felled_by_stage_300(file):
    file["felled_by"][:] = np.where(file["felled_by"][:] >= 0, 300, -1)


def another_norm(file):
    in_text(file, "spec", norm="l2")


def larger_images(file):
    del file["images"]
    file["images"] = np.zeros((N, 1, 300, 300), np.float32)


def labels_for_predictions(file):
    file["predictions"][:] = file["labels"][:]


SIGNED = {
    black_images: "from its clean one, beyond eps = 0.1",
    no_numbers: "no numbers",
    a_pixel_beyond_the_budget: "test image 2 is 0.[345].* from its clean one, beyond eps = 0.1",
    images_in_another_order: "from its clean one, beyond eps = 0.1",
    answers_for_labels: "contradicts its prediction",
    other_indices: "the label of test image .* is another",
    a_smaller_perturbation: "says largest_linf = 0.05",
    a_smaller_mean: "says mean_l2 = 0.001",
    felled_by_nothing: "contradicts its prediction",
    felled_by_stage_300: "contradicts its prediction",
    another_norm: "its norm is l2, its attack's linf",
    larger_images: "its images are 1 x 300 x 300, not those of",
}
"""Changes of a set by somebody who writes its digests anew, and what is said of each."""


@pytest.fixture
def made(tiny_workspace, tiny):
    return tiny_workspace.adversarial_set(tiny(), ATTACK, images=N)


def change(path, how):
    with h5py.File(path, "r+") as file:
        how(file)


@pytest.mark.parametrize("how", SIGNED, ids=lambda how: how.__name__)
def test_no_number_is_had_of_a_set_that_is_not_what_it_should_be(how, made, tiny_workspace, tiny):
    change(made.path, how)
    sign_set(made.path)
    for target in (tiny(), tiny("ours")):
        with pytest.raises(DamagedSetError, match=SIGNED[how]) as error:
            tiny_workspace.measure(target, ATTACK, tiny(), images=N)
        assert made.path.name in error.value.cause
        assert "Move it away" in error.value.cure
    assert load_measurements(tiny_workspace.paths) == []


@pytest.mark.parametrize(
    ("before", "words"),
    [(lambda _: None, "do not match their digest"), (as_before_digests, "are not those of its")],
    ids=["a set with a digest", "an older set"],
)
@pytest.mark.parametrize("mode", ["exact", "early-stop"])
def test_predictions_are_not_believed(before, words, mode, tiny_workspace, tiny):
    """Written over with the labels, they gave 100 %."""
    path = tiny_workspace.adversarial_set(tiny(), ATTACK, images=N, mode=mode).path
    before(path)
    change(path, labels_for_predictions)
    with pytest.raises(DamagedSetError, match=words):
        tiny_workspace.measure(tiny(), ATTACK, images=N, mode=mode)
    assert load_measurements(tiny_workspace.paths) == []


@pytest.mark.parametrize("mode", ["exact", "early-stop"])
def test_an_older_set_is_measured_as_before(mode, tiny_workspace, tiny):
    path = tiny_workspace.adversarial_set(tiny(), ATTACK, images=N, mode=mode).path
    expected = tiny_workspace.measure(tiny(), ATTACK, images=N, mode=mode)
    (record,) = tiny_workspace.paths.measurements.iterdir()
    record.unlink()
    as_before_digests(path)
    found = tiny_workspace.measure(tiny(), ATTACK, images=N, mode=mode)
    assert (found.verdicts, found.correct_8bit) == (expected.verdicts, expected.correct_8bit)


READERS = {
    "judging": lambda home, tiny, made, folder: home.judge(tiny("ours"), open_set(made.path)),
    "images": lambda home, tiny, made, folder: home.export(made.spec.id, folder / "a.h5"),
    "rows": lambda home, tiny, made, folder: home.export(made.spec.id, folder / "a.csv"),
    "features": lambda home, tiny, made, folder: home.embedding(
        tiny(), View(layer=5, method="tsne", attack=ATTACK.dump()), images=N
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_nobody_reads_past_the_check(reader, made, tiny_workspace, tiny, tmp_path):
    change(made.path, a_pixel_beyond_the_budget)
    sign_set(made.path)
    with pytest.raises(DamagedSetError, match="beyond eps"):
        READERS[reader](tiny_workspace, tiny, made, tmp_path)
    assert not list(tmp_path.glob("a.*"))


class Said(Progress):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def test_the_worst_case_passes_it_over(made, tiny_workspace, tiny):
    tiny_workspace.adversarial_set(tiny(), "fgsm", images=N)
    change(made.path, a_pixel_beyond_the_budget)
    sign_set(made.path)
    tiny_workspace.progress = Said()
    found = tiny_workspace.worst_case(tiny("ours"), images=N)
    assert found.sets == 1
    (line,) = tiny_workspace.progress.lines
    assert made.path.name in line


def test_images_of_another_copy_are_held_against_their_digests_alone(made, tiny_workspace):
    """As far as can be seen without their clean images, they may be right."""
    dataset = tiny_workspace.dataset("digits")
    with h5py.File(made.path, "r+") as file:
        data = json.loads(file.attrs["spec"])["data"]
        in_text(file, "spec", data={**data, "digest": "0" * 12})
        black_images(file)
    with pytest.raises(DamagedSetError, match="do not match their digest"):
        check_set(open_set(made.path), dataset)
    sign_set(made.path)
    check_set(open_set(made.path), dataset)
