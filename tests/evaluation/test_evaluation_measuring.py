"""Measuring: the numbers follow from the stored images, and none is measured twice."""

import shutil

import h5py
import numpy as np
import pytest
import torch

from robustbench_pcl.data.batches import pixels
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation import measuring
from robustbench_pcl.evaluation.intervals import wilson
from robustbench_pcl.evaluation.measuring import _rounded, clean_predictions, judge
from robustbench_pcl.jobs import bench as jobs_bench
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.specs.base import Part
from robustbench_pcl.store.measurements import load_measurements

N = 45
PGD = Part(name="pgd", parameters={"eps": 0.1})


@pytest.fixture
def bench(tiny_home, tmp_path):
    shutil.copytree(tiny_home / "checkpoints", tmp_path / "checkpoints")
    return Bench(tmp_path, device="cpu", images=N)


@pytest.fixture
def judged(monkeypatch):
    """The modules that have images classified, in turn."""
    calls = []
    for module, name in ((measuring, "judge"), (jobs_bench, "clean_predictions")):
        classify = getattr(module, name)

        def spy(*given, classify=classify, name=name):
            calls.append(name)
            return classify(*given)

        monkeypatch.setattr(module, name, spy)
    return calls


def bits(measurement):
    packed = np.frombuffer(bytes.fromhex(measurement.verdicts), dtype=np.uint8)
    assert len(packed) == -(-measurement.n // 8)
    return np.unpackbits(packed)[: measurement.n].astype(bool)


def classes(model, images):
    with torch.no_grad():
        return model(images).argmax(dim=1).numpy()


def test_clean_accuracy(bench, tiny):
    found = bench.measure(tiny())
    test = bench.dataset("digits").test
    images = pixels(torch.from_numpy(np.array(test.images[:N])))
    expected = classes(bench.model(tiny()), images) == test.labels[:N]
    np.testing.assert_array_equal(bits(found), expected)
    assert (found.n, found.correct) == (N, expected.sum())
    assert found.correct_8bit == found.correct  # clean images are 8-bit images
    assert found.interval == wilson(found.correct, N)
    assert found.accuracy == found.correct / N > 0.3
    assert (found.source, found.attack, found.adversarial_set) == (None, None, None)
    assert found.target == bench.checkpoint(tiny()).record
    assert found.data.digest == test.digest


def test_stored_images_give_the_verdicts_they_had_when_crafted(bench, tiny):
    found = bench.measure(tiny(), attack=PGD)
    crafted = bench.find_adversarial_set(tiny(), PGD)
    with h5py.File(crafted.path, "r") as file:
        images, labels = torch.from_numpy(file["images"][:]), file["labels"][:]
        expected = file["predictions"][:] == labels
    np.testing.assert_array_equal(bits(found), expected)
    assert (found.n, found.correct) == (N, expected.sum())
    assert found.interval == wilson(found.correct, N)
    rounded = (images * 255).round() / 255
    assert found.correct_8bit == (classes(bench.model(tiny()), rounded) == labels).sum()
    assert found.attack == crafted.spec.attack
    assert found.adversarial_set == crafted.spec.id
    assert found.source == found.target == bench.checkpoint(tiny()).record
    assert found.largest_linf == crafted.summary.largest_linf
    assert found.mean_l2 == crafted.summary.mean_l2
    assert found.seconds == crafted.summary.seconds
    assert found.forward_passes == crafted.summary.forward_passes


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
    assert judge(Fine(), _rounded(batches)).tolist() == [False, False, True, True]


def test_models_are_judged_in_eval_mode():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Identity())
    images = torch.eye(8)[:, None, None, :]
    assert judge(model.train(), [(images, torch.arange(8))]).all()


