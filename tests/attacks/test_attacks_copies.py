"""Copies are made anew for each attack; where they are kept, they take the model's new weights."""

import copy

import torch
from attack_models import case_of
from attack_toys import chunks_of, collected
from torch import nn

from robustbench_pcl.attacks import BIM
from robustbench_pcl.attacks.base import Goal
from robustbench_pcl.attacks.fast_model import FastModel, Kind, Shortcuts
from robustbench_pcl.attacks.target import TargetModel

FOLDED = Shortcuts(folded=True, compared=False)
LAST, FIRST = (Kind("float32", channels_last=last) for last in (True, False))
CASE = case_of("normed_net")


def made(model, copies=None, said=None):
    """Adversarial images, and the copy that made the gradients."""
    kept = {} if copies is None else copies
    say = [].append if said is None else said.append
    with TargetModel(model, FOLDED, say=say, copies=kept) as target:
        chunks = chunks_of(CASE.images, CASE.labels, [16])
        images, _ = collected(BIM(eps=0.04).stream(target, chunks, 16), CASE.images)
        return images, target.fast


def change(model):
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(value.flip(0))
        model[1].running_mean.add_(0.3)


def test_copies_are_made_anew_for_each_attack():
    model = copy.deepcopy(CASE.model)
    before, first = made(model)
    change(model)
    after, second = made(model)
    assert first is not second
    assert not torch.equal(before, after)


def test_a_copy_that_is_kept_takes_the_new_weights():
    model, copies = copy.deepcopy(CASE.model), {}
    before, first = made(model, copies)
    assert copies == {LAST: first}
    change(model)
    after, second = made(model, copies)
    assert second is first
    assert not torch.equal(before, after)
    assert torch.equal(after, made(copy.deepcopy(model))[0])


def test_a_copy_that_is_kept_is_replaced_when_the_model_has_other_parts():
    model, copies = copy.deepcopy(CASE.model), {}
    _, first = made(model, copies)
    model[-1] = nn.Linear(32, 5, bias=False).double()
    after, second = made(model, copies)
    assert second is not first
    assert copies == {LAST: second}
    assert torch.equal(after, made(copy.deepcopy(model))[0])


class Viewed(nn.Module):
    """A head that only takes features whose channels come first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3).double(), nn.BatchNorm2d(4).double()
        self.out = nn.Linear(64, 5).double()

    def forward(self, images):
        return self.out(self.norm(self.conv(images)).tanh().view(-1, 64))


def test_where_channels_cannot_come_last_they_come_first_without_a_word():
    copies, said = {}, []
    _, fast = made(Viewed(), copies, said)
    assert said == []
    assert isinstance(copies[LAST], str)
    assert copies[FIRST] is fast


class Ways(nn.Module):
    """A network that goes another way for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.calls = copy.deepcopy(CASE.model), 0

    def forward(self, images):
        self.calls += 1
        return self.model(images) if images.mean() < 2 else self.model(-images)


def test_why_there_is_no_copy_is_kept_and_not_found_out_again():
    model, copies, said = Ways(), {}, []
    made(model, copies, said)
    assert set(copies) == {LAST, FIRST}
    kept = dict(copies)
    assert all("may differ from image to image" in reason for reason in kept.values())
    made(model, copies, said)
    assert copies == kept
    assert len(said) == 2
    assert said[0] == said[1]


def test_the_reference_model_alone_makes_gradients_for_the_time_being():
    with TargetModel(copy.deepcopy(CASE.model), FOLDED) as target:
        BIM(steps=1).perturb(target, CASE.images, Goal(CASE.labels), torch.arange(16))
        fast = target.fast
        assert isinstance(fast, FastModel)
        assert not target.exact
        with target.reference_only():
            assert target.fast is None
            assert target.exact
        assert target.fast is fast
