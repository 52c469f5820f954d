"""A model's layers in the words of Table 1."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from robustbench_pcl.models import MODELS
from robustbench_pcl.models.classifier import GlobalAveragePool, build_classifier
from robustbench_pcl.report.networks import describe, layers_of

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def test_the_layers_of_conv6():
    model = build_classifier("conv6", GREY, 10, feature_layers=(3, 4))
    layers = layers_of(model, GREY)
    assert [layer.number for layer in layers] == [1, 2, 3, 4, 5, 6]
    outputs = [(32, 14, 14), (64, 7, 7), (128,), (512,), (64,), (10,)]
    assert [layer.output for layer in layers] == outputs
    # Layer 3 is pooled in the trunk, so the loss takes its features as they are.
    assert [layer.branch for layer in layers] == [None, None, "", "", None, None]
    assert [layer.features for layer in layers] == [None, None, 128, 512, None, None]
    assert layers[0].modules == "[Conv(32, 5x5) + PReLU] x 2 + MaxPool"
    assert layers[2].modules == "[Conv(128, 5x5) + PReLU] x 2 + MaxPool + GAP"
    assert [layer.modules for layer in layers[3:]] == ["FC(512)", "FC(64)", "FC(10)"]
    assert layers[5].parameters == 64 * 10 + 10
    total = sum(value.numel() for value in model.parameters())
    assert sum(layer.parameters for layer in layers) == total


def test_the_layers_of_resnet110():
    layers = layers_of(
        build_classifier("resnet110", COLOUR, 10, feature_layers=(2, 3, 4, 5)), COLOUR
    )
    assert layers[0].modules == "Conv(16, 3x3) + BN + ReLU + MaxPool"
    assert layers[2].modules == (
        "[Conv(32, 1x1) + BN + Conv(32, 3x3) + BN + Conv(128, 1x1) + BN + ReLU] x 12"
    )
    outputs = [(16, 16, 16), (64, 16, 16), (128, 8, 8), (256,), (1024,), (10,)]
    assert [layer.output for layer in layers] == outputs
    branches = [None, "GAP", "GAP + FC(512)", "", "", None]
    assert [layer.branch for layer in layers] == branches
    assert [layer.features for layer in layers] == [None, 64, 512, 256, 1024, None]


@pytest.mark.parametrize("name", list(MODELS))
def test_there_is_a_layer_each_and_one_for_the_head(name):
    model = build_classifier(name, COLOUR, 7, width=0.125)
    before = copy.deepcopy(model.state_dict())
    layers = layers_of(model, COLOUR)
    assert len(layers) == len(model.layers) + 1
    assert all(layer.modules for layer in layers)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_describe_folds_the_longest_repeat():
    blocks = [nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)) for _ in range(3)]
    blocks.insert(2, nn.Identity())
    assert describe(nn.Sequential(*blocks)) == "[ReLU + BN] x 3"
    assert describe(nn.Sequential(nn.ReLU(), nn.ReLU(), GlobalAveragePool())) == "[ReLU] x 2 + GAP"
