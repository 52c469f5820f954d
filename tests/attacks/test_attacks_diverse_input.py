"""Diverse-input MIM: how images are resized, how often, and what is left without it."""

import pytest
import torch
import torch.nn.functional as F
from attack_models import case_of
from attack_toys import attacked, random_images

from robustbench_pcl.attacks import DIM, MIM
from robustbench_pcl.attacks.diverse_input import resizing


@pytest.mark.parametrize(("share", "place"), [(1.0, 0.7), (0.9, 0.0), (0.55, 0.5), (0.3, 0.999)])
def test_it_is_torch_s_resizing_padded_with_zeros(share, place):
    images = random_images(2, 3, 12, 10, seed=4)
    down, right = (
        resizing(size, torch.full((2,), share).double(), torch.full((2,), place).double())
        for size in (12, 10)
    )
    found = down[:, None] @ images @ right[:, None].transpose(2, 3)
    height, width = (round(share * size) for size in (12, 10))
    small = F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)
    top, left = int(place * (12 - height + 1)), int(place * (10 - width + 1))
    expected = F.pad(small, (left, 10 - width - left, top, 12 - height - top))
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_each_image_has_its_own():
    share, place = torch.tensor([1.0, 0.5]).double(), torch.tensor([0.0, 0.9]).double()
    both = resizing(8, share, place)
    assert torch.equal(both[0], torch.eye(8).double())
    assert torch.equal(both[1], resizing(8, share[1:], place[1:])[0])
    assert (both[1].sum(dim=1) == 0).sum() == 4


def test_without_diversity_it_is_mim():
    case = case_of("conv_net")
    plain = attacked(MIM(eps=0.05), case.model, case.images, case.labels)
    same = attacked(DIM(eps=0.05, diversity=0), case.model, case.images, case.labels)
    other = attacked(DIM(eps=0.05, diversity=1, smallest=0.6), *vars_of(case))
    assert torch.allclose(same.adversarial, plain.adversarial, rtol=0, atol=1e-12)
    changed = (other.adversarial - plain.adversarial).flatten(1).abs().amax(dim=1) > 1e-6
    assert changed.double().mean() > 0.8


def vars_of(case):
    return case.model, case.images, case.labels


@pytest.mark.parametrize("diversity", [0.25, 0.5])
def test_about_so_many_images_are_resized_at_a_step(diversity):
    """Seen from the first step alone: who is not resized takes MIM's."""
    images = case_of("conv_net").images.repeat(20, 1, 1, 1)
    labels = case_of("conv_net").labels.repeat(20)
    model = case_of("conv_net").model
    plain = MIM(eps=0.05, steps=1)(model, images, labels, exact=True)
    found = DIM(eps=0.05, steps=1, diversity=diversity, smallest=0.5)
    made = found(model, images, labels, exact=True)
    apart = ((made - plain).abs() > 1e-9).flatten(1).any(dim=1).double().mean()
    assert abs(apart - diversity) < 0.1
