"""The authors' loss against what their code computes."""

import pytest
import torch
from loss_toys import CLASSES, batch, placed, square

from robustbench_pcl.losses.authors_conformity import AuthorsConformity


@pytest.mark.parametrize("repulsion", [1e-4, 0.5])
def test_authors_loss_is_the_written_out_one(repulsion):
    loss, (features, labels) = placed("pcl-authors", repulsion=repulsion), batch()
    for feature, label, found in zip(
        features, labels.tolist(), loss.per_image(features, labels).tolist(), strict=True
    ):
        pushes = [
            square(feature - loss.repelling[other]) for other in range(CLASSES) if other != label
        ]
        expected = square(feature - loss.attracting[label])
        expected -= repulsion * sum(pushes) / (CLASSES - 1)
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("repulsion", [1e-4, 1e-5])
def test_authors_loss_learns_its_two_sets_at_rates_of_their_own(repulsion):
    """A gradient that carries the factor w, at the rate 1e-4 / w, is 1e-4 on the plain one."""
    loss = placed("pcl-authors", repulsion=repulsion)
    groups = loss.parameter_groups(0.5)
    assert groups[0]["params"] == [loss.attracting]
    assert groups[0]["lr"] == 0.5
    assert groups[1]["params"] == [loss.repelling]
    assert groups[1]["lr"] * repulsion == pytest.approx(1e-4)


def test_authors_centres_start_from_a_standard_normal_distribution():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loss = AuthorsConformity(200, 50)
    for centres in (loss.attracting, loss.repelling):
        assert centres.mean().item() == pytest.approx(0, abs=0.05)
        assert centres.std().item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(loss.attracting, loss.repelling)


def test_the_attracting_centres_stand_for_the_classes():
    loss = placed("pcl-authors")
    assert torch.equal(loss.anchors(), loss.attracting)
