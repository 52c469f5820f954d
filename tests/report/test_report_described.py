"""Tables 1, 2 and 10, from the code's own registries, and models layer by layer."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
from typing import Literal

import pytest
import torch
from pydantic import Field
from reading import parsed
from torch import nn

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Attack, Norm
from robustbench_pcl.configuration import Eps
from robustbench_pcl.errors import UserError
from robustbench_pcl.models import MODELS
from robustbench_pcl.models.classifier import GlobalAveragePool, build_classifier
from robustbench_pcl.report import described
from robustbench_pcl.report.described import TITLES, describe, layers_of
from robustbench_pcl.report.render import render

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


@functools.cache
def described_table(number):
    """Each table once: Tables 1 and 10 build ResNet-110."""
    return described.described_table(number)


def test_table_1_is_the_papers_but_for_the_pooling():
    table = described_table(1)
    layers = {row[0] or "beneath 3": row[1:] for row in table.rows}
    assert layers["3"][0] == "[Conv(128, 5x5) + PReLU] x 2 + MaxPool + GAP → L_PC"
    assert layers["beneath 3"] == ("", "(GAP → FC(512) → L_PC)")
    assert layers["4"] == (
        "FC(512) → L_PC",
        "[Conv(64, 1x1) + BN + Conv(64, 3x3) + BN + Conv(256, 1x1) + BN + ReLU] x 12 + GAP → L_PC",
    )
    assert layers["5"] == ("FC(64) → L_PC", "FC(1024) → L_PC")
    assert layers["6"] == ("FC(10) → L_CE", "FC(10) → L_CE")
    assert not any("L_" in entry for number in "12" for entry in layers[number])
    assert any("2x2 max pooling" in note for note in table.footnotes)
    assert any(note.startswith("resnet110: ") for note in table.footnotes)


def test_table_2_is_the_papers():
    rows = {attack: (words, norm) for attack, words, norm in described_table(2).rows}
    assert list(rows)[:5] == ["FGSM", "BIM", "MIM", "C&W", "PGD"]
    assert rows["FGSM"] == ("α = ε, i = 1", "ℓ∞")
    assert rows["BIM"] == ("α = ε/10, i = 10", "ℓ∞")
    assert rows["MIM"] == ("α = ε/10, i = 10, μ = 1.0", "ℓ∞")
    assert rows["C&W"][0].startswith("learning rate = 0.01, i = 1000")
    assert rows["C&W"][1] == "ℓ2"
    assert rows["PGD"] == ("α = ε/4, i = 10", "ℓ∞")
    assert "C&W at quick scale: i = 100, learning rate = 0.05." in described_table(2).footnotes


class Wobble(Attack):
    """An attack of somebody else's."""

    norm: Norm = "linf"
    name: Literal["wobble"] = "wobble"
    eps: Eps = Field(default=8 / 255, description="budget")
    relative_step_size: float = Field(default=0.3, description="step size, as a share of eps")
    wobble_rate: float = Field(default=0.5, description="how much")


def test_table_2_lists_attacks_of_ones_own_after_the_papers(monkeypatch):
    monkeypatch.setattr(ATTACKS, "members", {"wobble": f"{__name__}:Wobble", **ATTACKS.members})
    rows = described.described_table(2).rows
    assert rows[0][0] == "FGSM"
    assert ("Wobble", "α = 0.3 ε, wobble rate = 0.5", "ℓ∞") in rows[5:]


def test_table_10_puts_a_classifier_or_a_distance_on_the_features():
    table = described_table(10)
    rows = [row[1:] for row in table.rows]
    assert ("(GAP → FC(512) → FC(10) → L_CE)", "(GAP → FC(512) → L_Dist)") in rows
    assert rows[-2:] == [
        ("FC(1024)", "FC(1024) → L_Dist"),
        ("FC(10) → L_CE", "FC(10) → L_CE (center only)"),
    ]
    assert ("(FC(10) → L_CE)", "") in rows


@pytest.mark.parametrize("number", TITLES)
def test_every_format_has_every_entry(number):
    table = described_table(number)
    entries = [entry for row in table.rows for entry in row if entry]
    rows = json.loads(render(table, "json"))["rows"]
    assert [tuple(row.values()) for row in rows] == list(table.rows)
    cells = parsed(render(table, "html"))
    assert [tuple(filter(None, row)) for row in cells.rows[1:]] == [
        tuple(entry.replace("L_", "L") for entry in row[1:] if entry) for row in table.rows
    ]
    for form in ("text", "md", "latex", "csv"):
        words = render(table, form).replace("\\", "").split()
        assert len(words) > len(entries)
    text = render(table, "text")
    assert max(map(len, text.splitlines())) <= 80


def test_titles_and_table_2_need_no_torch():
    program = (
        "import sys; from robustbench_pcl.report.described import TITLES, described_table; "
        "assert TITLES; assert described_table(2).rows; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_another_table_is_not_described():
    with pytest.raises(UserError, match="no table called '3'"):
        described.described_table(3)


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
