"""Images that were crafted elsewhere are held against the clean ones before they count."""

import numpy as np
import pytest
import torch
from evaluation_sets import classes, clean_images, labels_of, stored, verdicts

from robustbench_pcl import PGD, results
from robustbench_pcl.errors import UserError
from robustbench_pcl.report.results import CLEAN

N, EPS = 30, 0.1


@pytest.fixture
def crafted(tiny_workspace, tiny):
    """What another tool might have made on a model of ours, float32 (N, 1, 8, 8)."""
    images = clean_images(tiny_workspace, N)
    labels = torch.as_tensor(labels_of(tiny_workspace, N))
    return PGD(eps=EPS)(tiny_workspace.model(tiny()), images, labels).numpy()


@pytest.fixture
def imported(tiny_workspace, tmp_path):
    """Write arrays into a file and import it."""

    def write_and_import(eps=None, norm="linf", **arrays):
        path = tmp_path / "theirs.npz"
        np.savez(path, **arrays)
        return tiny_workspace.import_images(path, "digits", eps, norm)

    return write_and_import


def test_the_images_are_stored_as_they_are(imported, crafted, tiny_workspace):
    found = imported(images=crafted, labels=labels_of(tiny_workspace, N))
    kept = stored(found)
    np.testing.assert_array_equal(kept["images"], crafted)
    np.testing.assert_array_equal(kept["labels"], labels_of(tiny_workspace, N))
    np.testing.assert_array_equal(kept["indices"], np.arange(N))
    found.verify()
    clean = clean_images(tiny_workspace, N).numpy()
    assert found.summary.largest_linf == pytest.approx(np.abs(crafted - clean).max())
    l2 = np.sqrt(((crafted - clean) ** 2).sum(axis=(1, 2, 3)))
    assert found.summary.mean_l2 == pytest.approx(l2.mean(), rel=1e-5)


def test_nobody_says_who_made_them(imported, crafted, tiny_workspace, tiny):
    found = imported(images=crafted)
    assert found.spec.source is None
    measured = tiny_workspace.judge(tiny(), found)
    model = tiny_workspace.model(tiny())
    right = classes(model, crafted) == labels_of(tiny_workspace, N)
    np.testing.assert_array_equal(verdicts(measured), right)
    (row,) = results(tiny_workspace).itertuples()
    assert (row.source, row.white_box, row.eps) == (None, False, EPS)
    assert row.attack == "imported, eps 0.1, theirs.npz"
    assert row.attack != CLEAN


def test_the_same_file_is_one_set_and_judged_once(imported, crafted, tiny_workspace, tiny):
    first, second = imported(images=crafted), imported(images=crafted)
    assert first.spec.id == second.spec.id
    tiny_workspace.judge(tiny(), first)
    written = {path: path.stat().st_mtime_ns for path in tiny_workspace.paths.results.rglob("*.*")}
    tiny_workspace.judge(tiny(), imported(images=crafted))
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert len(results(tiny_workspace)) == 1


def test_other_pixels_or_another_budget_are_another_set(imported, crafted):
    first, wider = imported(images=crafted), imported(0.2, images=crafted)
    other = imported(images=np.minimum(crafted, 0.9))
    assert len({each.spec.id for each in (first, wider, other)}) == 3


def test_indices_put_images_in_their_order(imported, crafted, tiny_workspace):
    order = np.random.default_rng(0).permutation(N)
    labels = labels_of(tiny_workspace, N)
    found = imported(images=crafted[order], labels=labels[order], indices=order)
    np.testing.assert_array_equal(stored(found)["images"], crafted)
    assert found.spec.data.digest == tiny_workspace.dataset("digits").test.digest


