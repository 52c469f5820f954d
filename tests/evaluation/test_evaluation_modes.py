"""Exact, fast and early stop: what each kind of set holds, and which answers for which."""

import numpy as np
import pytest
from evaluation_sets import classes, clean_images, labels_of, stored

from robustbench_pcl import CW, PGD
from robustbench_pcl.attacks import target
from robustbench_pcl.attacks.fast_model import Shortcuts
from robustbench_pcl.evaluation import generate
from robustbench_pcl.pipeline.tasks import Generate, Measure

N = 60
PGD_01 = PGD(eps=0.1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["softmax", "ours"])
def test_what_a_set_with_early_stop_holds(tiny_workspace, tiny, monkeypatch, name, precision):
    """The first images that fool the model, the last of those that never do, and the wrong ones."""
    allowed = Shortcuts(folded=True, precision=precision)
    monkeypatch.setattr(generate, "shortcuts_for", lambda device: allowed)
    recipe = tiny(name)
    model, clean = tiny_workspace.model(recipe), clean_images(tiny_workspace, N).numpy()
    found = tiny_workspace.adversarial_set(recipe, PGD_01, images=N, mode="early-stop")
    content, labels = stored(found), labels_of(tiny_workspace, N)
    assert (found.spec.mode, found.summary.precision) == ("early-stop", precision)
    predictions = classes(model, clean)
    right = predictions == labels
    assert 0 < right.sum() < N
    np.testing.assert_array_equal(content["labels"], labels)
    np.testing.assert_array_equal(content["indices"], np.arange(N))
    # Wrong ones are left as they are, with the class that they have.
    np.testing.assert_array_equal(content["images"][~right], clean[~right])
    np.testing.assert_array_equal(content["predictions"][~right], predictions[~right])
    # Every verdict is the reference model's.
    np.testing.assert_array_equal(content["predictions"], classes(model, content["images"]))
    fooled = content["predictions"] != content["labels"]
    assert 0 < (fooled & right).sum() < right.sum()
    # Those that withstand took every step of the attack, others fewer.
    whole = stored(tiny_workspace.adversarial_set(recipe, PGD_01, images=N))["images"]
    near = np.isclose(content["images"], whole, atol=1e-5).mean(axis=(1, 2, 3))
    if precision == "float32":
        assert near[~fooled].min() > 0.95
    assert near[fooled & right].min() < 0.9
    change = np.abs(content["images"] - clean)
    assert change.max() <= 0.1 + 1e-6
    assert change[fooled & right].mean() < change[~fooled].mean()
    found.verify()


def test_early_stop_takes_fewer_passes_and_leaves_no_larger_accuracy(tiny_workspace, tiny):
    """An image counts as fooled if any step fooled the model, not only the last."""
    fast, stopped = (
        tiny_workspace.measure(tiny(), PGD_01, images=N, mode=mode)
        for mode in ("fast", "early-stop")
    )
    clean = tiny_workspace.measure(tiny(), images=N)
    assert fast.backward_passes >= PGD_01.steps * N
    assert stopped.backward_passes <= PGD_01.steps * clean.correct + 4 * target.PROBE
    assert stopped.backward_passes < 0.8 * fast.backward_passes
    assert stopped.mean_l2 < fast.mean_l2
    assert 0 < stopped.correct <= fast.correct < clean.correct


def test_an_attack_that_looks_for_the_nearest_image_is_never_stopped(tiny_workspace, tiny):
    measure = Measure(tiny(), tiny(), CW(c=10, steps=20), 8, mode="early-stop")
    assert tiny_workspace.make(measure).mode == "fast"


def test_images_for_another_model_are_never_stopped(tiny):
    assert Measure(tiny("ours"), tiny(), PGD_01, mode="early-stop").mode == "fast"
    assert Measure(tiny(), tiny(), PGD_01, mode="early-stop").mode == "early-stop"


def made(workspace, recipe, mode):
    return workspace.adversarial_set(recipe, PGD_01, images=N, mode=mode)


def test_an_exact_set_answers_for_a_fast_one_though_it_is_older(tiny_workspace, tiny):
    exact = made(tiny_workspace, tiny(), "exact")
    assert made(tiny_workspace, tiny(), "fast") == exact
    measured = tiny_workspace.measure(tiny(), PGD_01, images=N)
    assert (measured.mode, measured.adversarial_set) == ("exact", exact.spec.id)


def test_an_exact_set_counts_before_a_fast_one_that_is_newer_or_measured_already(
    tiny_workspace, tiny
):
    fast = tiny_workspace.measure(tiny(), PGD_01, images=N)
    assert fast.mode == "fast"
    exact = made(tiny_workspace, tiny(), "exact")
    measure = Measure(tiny(), tiny(), PGD_01, N)
    assert tiny_workspace.find(measure) is None  # it is still to be measured
    found = tiny_workspace.make(measure)
    assert (found.mode, found.adversarial_set) == ("exact", exact.spec.id)
    assert tiny_workspace.find(measure) == found


def test_nothing_answers_for_an_exact_set_or_an_early_stop(tiny_workspace, tiny, begun):
    tiny_workspace.measure(tiny(), PGD_01, images=N)
    for mode in ("exact", "early-stop"):
        assert tiny_workspace.find(Generate(tiny(), PGD_01, N, mode=mode)) is None
        assert tiny_workspace.find(Measure(tiny(), tiny(), PGD_01, N, mode=mode)) is None
        assert made(tiny_workspace, tiny(), mode).spec.mode == mode
    assert len(begun) == 3


def test_an_early_stop_answers_how_accurate_the_attacked_model_is_and_nothing_else(
    tiny_workspace, tiny, begun
):
    stopped = tiny_workspace.measure(tiny(), PGD_01, images=N, mode="early-stop")
    assert tiny_workspace.find(Measure(tiny(), tiny(), PGD_01, N)) == stopped
    assert tiny_workspace.measure(tiny(), PGD_01, images=N) == stopped
    assert tiny_workspace.find(Generate(tiny(), PGD_01, N)) is None
    assert tiny_workspace.find(Measure(tiny("ours"), tiny(), PGD_01, N)) is None
    assert len(begun) == 1
    fast = made(tiny_workspace, tiny(), "fast")
    assert tiny_workspace.measure(tiny(), PGD_01, images=N).adversarial_set == fast.spec.id


def test_measurements_keep_how_their_set_was_made(tiny_workspace, tiny):
    found = {
        mode: tiny_workspace.measure(tiny(), PGD_01, images=N, mode=mode)
        for mode in ("early-stop", "fast", "exact")
    }
    assert found["fast"] == found["early-stop"]  # asked first, it answers
    assert found["exact"].mode == "exact"
    assert found["exact"].precision == "float32"
    assert found["early-stop"].correct_8bit is None
    assert found["exact"].correct_8bit is not None
