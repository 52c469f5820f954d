"""What the pages on plugins show works: their files are written, their commands are typed."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from attack_toys import conv_net, predictions, random_images
from torch import nn
from torch.distributions import Categorical, kl_divergence

from robustbench_pcl import evaluate
from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Goal, draw_seeds
from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.data.datasets import DATASETS, OWN_SOURCES
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.plugins import GROUP, VARIABLE
from robustbench_pcl.training.build import build_model

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "extending.md", ROOT / "docs" / "how-to" / "own-defence.md"]
DATA = (ROOT / "docs" / "how-to" / "own-data.md").read_text(encoding="utf-8")
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
COMMANDS = re.findall(r"^pclbench (.+)$", TEXT, re.MULTILINE)
COMMANDS += re.findall(r"^pclbench (--plugin bars .+)$", DATA, re.MULTILINE)
FILES = re.compile(r"`(\w+\.(?:py|toml))`:\n\n```(?:python|toml)\n(.*?)```", re.DOTALL)
NAMES = ("blurred", "flips", "cosine", "trades", "shallow", "bars", "ours-deep")


def write_files(folder: Path) -> None:
    for name, content in FILES.findall(TEXT + DATA):
        (folder / name).write_text(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the pages' files, where the commands are typed in their order."""
    folder = tmp_path_factory.mktemp("extending")
    write_files(folder)
    return folder


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The pages' modules by name; what they add to the families is gone afterwards."""
    for family in (ATTACKS, LOSSES, DEFENSES, MODELS):
        monkeypatch.setattr(family, "members", dict(family.members))
    tables = [(table, dict(table)) for table in (DATASETS, OWN_SOURCES)]
    write_files(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    modules = ("blurred", "flips", "cosine", "trades", "shallow", "bars")
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in modules})
    for name in modules:
        del sys.modules[name]
    for table, before in tables:
        table.clear()
        table.update(before)


def test_every_example_is_used():
    assert all(any(name in command for command in COMMANDS) for name in NAMES)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[] if "list" in command else [pytest.mark.slow])
        for command in COMMANDS
    ],
)
def test_the_commands_run(command, folder):
    # -P: as the installed command, Python itself does not look in the current folder.
    words = [sys.executable, "-P", "-m", "robustbench_pcl", *shlex.split(command)]
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    result = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    wanted = [name for name in NAMES if name in command] or ["blurred"]
    assert all(name in result.stdout.lower() for name in wanted)


def test_the_attack_follows_the_mean_over_a_square(shown):
    attack = ATTACKS.configure("blurred", {"side": 3})
    gradient = torch.randn(2, 1, 5, 5)
    found = attack.direction(gradient, torch.zeros_like(gradient))
    assert torch.allclose(found[1, 0, 2, 3], gradient[1, 0, 1:4, 2:5].mean())


def test_the_random_search_needs_no_gradient_and_keeps_the_best(shown):
    """More tries never do worse; pixels go to an end of the ball; nobody's result is another's."""
    images = random_images(40, 2, 6, 6, low=0.3, high=0.7)
    model = nn.Sequential(Rounded(), conv_net()).eval()
    labels, few, many = (
        predictions(model, images),
        *(shown.flips.Flips(eps=0.2, steps=n) for n in (3, 60)),
    )
    made = [attack(model, images, labels) for attack in (few, many)]
    with torch.no_grad():
        margins = [logit_margin(model(each), labels) for each in (images, *made)]
    assert (margins[0] <= margins[1]).all()
    assert (margins[1] <= margins[2]).all()
    assert (margins[1] > 0).sum() < (margins[2] > 0).sum()
    change = (made[1] - images).abs()
    assert (change.isclose(torch.tensor(0.2).double()) | (change == 0)).all()
    seeds = draw_seeds(40, torch.Generator().manual_seed(0))
    with TargetModel(model) as target:
        alone = [many.perturb(target, images[i], Goal(labels[i]), seeds[i]) for i in rows(40)]
    assert torch.equal(torch.cat(alone), made[1])