def test_images_that_are_not_the_first_are_never_taken_for_them(imported, crafted, tiny_workspace):
    found = imported(images=crafted[[7, 3]], indices=[7, 3])
    kept = stored(found)
    np.testing.assert_array_equal(kept["indices"], [3, 7])
    np.testing.assert_array_equal(kept["images"], crafted[[3, 7]])
    assert found.spec.data.digest != tiny_workspace.dataset("digits").test.digest
    assert found.spec.data.subset
    assert "2 chosen test images" in found.spec.data.note


def test_an_l2_budget_is_held_in_l2(imported, crafted, tiny_workspace):
    clean = clean_images(tiny_workspace, N).numpy()
    largest = float(np.sqrt(((crafted - clean) ** 2).sum(axis=(1, 2, 3))).max())
    assert imported(largest, "l2", images=crafted).spec.norm == "l2"
    with pytest.raises(UserError, match="farther from the clean ones"):
        imported(0.9 * largest, "l2", images=crafted)
    with pytest.raises(UserError, match="no usual L2 budget"):
        imported(norm="l2", images=crafted)


def test_an_image_at_the_edge_of_the_budget_is_inside(imported, tiny_workspace):
    """clean + 8/255 in float32 is not 8/255 away; an 8-bit image at 8 grey levels is."""
    pixels = np.array(tiny_workspace.dataset("digits").test.images[:N])
    eight = np.where(pixels < 128, pixels + 8, pixels - 8).astype(np.uint8)
    assert imported("8/255", images=eight).summary.largest_linf == pytest.approx(8 / 255)
    nine = np.where(pixels < 128, pixels + 9, pixels - 9).astype(np.uint8)
    with pytest.raises(UserError, match=r"farther from the clean ones than .*: 30 of 30\."):
        imported("8/255", images=nine)


def test_how_many_exceed_the_budget_and_by_how_much_is_said(imported, crafted):
    far = crafted.copy()
    far[[4, 9]] = 1 - far[[4, 9]]
    with pytest.raises(UserError) as error:
        imported(images=far)
    assert error.value.cause.startswith("Images farther from the clean ones than eps = ")
    assert ": 2 of 30. Test image 4 is " in error.value.cause
    assert "--eps" in error.value.cure


def test_the_cure_for_a_budget_that_is_too_small_is_a_cure(imported, crafted):
    with pytest.raises(UserError) as error:
        imported(0.05, images=crafted)
    assert "--eps 0.1;" in error.value.cure
    imported(0.1, images=crafted)


ORDERS = {
    "permuted": (lambda n: np.random.default_rng(1).permutation(n), "near test image"),
    "from the tenth": (lambda n: np.arange(10, n), "starts at test image 10"),
    "two exchanged": (lambda n: np.r_[1, 0, 2:n], "2 of 30"),
}


@pytest.mark.parametrize("order", ORDERS)
def test_another_order_is_named_as_one(order, imported, crafted):
    make, words = ORDERS[order]
    with pytest.raises(UserError) as error:
        imported(images=crafted[make(N)])
    assert "The order differs" in error.value.cause
    assert words in error.value.cause
    assert "indices" in error.value.cure


def test_labels_have_to_be_the_data_sets(imported, crafted, tiny_workspace):
    wrong = labels_of(tiny_workspace, N)
    wrong[5] = (wrong[5] + 1) % 10
    with pytest.raises(UserError) as error:
        imported(images=crafted, labels=wrong)
    assert f"not the data set's: 1 of {N}. Test image 5 is " in error.value.cause


@pytest.mark.parametrize(
    ("indices", "words"),
    [([-1, 3], "-1 to 3"), ([3, 500], "3 to 500"), ([3, 3], "more than once")],
)
def test_indices_have_to_be_positions(indices, words, imported, crafted):
    with pytest.raises(UserError, match=words):
        imported(images=crafted[:2], indices=indices)


def test_what_is_refused_is_not_stored(imported, crafted, tiny_workspace):
    with pytest.raises(UserError):
        imported(0.01, images=crafted)
    assert not list(tiny_workspace.paths.adversarial_sets.glob("*"))
