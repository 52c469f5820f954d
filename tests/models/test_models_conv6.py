"""conv6's quick PReLU against PyTorch's."""

import pytest
import torch
from torch import nn

from robustbench_pcl.models.plain import PReLU


@pytest.mark.parametrize("slope", [0.25, 0.0, -0.3, 1.7])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_it_is_torch_s_to_the_bit(slope, kind):
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn((8, 4, 6, 6), generator=source, dtype=kind).requires_grad_(True)
    gradient = torch.randn(inputs.shape, generator=source, dtype=kind)
    with torch.no_grad():
        inputs[0] = 0
    found = []
    for module in (PReLU(init=slope).to(kind), nn.PReLU(init=slope).to(kind)):
        output = module(inputs)
        found.append([output, *torch.autograd.grad(output, (inputs, module.weight), gradient)])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_it_is_a_prelu_with_the_same_names():
    module = PReLU()
    assert isinstance(module, nn.PReLU)
    assert list(module.state_dict()) == ["weight"]


def test_both_its_derivatives_are_those_of_finite_differences():
    module = PReLU().double()
    inputs = torch.randn((3, 4), dtype=torch.float64, requires_grad=True)

    def output(given, weight):
        return torch.func.functional_call(module, {"weight": weight}, (given,))

    given = (inputs, module.weight)
    assert torch.autograd.gradcheck(output, given)
    assert torch.autograd.gradgradcheck(output, given)


def test_under_autocast_it_keeps_its_input_s_type_and_its_own():
    module, inputs = PReLU(), torch.randn(64, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        output = module(inputs)
    output.sum().backward()
    assert output.dtype == torch.bfloat16
    assert module.weight.grad.dtype == torch.float32
    assert module.weight.grad.item() == pytest.approx(inputs.float().clamp(max=0).sum().item())