def test_clean_classes_are_the_model_s_in_eval_mode(bench, tiny, monkeypatch):
    """However many are classified at once."""
    dataset, model = bench.dataset("digits"), bench.model(tiny("ours"))
    images = pixels(torch.from_numpy(np.array(dataset.test.images[:N])))
    monkeypatch.setattr(measuring, "BATCH", 20)
    found = clean_predictions(model.train(), dataset, N, bench.device)
    np.testing.assert_array_equal(found, classes(model.eval(), images))


def test_what_is_measured_is_found(bench, tiny, judged):
    assert bench.find_measurement(tiny()) is None
    assert bench.find_measurement(tiny(), attack=PGD) is None
    first = [bench.measure(tiny()), bench.measure(tiny(), attack=PGD)]
    assert judged == ["clean_predictions", "judge"]  # the latter with 8 bits
    again = Bench(bench.home.root, device="cpu", images=N)
    assert [again.measure(tiny()), again.measure(tiny(), tiny(), PGD)] == first
    assert [again.find_measurement(tiny()), again.find_measurement(tiny(), attack=PGD)] == first
    assert len(judged) == 2
    assert sorted(record.id for record in load_measurements(bench.home.results)) == sorted(
        record.id for record in first
    )
    Bench(bench.home.root, device="cpu", images=N - 1).measure(tiny())
    assert len(judged) == 3  # another number of images is another question


def test_clean_images_are_classified_once_for_several_attacks(bench, tiny, judged):
    for eps in (0.05, 0.1):
        bench.measure(tiny(), attack=PGD.merged({"eps": eps}), until_fooled=True)
    bench.measure(tiny())
    assert judged == ["clean_predictions"]


@pytest.mark.parametrize("exact", [True, False])
def test_a_source_s_verdicts_are_read_from_its_set(bench, tiny, judged, exact):
    """Of another target, and of pixels rounded to 8 bits, nothing is known yet."""
    bench.exact = exact
    bench.measure(tiny(), attack=PGD)
    assert judged == ["judge"]
    bench.measure(tiny("ours"), tiny(), PGD)
    assert judged == ["judge"] * 3


def test_images_that_just_fooled_the_source_are_not_rounded(bench, tiny, judged):
    found = bench.measure(tiny(), attack=PGD, until_fooled=True)
    crafted = bench.find_adversarial_set(tiny(), PGD, until_fooled=True)
    with h5py.File(crafted.path, "r") as file:
        expected = file["predictions"][:] == file["labels"][:]
    np.testing.assert_array_equal(bits(found), expected)
    assert (found.crafting, found.precision) == ("until-fooled", crafted.summary.precision)
    assert (found.correct, found.correct_8bit) == (expected.sum(), None)
    assert "judge" not in judged
    bench.measure(tiny(), attack=PGD)
    assert judged[-1] == "judge"


def test_any_number_of_targets_share_one_set(bench, tiny):
    targets = [tiny(), tiny("ours"), tiny("ours-pgd")]
    found = [bench.measure(target, tiny(), PGD) for target in targets]
    (path,) = bench.home.adversarial_sets.iterdir()
    assert {measurement.adversarial_set for measurement in found} == {path.stem}
    assert len({measurement.id for measurement in found}) == 3
    assert [measurement.target.recipe for measurement in found] == targets
    assert {measurement.source.recipe.name for measurement in found} == {"softmax"}
    images = torch.cat(
        [
            torch.from_numpy(batch)
            for batch, _ in bench.find_adversarial_set(tiny(), PGD).batches(16)
        ]
    )
    labels = bench.dataset("digits").test.labels[:N]
    for measurement, target in zip(found, targets, strict=True):
        verdicts = classes(bench.model(target), images) == labels
        np.testing.assert_array_equal(bits(measurement), verdicts)


def test_a_damaged_set_is_not_measured(bench, tiny):
    path = bench.craft(tiny(), PGD).path
    with h5py.File(path, "r") as file:
        chunk = file["images"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="is not a whole adversarial set"):
        bench.measure(tiny(), attack=PGD)
    assert load_measurements(bench.home.results) == []
