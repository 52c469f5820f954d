"""A user's own model, as it is: its code run, its weights in it, its logits found."""

import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from robustbench_pcl import PGD, evaluate, load_external
from robustbench_pcl.errors import InvalidInputError, UserError
from robustbench_pcl.models.external import Logits
from robustbench_pcl.models.sources import read_source

CODE = '''
import torch
from torch import nn
from beside import WIDTH

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, 3)
    def forward(self, images):
        return self.layer(images.view(len(images), -1))

def own():
    """It loads its own weights."""
    net = Net()
    net.load_state_dict(torch.load("net.pt", weights_only=True))
    return net

def partly():
    net = Net()
    net.layer.bias.data.fill_(1.0)
    return net

class Sized(Net):
    def __init__(self, width):
        super().__init__()

def number():
    return 3

def failing():
    raise KeyError("weights")

def lazy():
    return nn.LazyLinear(3)

model = Net()
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with code and weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.py").write_text("WIDTH = 4\n")
    (tmp_path / "code.py").write_text(CODE)
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    torch.save({"layer.weight": layer.weight.data, "layer.bias": layer.bias.data}, "net.pt")
    return tmp_path


IMAGES = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(1))


def logits(model, images=IMAGES):
    with torch.no_grad():
        return model(images)


def expected(images=IMAGES):
    weights = torch.load("net.pt", weights_only=True)
    return images.flatten(1) @ weights["layer.weight"].T + weights["layer.bias"]


def test_a_class_with_weights(folder):
    model = load_external("code.py:Net", "net.pt")
    assert not any(module.training for module in model.modules())
    assert torch.allclose(logits(model), expected())


def test_a_function_that_loads_its_own_weights_is_taken_as_it_is(folder):
    before = torch.random.get_rng_state()
    assert torch.allclose(logits(load_external("code.py:own")), expected())
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.25), ("0.5", "0.25"), ([0.5], (0.25,))])
def test_normalisation_stands_before_it(folder, mean, std):
    model = load_external("code.py:Net", "net.pt", mean=mean, std=std)
    assert torch.allclose(logits(model), expected((IMAGES - 0.5) / 0.25), atol=1e-6)


def test_each_channel_has_its_own_normalisation(folder):
    torch.save({"layer.weight": torch.eye(4)[:3], "layer.bias": torch.zeros(3)}, "net.pt")
    images = torch.full((1, 4, 1, 1), 0.6)
    model = load_external("code.py:Net", "net.pt", mean="0.1,0.2,0.3,0.4", std="0.5,0.1,1,1")
    assert torch.allclose(logits(model, images), torch.tensor([[1.0, 4.0, 0.3]]))


def test_half_precision_weights_are_computed_in_float32(folder):
    weights = torch.load("net.pt", weights_only=True)
    torch.save({name: value.bfloat16() for name, value in weights.items()}, "net.pt")
    assert logits(load_external("code.py:Net", "net.pt")).dtype == torch.float32


def test_it_can_be_evaluated(folder):
    model = load_external("code.py:Net", "net.pt", mean=0.5, std=0.25)
    labels = logits(model).argmax(dim=1)
    found = evaluate(model, IMAGES, labels, PGD(eps=0.5, steps=3))
    assert found.clean.all()


def test_the_code_is_the_file_and_what_it_imports_from_beside_it(folder):
    source = read_source("code.py:Net")
    source.make({}, seed=0)
    assert source.files == ("code.py", "beside.py")
    before = source.code
    (folder / "beside.py").write_text("WIDTH = 4  # another file\n")
    assert source.code != before
    assert not {"code", "beside"} & sys.modules.keys()


def test_files_of_one_name_are_two_models(folder):
    (folder / "other").mkdir()
    (folder / "other" / "beside.py").write_text("WIDTH = 1\n")
    (folder / "other" / "code.py").write_text(CODE.replace("self.layer(", "-self.layer("))
    torch.save({"layer.weight": torch.ones(3, 1), "layer.bias": torch.zeros(3)}, "other.pt")
    ours = load_external("code.py:Net", "net.pt")
    theirs = load_external(str(folder / "other" / "code.py:Net"), "other.pt")
    assert torch.allclose(logits(ours), expected())
    assert torch.equal(logits(theirs, torch.ones(1, 1, 1, 1)), -torch.ones(1, 3))


def test_code_that_has_changed_is_read_again(folder):
    load_external("code.py:Net", "net.pt")
    (folder / "code.py").write_text(CODE.replace("self.layer(", "2 * self.layer("))
    assert torch.allclose(logits(load_external("code.py:Net", "net.pt")), 2 * expected())


@pytest.mark.parametrize(
    ("source", "weights", "cause", "cure"),
    [
        ("code.py", "net.pt", "say which class or function", "code.py:Net or code.py:own or"),
        ("missing.py", "net.pt", "say which class or function", "missing.py:Net"),
        ("missing.py:Net", "net.pt", "There is no file missing.py", "Check the path"),
        ("net.pt", "", "does not say what makes the model", "my_model.py:Net"),
        ("code.py:Nets", "net.pt", "no class or function in code.py called 'Nets'", "mean Net"),
        ("code.py:model", "net.pt", "code.py:model is a Net, not a class", "def net(): return"),
        ("code.py:number", "", "code.py:number gives a int", "Name a class"),
        ("code.py:Sized", "net.pt", "code.py:Sized takes arguments (missing", "return Sized("),
        ("code.py:failing", "net.pt", "KeyError: 'weights'", 'python -c "import code as m; m.f'),
        ("code.py:lazy", "net.pt", "code.py:lazy has lazy layers", "Call it once"),
        ("code.py:Net", "", "layer.weight is drawn at random", "--weights FILE"),
        ("code.py:partly", "", "layer.weight is drawn at random", "--weights FILE"),
        ("broken.py:Net", "net.pt", "ZeroDivisionError: division by zero", "python broken.py"),
        ("leaves.py:Net", "net.pt", "SystemExit: 3", "python leaves.py"),
        ("torchvision:resnt18", "net.pt", "called 'resnt18'", "Did you mean resnet18"),
        ("torchvision:resnet18", "", "has no weights by itself", "--weights DEFAULT"),
        ("torchvision:resnet18", "net.pt", "does not fit torchvision:resnet18", "was trained"),
        ("code.py:Net", "DEFAULT", "Cannot read DEFAULT", "Check"),
    ],
)
def test_mistakes_have_a_cause_and_a_cure(folder, source, weights, cause, cure):
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(UserError) as raised:
        load_external(source, weights)
    assert cause in raised.value.cause
    assert cure in raised.value.cure
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        (125.3, 63.0, "mean 125.3 is not of pixels in [0, 1]: divide by 255"),
        (0.5, (), "mean has 1 numbers, std 0"),
        ((), 0.5, "mean has 0 numbers, std 1"),
        ("0.1,0.2", "0.1,0.2,0.3", "mean has 2 numbers, std 3"),
        (0.5, 0.0, "std is not positive"),
        ("a", "b", "mean"),
        (float("nan"), 1.0, "mean"),
    ],
)
def test_normalisation_that_makes_no_sense(folder, mean, std, words):
    with pytest.raises(UserError, match=r"--mean 0\.49") as raised:
        load_external("code.py:Net", "net.pt", mean=mean, std=std)
    assert words in raised.value.cause


class Answer(OrderedDict):
    """As models of transformers answer: keys that are attributes, too."""

    def __getattr__(self, name):
        return self[name] if name in self else super().__getattribute__(name)


WANTED, OTHER = torch.zeros(2, 3), torch.ones(2, 5)


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        (WANTED, ""),
        (Answer(loss=OTHER, logits=WANTED), ""),
        ({"features": OTHER, "logits": WANTED}, ""),
        ({"features": OTHER, "scores": WANTED}, "scores"),
        (Answer(scores=WANTED), "scores"),
        ((OTHER, WANTED), "1"),
        ([WANTED, OTHER], "0"),
    ],
)
def test_the_logits_are_found(returned, output):
    assert Logits(output)(returned) is WANTED


@pytest.mark.parametrize(
    ("returned", "output", "cause", "cure"),
    [
        ((OTHER, WANTED), "", "returns a tuple, not logits", "--output 0 or 1"),
        ({"a": OTHER, "b": WANTED}, "", "returns a dict, not logits", "--output a or b"),
        ((OTHER, WANTED), "2", "tuple, which has no '2'", "--output 0 or 1"),
        ({"a": OTHER}, "logits", "dict, which has no 'logits'", "--output a"),
        (WANTED, "logits", "Tensor, which has no 'logits'", "Leave --output out"),
        (3, "", "returns a int, not logits", "return its logits"),
    ],
)
def test_what_is_not_found_is_said(returned, output, cause, cure):
    with pytest.raises(InvalidInputError) as raised:
        Logits(output)(returned)
    assert cause in raised.value.cause
    assert cure in raised.value.cure


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_a_model_of_torchvisions_has_as_many_classes_as_its_weights(name, tmp_path):
    path = tmp_path / "weights.pt"
    torch.manual_seed(0)
    own = torchvision.models.get_model(name, num_classes=3).eval()
    torch.save(own.state_dict(), path)
    model = load_external(f"torchvision:{name}", path)
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(logits(model, images), logits(own, images))


def test_torchvisions_own_weights_bring_their_normalisation(monkeypatch):
    """As the network gives them: here they are made."""
    own = torchvision.models.resnet18()
    entry = torchvision.models.ResNet18_Weights.DEFAULT
    monkeypatch.setattr(type(entry), "get_state_dict", lambda *_, **__: own.state_dict())
    model = load_external("torchvision:resnet18", "DEFAULT")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = torch.rand(1, 3, 32, 32)
    prepared = (images - mean[:, None, None]) / std[:, None, None]
    assert torch.allclose(logits(model, images), logits(own.eval(), prepared), atol=1e-5)


def test_weights_that_cannot_be_fetched(monkeypatch):
    def fail(*_, **__):
        raise OSError("no network")

    entry = torchvision.models.ResNet18_Weights.DEFAULT
    monkeypatch.setattr(type(entry), "get_state_dict", fail)
    with pytest.raises(UserError, match="could not be fetched: OSError: no network") as raised:
        load_external("torchvision:resnet18", "DEFAULT")
    assert Path(entry.url).name in raised.value.cure
