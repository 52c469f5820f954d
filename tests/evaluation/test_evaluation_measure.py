"""Measuring: the numbers follow from the stored images, and none is measured twice."""

import h5py
import numpy as np
import pytest
import torch
from evaluation_sets import classes, clean_images, labels_of, stored, verdicts

from robustbench_pcl import PGD, Workspace
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation import measure
from robustbench_pcl.evaluation.measure import clean_answers, in_8_bits, judge
from robustbench_pcl.store.records import load_measurements
from robustbench_pcl.store.rules import MARGIN_PERCENTILES, wilson

N = 45
PGD_01 = PGD(eps=0.1)


@pytest.fixture
def asked(monkeypatch):
    """How images are classified, in turn."""
    calls = []
    for name in ("judge", "clean_answers"):
        classify = getattr(measure, name)

        def spy(*given, classify=classify, name=name):
            calls.append(name)
            return classify(*given)

        monkeypatch.setattr(measure, name, spy)
    return calls


def test_clean_accuracy(tiny_workspace, tiny):
    found = tiny_workspace.measure(tiny(), images=N)
    model, labels = tiny_workspace.model(tiny()), labels_of(tiny_workspace, N)
    expected = classes(model, clean_images(tiny_workspace, N)) == labels
    np.testing.assert_array_equal(verdicts(found), expected)
    assert (found.n, found.correct) == (N, expected.sum())
    assert found.correct_8bit == found.correct  # clean images are 8-bit images
    assert found.interval == wilson(found.correct, N)
    assert found.accuracy == found.correct / N > 0.3
    assert (found.source, found.attack, found.adversarial_set) == (None, None, None)
    assert found.target == tiny_workspace.train(tiny()).record
    assert found.data.digest == tiny_workspace.dataset("digits").test.digest


def test_the_source_is_measured_by_the_verdicts_of_its_set(tiny_workspace, tiny):
    found = tiny_workspace.measure(tiny(), PGD_01, images=N)
    made = tiny_workspace.adversarial_set(tiny(), PGD_01, images=N)
    content = stored(made)
    expected = content["predictions"] == content["labels"]
    np.testing.assert_array_equal(verdicts(found), expected)
    assert (found.n, found.correct) == (N, expected.sum())
    assert found.interval == wilson(found.correct, N)
    rounded = (torch.from_numpy(content["images"]) * 255).round() / 255
    right = classes(tiny_workspace.model(tiny()), rounded) == content["labels"]
    assert found.correct_8bit == right.sum()
    assert (found.attack, found.adversarial_set) == (PGD_01.dump(), made.spec.id)
    assert found.source == found.target == tiny_workspace.train(tiny()).record
    for field in ("largest_linf", "mean_l2", "seconds", "forward_passes", "backward_passes"):
        assert getattr(found, field) == getattr(made.summary, field)


def test_eight_bit_accuracy_is_a_number_of_its_own():
    """A model that sees what eight bits cannot hold."""

    class Fine(torch.nn.Module):
        def forward(self, images):
            above = images[:, 0, 0, 0] * 255 > 100.25
            return torch.stack([~above, above], dim=1).float()

    images = torch.full((4, 1, 1, 1), 0.0)
    images[:, 0, 0, 0] = torch.tensor([100.0, 100.3, 100.7, 101.0]) / 255
    batches = [(images[:3], torch.ones(3)), (images[3:], torch.ones(1))]
    assert judge(Fine(), batches).tolist() == [False, True, True, True]
    assert judge(Fine(), in_8_bits(batches)).tolist() == [False, False, True, True]


def test_models_are_judged_in_eval_mode():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Identity())
    images = torch.eye(8)[:, None, None, :]
    assert judge(model.train(), [(images, torch.arange(8))]).all()


def test_clean_classes_are_the_models_in_eval_mode(tiny_workspace, tiny, monkeypatch):
    """However many are classified at once."""
    dataset, model = tiny_workspace.dataset("digits"), tiny_workspace.model(tiny("ours"))
    monkeypatch.setattr(measure, "BATCH", 20)
    found, margins = clean_answers(model.train(), dataset, N, tiny_workspace.device)
    images, labels = clean_images(tiny_workspace, N), labels_of(tiny_workspace, N)
    np.testing.assert_array_equal(found, classes(model.eval(), images))
    with torch.no_grad():
        logits = model(torch.as_tensor(images)).numpy()
    own = logits[range(N), labels]
    logits[range(N), labels] = -np.inf
    np.testing.assert_allclose(margins, own - logits.max(axis=1), atol=1e-4)
    assert tiny_workspace.measure(tiny("ours"), images=N).margins == pytest.approx(
        np.percentile(margins, MARGIN_PERCENTILES), abs=1e-4
    )


def test_what_is_measured_is_found(tiny_workspace, tiny, asked):
    first = [tiny_workspace.measure(tiny(), attack, images=N) for attack in (None, PGD_01)]
    assert asked == ["clean_answers", "judge"]  # the latter with 8 bits
    again = Workspace(tiny_workspace.paths.root, device="cpu")
    assert [again.measure(tiny(), images=N), again.measure(tiny(), PGD_01, tiny(), images=N)] == (
        first
    )
    assert len(asked) == 2
    stored_ids = {record.id for record in load_measurements(tiny_workspace.paths)}
    assert stored_ids == {record.id for record in first}
    again.measure(tiny(), images=N - 1)
    assert len(asked) == 3  # another number of images is another question


def test_clean_images_are_classified_once_for_several_attacks(tiny_workspace, tiny, asked):
    for eps in (0.05, 0.1):
        tiny_workspace.measure(tiny(), PGD(eps=eps), images=N, mode="early-stop")
    tiny_workspace.measure(tiny(), images=N)
    assert asked == ["clean_answers"]  # and images at the boundary are not rounded


def test_any_number_of_targets_share_one_set(tiny_workspace, tiny):
    targets = [tiny(), tiny("ours"), tiny("ours-pgd")]
    found = [tiny_workspace.measure(target, PGD_01, tiny(), images=N) for target in targets]
    (path,) = tiny_workspace.paths.adversarial_sets.iterdir()
    assert {measurement.adversarial_set for measurement in found} == {path.stem}
    assert len({measurement.id for measurement in found}) == 3
    assert [measurement.target.recipe for measurement in found] == targets
    assert {measurement.source.recipe.name for measurement in found} == {"softmax"}
    content = stored(tiny_workspace.adversarial_set(tiny(), PGD_01, images=N))
    for measurement, target in zip(found, targets, strict=True):
        expected = classes(tiny_workspace.model(target), content["images"]) == content["labels"]
        np.testing.assert_array_equal(verdicts(measurement), expected)


def test_a_damaged_set_is_not_measured(tiny_workspace, tiny):
    path = tiny_workspace.adversarial_set(tiny(), PGD_01, images=N).path
    with h5py.File(path, "r") as file:
        chunk = file["images"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="is not a whole adversarial set"):
        tiny_workspace.measure(tiny(), PGD_01, images=N)
    assert load_measurements(tiny_workspace.paths) == []
