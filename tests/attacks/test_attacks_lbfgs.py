"""L-BFGS: the minimum that scipy's finds, and exact distances once its weight is searched."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attack_models import case_of
from attack_toys import attacked, chunks_of, linear_model, predictions
from scipy.optimize import minimize
from test_attacks_linear import exact_distances, mixed_images

from robustbench_pcl.attacks import LBFGS
from robustbench_pcl.attacks.base import Chunk, Goal, draw_seeds
from robustbench_pcl.attacks.target import TargetModel


def objective(model, image, label, c):
    """c |r|^2 - log(1 - p(label)) and its gradient, of flat pixels as scipy wants them."""

    def value(pixels):
        point = torch.from_numpy(pixels).view_as(image).requires_grad_(True)
        logits = model(point[None])[0]
        others = torch.cat([logits[:label], logits[label + 1 :]])
        loss = c * (point - image).square().sum() + logits.logsumexp(0) - others.logsumexp(0)
        (slope,) = torch.autograd.grad(loss, point)
        return loss.item(), slope.flatten().numpy()

    return value


@pytest.mark.parametrize("c", [0.1, 3.0])
@pytest.mark.parametrize("name", ["conv_net", "normed_net"])
def test_for_one_weight_it_comes_to_the_minimum_that_scipy_finds(name, c):
    case = case_of(name)
    attack = LBFGS(c=c, steps=200, search_steps=0)
    images, labels = case.images[:8], case.predictions[:8]
    lowest = torch.full((8,), torch.inf).double()
    with TargetModel(case.model) as target:
        (chunk,) = chunks_of(images, labels, [8])
        state = attack.initialise(target, chunk)
        while (state.step < attack.steps).any():
            lowest = torch.minimum(lowest, state.value)
            state, _ = attack.step(target, state)
    model = case.model.eval()
    for row in range(8):
        flat = images[row].flatten().numpy()
        found = minimize(
            objective(model, images[row], int(labels[row]), c),
            flat,
            jac=True,
            bounds=[(0, 1)] * len(flat),
            method="L-BFGS-B",
        )
        assert lowest[row].item() == pytest.approx(found.fun, rel=0.02, abs=1e-3)
    case.model.train()


def test_with_its_weight_searched_the_distance_is_exact():
    model, images = linear_model(2, 16, seed=4), mixed_images(30, seed=3)
    labels = predictions(model, images)
    exact = exact_distances(model, images, labels).amin(dim=1)
    made = LBFGS(c=1.0, steps=30, search_steps=10)(model, images, labels, exact=True)
    assert (predictions(model, made) != labels).all()
    ratio = (made - images).flatten(1).norm(dim=1) / exact
    assert ratio.min() > 1 - 1e-9
    assert ratio[exact > 0.01].max() < 1.05


def test_more_weights_bring_images_nearer():
    case = case_of("conv_net")
    one, ten = (
        attacked(LBFGS(c=0.3, steps=25, search_steps=search), case.model, case.images, case.labels)
        for search in (0, 9)
    )
    near, far = ((run.adversarial - case.images).flatten(1).norm(dim=1) for run in (ten, one))
    both = ~one.robust & ~ten.robust
    assert both.sum() >= 8
    assert (near <= far + 1e-9)[both].all()
    assert (near < 0.9 * far)[both].any()
    assert ten.robust.sum() <= one.robust.sum()


def test_who_is_wrong_already_stays_and_who_is_not_reached_is_clean():
    case = case_of("conv_net")
    wrong = case.predictions != case.labels
    found = attacked(LBFGS(), case.model, case.images, case.labels)
    assert torch.equal(found.adversarial[wrong], case.images[wrong])
    assert 0 < wrong.sum() < 16
    once = attacked(LBFGS(steps=1, search_steps=0), case.model, case.images, case.labels)
    assert torch.equal(once.adversarial, case.images)


def test_towards_a_class_it_minimises_that_class_s_cross_entropy():
    model, images = linear_model(4, 16, seed=9), mixed_images(12, seed=5)
    targets = (predictions(model, images) + 1) % 4
    seeds = draw_seeds(12, torch.Generator().manual_seed(0))
    chunk = Chunk(torch.arange(12), images, Goal(targets, targeted=True), seeds)
    with TargetModel(model) as target:
        _, found = LBFGS().step(target, LBFGS().initialise(target, chunk))
    expected = F.cross_entropy(model(images), targets, reduction="none")
    assert np.allclose(found.values.numpy(), expected.detach().numpy())