def test_the_random_search_leaves_at_its_first_fooling(shown):
    images = random_images(40, 2, 6, 6, low=0.3, high=0.7)
    model, attack = conv_net(), shown.flips.Flips(eps=0.2)
    labels = predictions(model, images)
    found = evaluate(model, images, labels, attack)
    robust = predictions(model, found.adversarial) == labels
    assert torch.equal(found.robust, robust)
    assert found.backward_passes == 0
    assert found.forward_passes < attack.steps * 40
    whole = evaluate(model, images, labels, attack, exact=True)
    assert torch.equal(whole.robust, robust)  # the margin is positive from its first fooling on


def test_the_random_search_reaches_a_class(shown):
    images = random_images(40, 2, 6, 6, low=0.3, high=0.7)
    model = conv_net()
    labels = predictions(model, images)
    wanted = (labels + 1) % 5
    made = shown.flips.Flips(eps=0.3)(model, images, labels, targets=wanted)
    assert (predictions(model, made) == wanted).double().mean() > 0.5


class Rounded(nn.Module):
    """It lets no gradient through."""

    def forward(self, images):
        return (images * 100).round() / 100


def rows(count):
    """Each row, as a slice."""
    return [slice(row, row + 1) for row in range(count)]


def test_the_loss_is_zero_for_its_own_direction(shown):
    loss = LOSSES.configure("cosine").build(3, 2)
    features, labels = torch.tensor([[1.0, 0, 0], [3, 0, 0], [0, 2, 0]]), torch.tensor([0, 0, 1])
    loss.initialise(features, labels)
    assert torch.allclose(loss.per_image(5 * features, labels), torch.zeros(3), atol=1e-6)
    assert torch.allclose(loss.per_image(features, 1 - labels), torch.ones(3))


def test_the_defence_measures_the_divergence_of_trades(shown):
    logits, others = torch.randn(2, 6, 4)
    wanted = kl_divergence(Categorical(logits=logits), Categorical(logits=others))
    assert torch.allclose(shown.trades.divergence(logits, others), wanted, atol=1e-6)


def test_a_step_of_the_defence_leaves_a_gradient_everywhere(shown, tiny):
    """On the document's model, with its loss: a name is all that a recipe needs."""
    recipe = tiny("ours", model="shallow", loss=LOSSES.configure("cosine").dump())
    model = build_model(recipe.changed(start=None)).train()
    images, labels = torch.rand(8, 1, 8, 8), torch.arange(8) % 10
    step = DEFENSES.configure("trades", {"steps": 2, "eps": 0.1}).step(
        model, images, labels, torch.Generator().manual_seed(0)
    )
    assert {"cross_entropy", "divergence"} < set(step.terms)
    sum(step.terms.values()).backward()
    gradients = [value.grad for value in model.classifier.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert model.training


def test_the_data_set_draws_what_its_classes_say(shown):
    raw = shown.bars.draw_bars(shown.bars.BARS, None)
    for image, label in zip(raw.test_images[:, 0].astype(int), raw.test_labels, strict=True):
        rows, columns = image.sum(axis=1), image.sum(axis=0)
        assert (np.max(rows) > np.max(columns)) == (shown.bars.BARS.classes[label] == "level")


def test_names_of_entry_points_and_variables():
    assert f'[project.entry-points."{GROUP}"]' in TEXT
    assert f"`{VARIABLE}=" in TEXT


ROWS = re.findall(r"^\| [\w ]+ \| `([\w/]+/)` \| `(.+?)` \| `([\w/.]+)` \|$", TEXT, re.MULTILINE)


def test_there_is_a_row_for_every_family():
    assert len(ROWS) == 4


@pytest.mark.parametrize(("place", "line", "file"), ROWS)
def test_the_lines_of_the_families_are_as_shown(place, line, file):
    assert (ROOT / place).is_dir()
    assert f"    {line}\n" in (ROOT / file).read_text(encoding="utf-8")
