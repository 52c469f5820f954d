"""A certificate in a workspace: made once, exact where the model is linear, with what sets show."""

from __future__ import annotations

import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from attack_toys import nearest_mean

from robustbench_pcl import PGD, Workspace
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.certifying import ENOUGH, Certify
from robustbench_pcl.pipeline.stored import smallest_fooling
from robustbench_pcl.pipeline.training import stored
from robustbench_pcl.store.certificates import Certificate, certificate_id
from robustbench_pcl.store.records import read_record

N, LARGEST = 24, 0.2
MODEL = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture(scope="module")
def workspace(tiny_home, tmp_path_factory):
    """With the small trained models, which are only read, and a linear one of somebody's own."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("certified")
    (folder / "checkpoints").mkdir()
    for path in (tiny_home / "checkpoints").glob("*.safetensors"):
        shutil.copy(path, folder / "checkpoints" / path.name)
    workspace = Workspace(folder, device="cpu")
    model = nearest_mean(workspace.dataset("digits").train)
    torch.save(model.state_dict(), folder / "my_model.pt")
    (folder / "my_model.py").write_text(MODEL)
    return workspace


@pytest.fixture(scope="module")
def linear(workspace):
    folder = workspace.paths.root
    return workspace.external(f"{folder}/my_model.py:Net", "digits", folder / "my_model.pt")


@pytest.fixture(scope="module")
def made(workspace, linear):
    """The certificate of the linear model."""
    assert workspace.find(Certify(linear, N, LARGEST)) is None
    return workspace.certify(linear, N, LARGEST)


def exact_radii(model, images, labels):
    """Where a linear model's answer flips, by how fast each logit gap falls as pixels move.

    A pixel moves until it is 0 or 1, so that the gap is piecewise linear in the radius.
    """
    weight, bias = (value.detach().double() for value in (model[1].weight, model[1].bias))
    radii = np.full(len(images), np.inf)
    for row, (image, label) in enumerate(zip(images.flatten(1).double(), labels, strict=True)):
        for other in set(range(10)) - {int(label)}:
            slope = weight[label] - weight[other]
            gap = float(image @ slope + bias[label] - bias[other])
            room = torch.where(slope > 0, image, 1 - image)
            places = [0.0, *sorted(set(room.tolist())), 1.0]
            for low, high in pairwise(places):
                speed = float(slope.abs()[room > low].sum())
                if gap - speed * (high - low) <= 0:
                    radii[row] = min(radii[row], low + max(gap, 0) / speed if speed else low)
                    break
                gap -= speed * (high - low)
    return radii


def test_both_ends_enclose_the_exact_radius_of_a_linear_model(workspace, linear, made):
    test = workspace.dataset("digits").test
    images, labels = (torch.as_tensor(part[:N].copy()) for part in (test.images, test.labels))
    exact = exact_radii(workspace.model(linear).cpu()[0], images / 255, labels)
    certified = np.array(made.certified)
    fooling = np.array([np.inf if size is None else size for size in made.fooling])
    inside = exact < LARGEST
    assert inside.sum() > N / 2
    assert (certified <= np.minimum(exact, LARGEST)).all()
    assert (fooling >= exact - 1e-7).all()
    assert (exact - certified)[inside].max() < 1e-3
    assert (fooling - exact)[inside].max() < 1e-2


def test_a_certificate_says_what_it_is_of(made, linear):
    assert (made.target.recipe, made.data.dataset) == (linear, "digits")
    assert (made.n, made.largest_eps, made.method) == (N, LARGEST, "crown")
    assert len(made.certified) == len(made.fooling) == N
    assert made.seconds > 0
    assert "0 stored sets" in made.found_by


def test_it_is_stored_under_its_id_and_found_again(workspace, linear, made, monkeypatch):
    file = workspace.paths.certificates / f"{made.id}.json"
    assert read_record(file, Certificate) == made
    monkeypatch.setattr(Certify, "compute", None)
    again = Workspace(workspace.paths.root, device="cpu")
    assert again.certify(linear, N, "0.2") == made
    assert again.find(Certify(linear, N, 0.1)) is None
    assert again.find(Certify(linear, N + 1, LARGEST)) is None


def test_everything_that_is_asked_is_part_of_the_id(made):
    other = made.target.changed(weights="others", checkpoint="others")
    base = {"n": N, "largest_eps": LARGEST}
    ids = [
        certificate_id(made.target, made.data.digest, **base),
        certificate_id(other, made.data.digest, **base),
        certificate_id(made.target, "other images", **base),
        certificate_id(made.target, made.data.digest, n=N + 1, largest_eps=LARGEST),
        certificate_id(made.target, made.data.digest, n=N, largest_eps=0.1),
    ]
    assert made.id == ids[0]
    assert len(set(ids)) == len(ids)


def test_what_stored_sets_show_is_merged(workspace, tiny):
    checkpoint, clean = stored(workspace, tiny()), workspace.measure(tiny(), images=N)
    none, sets = smallest_fooling(workspace, checkpoint, N)
    assert (np.isnan(none).all(), sets) == (True, 0)
    for eps in (0.05, 0.3):
        workspace.measure(tiny(), PGD(eps=eps, steps=3), images=N, mode="exact")
    found, sets = smallest_fooling(workspace, checkpoint, N + 10)
    assert sets == 2
    assert np.isnan(found[N:]).all()
    measured = [
        workspace.measure(tiny(), PGD(eps=eps, steps=3), images=N, mode="exact").withstood()
        for eps in (0.05, 0.3)
    ]
    assert (np.isnan(found[:N]) == (measured[0] & measured[1])).all()
    nearer = ~measured[0] & clean.withstood()
    assert nearer.any()
    assert (found[:N][~measured[0]] <= 0.05 + 1e-6).all()
    farther = measured[0] & ~measured[1]
    assert (found[:N][farther] > 0.05).all()
    certificate = workspace.certify(tiny(), N, 0.1)
    assert "2 stored sets" in certificate.found_by
    ends = [np.inf if size is None else size for size in certificate.fooling]
    assert (np.array(ends) <= np.where(np.isnan(found[:N]), np.inf, found[:N])).all()
    assert (np.array(certificate.certified) <= np.array(ends)).all()


def test_images_that_are_wrong_have_radius_0(workspace, tiny):
    certificate = workspace.certify(tiny(), N, 0.1)
    right = workspace.measure(tiny(), images=N).withstood()
    assert [size == 0 for size in certificate.fooling] == (~right).tolist()
    assert not np.array(certificate.certified)[~right].any()


def test_where_bounds_are_too_loose_it_says_why(workspace, tiny):
    certificate = workspace.certify(tiny(), N, 0.1)
    assert max(certificate.certified) < 0.01
    assert "too loose" in certificate.reason


def test_by_default_the_largest_radius_is_twice_the_budget_and_images_are_enough(workspace, tiny):
    everything = tiny().changed(scale="paper")
    assert Certify(everything).largest_eps == 0.2
    assert Certify(everything)._count(workspace) == ENOUGH
    assert Certify(everything, 300)._count(workspace) == 300


def test_a_budget_beyond_the_pixels_is_refused(workspace, tiny):
    with pytest.raises(UserError, match="8/255"):
        workspace.certify(tiny(), N, 8)
