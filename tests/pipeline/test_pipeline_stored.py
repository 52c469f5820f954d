"""The worst case over every stored set: all that are within the budget, each judged once."""

import h5py
import numpy as np
import pytest

from robustbench_pcl import results
from robustbench_pcl.progress import Progress

N, EPS = 20, 0.1


class Said(Progress):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


@pytest.fixture
def workspace(tiny_workspace):
    tiny_workspace.progress = Said()
    return tiny_workspace


@pytest.fixture
def imported(workspace, tmp_path):
    """Import the first clean images with some pixels changed by up to ``size``."""

    def make(size, n=N, seed=0):
        rng = np.random.default_rng(seed)
        clean = workspace.dataset("digits").test.images[:n] / 255
        path = tmp_path / f"{size}-{n}-{seed}.npz"
        np.savez(path, adv=np.clip(clean + size * rng.choice([-1, 1], clean.shape), 0, 1))
        return workspace.import_images(path, "digits", eps=size)

    return make


def right(workspace, recipe, images):
    return workspace.judge(recipe, images).withstood()


def test_an_image_counts_if_it_withstands_every_set(workspace, tiny, imported):
    """White-box sets of all modes, one made on another model, and one from elsewhere."""
    ours, softmax = tiny("ours"), tiny()
    sets = [
        workspace.adversarial_set(ours, "pgd", images=N, mode="early-stop"),
        workspace.adversarial_set(ours, "fgsm", images=N, mode="exact"),
        workspace.adversarial_set(softmax, "bim", images=N),
        workspace.adversarial_set(softmax, "pgd", images=N, mode="early-stop"),
        imported(EPS),
    ]
    expected = workspace.measure(ours, images=N).withstood()
    for images in sets:
        expected &= right(workspace, ours, images)
    found = workspace.worst_case(ours, images=N)
    np.testing.assert_array_equal(found.withstood, expected)
    assert (found.sets, found.shorter, found.n, found.eps) == (len(sets), 0, N, EPS)
    assert found.accuracy == expected.mean()
    low, high = found.interval
    assert low <= found.accuracy <= high


def test_each_judgement_is_stored_and_none_is_made_twice(workspace, tiny, imported, monkeypatch):
    imported(EPS)
    workspace.adversarial_set(tiny(), "pgd", images=N)
    first = workspace.worst_case(tiny("ours"), images=N)
    assert sorted(results(workspace)["source"].fillna("")) == ["", "", "softmax"]
    monkeypatch.setattr(workspace, "restored", lambda _: pytest.fail("a model is asked again"))
    again = workspace.worst_case(tiny("ours"), images=N)
    np.testing.assert_array_equal(first.withstood, again.withstood)


def test_sets_beyond_the_budget_do_not_count(workspace, tiny, imported):
    imported(EPS)
    imported(2 * EPS)
    assert workspace.worst_case(tiny(), images=N).sets == 1
    assert workspace.worst_case(tiny(), 2 * EPS, images=N).sets == 2
    assert workspace.worst_case(tiny(), EPS / 2, images=N).sets == 0


def test_in_l2_it_is_the_largest_l2_perturbation_that_counts(workspace, tiny, imported):
    found = imported(EPS)
    largest = found.summary.largest_l2
    assert workspace.worst_case(tiny(), largest, "l2", images=N).sets == 1
    assert workspace.worst_case(tiny(), 0.9 * largest, "l2", images=N).sets == 0


def test_shorter_sets_are_counted_as_left_out_and_longer_ones_cut(workspace, tiny, imported):
    imported(EPS, n=N - 1)
    longer = imported(EPS, n=N + 5)
    found = workspace.worst_case(tiny(), images=N)
    assert (found.sets, found.shorter) == (1, 1)
    clean = workspace.measure(tiny(), images=N).withstood()
    np.testing.assert_array_equal(found.withstood, clean & right(workspace, tiny(), longer)[:N])


def test_images_that_are_not_the_first_are_not_combined(workspace, tiny, imported, tmp_path):
    clean = workspace.dataset("digits").test.images[5 : 5 + N]
    np.savez(tmp_path / "later.npz", adv=clean, indices=np.arange(5, 5 + N))
    workspace.import_images(tmp_path / "later.npz", "digits")
    assert workspace.worst_case(tiny(), images=N).sets == 0


def test_without_any_set_it_is_the_clean_accuracy(workspace, tiny):
    found = workspace.worst_case(tiny(), images=N)
    np.testing.assert_array_equal(found.withstood, workspace.measure(tiny(), images=N).withstood())


def change_a_pixel(path):
    with h5py.File(path, "r+") as file:
        file["images"][0, 0, 0, 0] += 0.01


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-2000]),
    "text": lambda path: path.write_text("<html>"),
    "pixels": change_a_pixel,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_set_is_named_once_and_passed_over(damage, workspace, tiny, imported):
    whole, broken = imported(EPS), imported(EPS, seed=1)
    DAMAGE[damage](broken.path)
    found = workspace.worst_case(tiny(), images=N)
    assert found.sets == 1
    (line,) = workspace.progress.lines
    assert broken.path.name in line
    assert whole.path.name not in line
