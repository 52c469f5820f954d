"""Where an accelerator's memory does not last, batches become smaller and nothing else changes."""

import pytest
import torch
from torch import nn

from robustbench_pcl.attacks import PGD
from robustbench_pcl.engine import victim
from robustbench_pcl.engine.shortcuts import Shortcuts

IMAGES = torch.rand((40, 1, 4, 4), generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 3


class Small(nn.Module):
    """Has room for so many images."""

    def __init__(self, room: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn((16, 3), generator=generator))
        self.room, self.seen = room, []

    def forward(self, images):
        self.seen.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images.flatten(1) @ self.weight


def test_batches_are_halved_until_they_fit():
    roomy, small = Small(1000), Small(7)
    expected = PGD(eps=0.05)(roomy, IMAGES, LABELS)
    assert torch.equal(PGD(eps=0.05)(small, IMAGES, LABELS), expected)
    assert max(size for size in small.seen if size <= 7) > 3


def test_where_not_even_one_image_fits_the_error_is_passed_on():
    with pytest.raises(torch.OutOfMemoryError):
        PGD(eps=0.05)(Small(0), IMAGES, LABELS)


def test_a_twin_without_room_is_not_taken_for_one_that_fails_its_check(monkeypatch):
    def too_large(*_given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(victim, "twin_of", too_large)
    with pytest.raises(torch.OutOfMemoryError):
        PGD(eps=0.05)(Small(1000), IMAGES, LABELS, shortcuts=Shortcuts(folded=True))
