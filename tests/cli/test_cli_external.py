"""A model of one's own on the command line: brought in once, then a name like any other."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.store.records import Paths, load_measurements

CODE = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
    def forward(self, images):
        return self.layer(images.flatten(1).square())
class Named(Net):
    def forward(self, images):
        return {"images": images, "scores": super().forward(images)}
class Probable(Net):
    def forward(self, images):
        return super().forward(images).softmax(dim=1)
"""
DIGITS = "--dataset digits --scale demo --device cpu --images 20"
NORMALISED = "--weights net.pt --mean 0.5 --std 0.25"


@pytest.fixture(scope="module")
def weights():
    """Of a linear model that knows normalised digits."""
    from robustbench_pcl import Workspace

    data = Workspace().dataset("digits").train
    images = ((torch.tensor(data.images) / 255 - 0.5) / 0.25).flatten(1).square()
    labels = torch.tensor(data.labels)
    torch.manual_seed(0)
    layer = nn.Linear(64, 10)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(layer(images), labels).backward()
        optimiser.step()
    return {f"layer.{name}": value for name, value in layer.state_dict().items()}


@pytest.fixture
def folder(tmp_path, monkeypatch, weights):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text(CODE)
    torch.save(weights, "net.pt")
    return tmp_path


def pclbench(words):
    result = CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def complaint(words):
    result = CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2, "")
    cause, cure = result.stderr.splitlines()[-2:]
    assert cause.startswith("pclbench: ")
    return cause, cure


def test_it_is_asked_attacked_and_then_known_by_name(folder):
    first = pclbench(f"attack code.py:Net {NORMALISED} --name my-net {DIGITS} --format json")
    rows = json.loads(first.stdout)["rows"]
    assert [row["target"] for row in rows] == ["my-net", "my-net"]
    said = first.stderr.splitlines()
    assert said[0] == "my-net, before it is attacked:"
    assert all(": ok" in line for line in said[1:8])
    assert all(len(line) <= 80 for line in said[:8])
    again = pclbench(f"attack my-net {DIGITS} --format json")
    assert json.loads(again.stdout)["rows"] == rows
    assert "before it is attacked" not in again.stderr
    assert "report --table 3 --dataset digits --scale demo --model my-net" in again.stderr


def test_its_data_set_and_scale_are_known_by_its_name(folder):
    known, asked = "--device cpu --images 20 --format json", DIGITS + " --format json"
    pclbench(f"attack code.py:Net {NORMALISED} --name my-net {DIGITS}")
    rows = [pclbench(f"attack my-net {words}").stdout for words in (known, asked)]
    assert rows[0] == rows[1]
    assert pclbench(f"attack my-net {known} --scale quick").stdout != rows[0]


def test_what_its_code_prints_is_not_among_the_rows(folder):
    (folder / "code.py").write_text(CODE + "print('made by me')\n")
    found = pclbench(f"attack code.py:Net {NORMALISED} {DIGITS} --format json")
    assert len(json.loads(found.stdout)["rows"]) == 2
    assert "made by me" in found.stderr


def test_what_is_stored_is_shown_without_torch(folder):
    pclbench(f"attack code.py:Net {NORMALISED} --name my-net {DIGITS}")
    program = (
        "import sys; from robustbench_pcl.cli.app import app\n"
        "try: app(sys.argv[1:])\nexcept SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    words = [sys.executable, "-c", program, *f"attack my-net {DIGITS}".split()]
    subprocess.run(words, check=True, capture_output=True)


def test_transfer_from_and_to_it(folder):
    pclbench(f"attack code.py:Net {NORMALISED} --name my-net {DIGITS}")
    words = f"--source my-net --target code.py:Named {NORMALISED} --output scores --name other"
    pclbench(f"transfer {words} {DIGITS}")
    pairs = {
        (record.source.recipe.name, record.target.recipe.name)
        for record in load_measurements(Paths(folder))
        if record.source
    }
    assert pairs == {("my-net", "my-net"), ("my-net", "other")}


def test_another_part_of_the_output(folder):
    cause, cure = complaint(f"attack code.py:Named {NORMALISED} {DIGITS}")
    assert "returns a dict, not logits" in cause
    assert "--output images or scores" in cure
    pclbench(f"attack code.py:Named {NORMALISED} {DIGITS} --output scores")


def test_probabilities_are_named(folder):
    said = pclbench(f"attack code.py:Probable {NORMALISED} {DIGITS}").stderr
    assert "logits: these are probabilities" in said
    assert "Leave the last" in said


def test_normalisation_that_was_forgotten_is_named_before_anything_is_measured(folder):
    cause, cure = complaint(f"attack code.py:Net --weights net.pt --name my-net {DIGITS}")
    assert "% with --mean" in cause
    assert "give its own --mean and --std" in cure
    assert load_measurements(Paths(folder)) == []
    pclbench(f"attack code.py:Net {NORMALISED} --name my-net {DIGITS}")


def test_a_dry_run_asks_nothing(folder):
    said = pclbench(f"attack code.py:Net {NORMALISED} {DIGITS} --dry-run")
    assert "before it is attacked" not in said.stderr
    assert "train" not in said.stdout
    assert "3 tasks, 3 to do" in said.stderr


@pytest.mark.parametrize(
    ("words", "cause", "cure"),
    [
        ("attack net.pt", "net.pt is a pickled PyTorch file", "attack my_model.py:Net --weights n"),
        ("attack code.py", "which class or function", "Write code.py:Net or code.py:Named or"),
        ("attack code.py:Net", "The data set of code.py:Net is not known", "--dataset cifar10"),
        ("attack code.py:Net --dataset digits", "is drawn at random", "--weights FILE"),
        (f"attack code.py:Net {NORMALISED} --dataset digts", "'digts'", "Did you mean digits"),
        (f"attack code.py:Net {NORMALISED} --dataset mnist", "cannot be called with images", "Try"),
        (f"attack ours {NORMALISED}", "--weights needs the code of a model", "my_model.py:Net"),
        (f"attack code:Net {NORMALISED}", "and code:Net names none", "my_model.py:Net"),
        ("attack ours --name mine", "--name needs the code of a model", "my_model.py:Net"),
        (
            "attack code.py:Net --weights nt.pt --dataset digits",
            "Cannot read nt.pt",
            "Check the path.",
        ),
        (f"attack code.py:Net {NORMALISED} --dataset digits --name ours", "another", "another one"),
        (
            f"attack code.py:Net {NORMALISED} --dataset digits --adaptive",
            "no loss on features of code-net",
            "Leave --adaptive",
        ),
        (
            "transfer --source code.py:Net --target code.py:Named --dataset digits",
            "two models of your own",
            "attack code.py:Net --name my-net",
        ),
        (
            "attack code.py:Net --weights net.pt --mean 127 --std 63 --dataset digits",
            "divide by 255",
            "--mean 0.49,0.48,0.45",
        ),
    ],
)
def test_mistakes(folder, words, cause, cure):
    found = complaint(words)
    assert cause in found[0]
    assert cure in found[1]
    assert load_measurements(Paths(folder)) == []


def test_weights_without_a_recipe_say_what_to_type(folder, weights):
    from safetensors.torch import save_file

    save_file(weights, "net.safetensors")
    cause, cure = complaint("attack net.safetensors")
    assert "holds weights but no recipe" in cause
    assert "pclbench attack my_model.py:Net --weights net.safetensors" in cure
    pclbench(f"attack code.py:Net {NORMALISED.replace('net.pt', 'net.safetensors')} {DIGITS}")
