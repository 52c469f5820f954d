"""Models that change between two evaluations are judged as they are now."""

import copy
from collections.abc import Callable

import pytest
import torch
from attack_toys import some_wrong
from torch import Tensor, nn
from zoo import CLASSES, case_of, pgd, right
from zoo_architectures import FunctionalNorm, conv3, plain, settled
from zoo_odd_models import around, rotated, simple, thresholded

from robustbench_pcl import evaluate

pytestmark = pytest.mark.filterwarnings("ignore:Attacked .*more slowly")


def threshold(model: nn.Module) -> None:
    model.threshold = 1.2


def other_bias(model: nn.Module) -> None:
    model[2][2].bias = nn.Parameter(model[2][2].bias.detach().roll(1) + 1)


def other_weights(model: nn.Module) -> None:
    weights = copy.deepcopy(model.state_dict())
    weights["1.0.weight"] = weights["1.0.weight"].roll(1, dims=0)
    model.load_state_dict(weights, assign=True)


def other_head(model: nn.Module) -> None:
    out = nn.Linear(48, CLASSES)
    with torch.no_grad():
        out.weight.copy_(model[2][2].weight.flip(1))
        out.bias.copy_(model[2][2].bias)
    model[2][2] = out


def other_statistics(model: nn.Module) -> None:
    with torch.no_grad():
        model[1][1].running_mean.copy_(model[1][1].running_mean.roll(1) + 0.2)
        model[1][1].running_var.mul_(1.7)


def other_buffers(model: nn.Module) -> None:
    model.centre = model.centre.roll(1)


def other_epsilon(model: nn.Module) -> None:
    model[1][1].eps = 0.3


def other_stride(model: nn.Module) -> None:
    model[1][0].dilation = model[1][0].padding = (2, 2)


def other_norm(model: nn.Module) -> None:
    model[1][1] = nn.GroupNorm(3, 12)


def other_layer(model: nn.Module) -> None:
    model[1].insert(2, settled(lambda: plain(conv3(12, 12)))[1])


CHANGES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], object]]] = {
    "a threshold": (lambda: around(thresholded), threshold),
    "a bias that is another parameter": (simple, other_bias),
    "weights that are assigned": (simple, other_weights),
    "another head": (simple, other_head),
    "statistics in place": (simple, other_statistics),
    "a buffer that is another": (lambda: settled(FunctionalNorm), other_buffers),
    "a hook on the root": (simple, lambda model: model.register_forward_hook(rotated)),
    "a hook on a batch norm": (simple, lambda model: model[1][1].register_forward_hook(rotated)),
    "a hook on a convolution": (simple, lambda model: model[1][0].register_forward_hook(rotated)),
    "a batch norm's epsilon": (simple, other_epsilon),
    "a convolution's dilation": (simple, other_stride),
    "another kind of norm": (simple, other_norm),
    "a layer between": (simple, other_layer),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_is_judged_as_it_is_now(change):
    build, make = CHANGES[change]
    images, attack = case_of("graph module").images, pgd(0.01)
    model, twin = build().eval(), build().eval()
    first = evaluate(model, images, predicted(model, images), attack)
    make(model)
    make(twin)
    labels = some_wrong(predicted(twin, images), CLASSES)
    fast, exact = (evaluate(model, images, labels, attack, exact=way) for way in (False, True))
    assert torch.equal(fast.clean, right(twin, images, labels))
    assert torch.equal(fast.robust, right(twin, fast.adversarial, labels) & fast.clean)
    assert abs(int(fast.robust.sum()) - int(exact.robust.sum())) <= 1
    assert not torch.equal(first.adversarial, fast.adversarial)


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_left_of_what_was_known_of_a_model_before(change):
    build, make = CHANGES[change]
    images, attack = case_of("graph module").images, pgd(0.01)
    model, twin = build().eval(), build().eval()
    attack(model, images, predicted(model, images), exact=False)
    make(model)
    make(twin)
    labels = predicted(twin, images)
    made, anew = (attack(each, images, labels, exact=False) for each in (model, twin))
    assert torch.equal(made, anew)


def predicted(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images.clone()).argmax(dim=1)
