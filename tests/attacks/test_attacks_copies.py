"""Copies are made anew for each attack; where they are kept, they take the model's new weights."""

import copy

import pytest
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


def other_head(model):
    model[-1] = nn.Linear(32, 5, bias=False).double()


def other_tensors(model):
    state = {name: value.flip(0) for name, value in model.state_dict().items() if value.ndim}
    model.load_state_dict(state, strict=False, assign=True)


def other_epsilon(model):
    model[1].eps = 0.3


def hooked(model):
    model[1].register_forward_hook(lambda module, given, output: 2 * output)


@pytest.mark.parametrize("change", [other_head, other_tensors, other_epsilon, hooked])
def test_a_copy_that_is_kept_is_replaced_when_the_model_has_other_parts(change):
    model, copies = copy.deepcopy(CASE.model), {}
    before, first = made(model, copies)
    change(model)
    after, second = made(model, copies)
    assert not torch.equal(before, after)
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
    assert set(copies) == {LAST, FIRST}
    assert copies[FIRST] is fast


class Ways(nn.Module):
    """A network that goes another way for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.one_way = copy.deepcopy(CASE.model), False

    def forward(self, images):
        if self.one_way or images.mean() < 2:
            return self.model(images)
        return self.model(-images)


def test_why_there_is_no_copy_is_said_for_each_attack_until_there_is_one():
    model, copies, said = Ways(), {}, []
    expected, _ = made(model, copies, said)
    made(model, copies, said)
    assert copies == {}
    assert len(said) == 2
    assert said[0] == said[1]
    assert "may differ from image to image" in said[0]
    model.one_way = True
    found, fast = made(model, copies, said)
    assert copies == {LAST: fast}
    assert len(said) == 2
    assert torch.allclose(found, expected)


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
