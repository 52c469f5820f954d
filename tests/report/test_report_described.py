"""Tables 1, 2 and 10, from the code's own registries."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import ClassVar, Literal

import pytest
from pydantic import Field
from reading import parsed

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Attack, Norm
from robustbench_pcl.configuration import Eps
from robustbench_pcl.errors import UserError
from robustbench_pcl.report import described
from robustbench_pcl.report.described import TITLES
from robustbench_pcl.report.render import render


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

    norm: ClassVar[Norm] = "linf"
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
    assert [tuple(row) for row in cells.rows[1:]] == [
        tuple(entry.replace("L_", "L") for entry in row[1:]) for row in table.rows
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
