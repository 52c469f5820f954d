"""The losses' configurations: torch-free, complete, checked, and part of a recipe's id."""

import inspect
import subprocess
import sys
from typing import ClassVar, Literal

import pytest
from loss_toys import ANCHORED, CLASSES, DIMENSION, ON_FEATURES, built, placed
from pydantic import Field
from torch import nn

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import LOSSES, LossConfiguration
from robustbench_pcl.losses.criterion import FeatureLoss
from robustbench_pcl.recipe import Recipe, Schedule
from robustbench_pcl.registry import resolve


class Mine(FeatureLoss):
    """A loss of a plugin's."""

    def __init__(self, dimension, classes, *, pull):
        super().__init__()
        self.pull, self.points = pull, nn.Linear(dimension, classes)

    def per_image(self, features, labels):
        return self.pull * self.points(features)[:, 0]


class MyLoss(LossConfiguration):
    """Its configuration."""

    implementation: ClassVar[str] = f"{__name__}:Mine"
    name: Literal["mine"] = "mine"
    pull: float = Field(1.0, description="factor")


class MyLossLater(MyLoss):
    """The same with another default."""

    pull: float = Field(50.0, description="factor")


def recipe_id() -> str:
    recipe = Recipe(
        name="mine",
        scale="demo",
        dataset="digits",
        model="conv6",
        loss=LOSSES.configure("mine").dump(),
        schedule=Schedule(epochs=1),
    )
    return recipe.id("the data's digest")


def test_a_plugin_s_default_is_part_of_the_id_of_its_recipes(monkeypatch):
    ids = []
    for member in ("MyLoss", "MyLossLater", "MyLoss"):
        monkeypatch.setitem(LOSSES.members, "mine", f"{__name__}:{member}")
        ids.append(recipe_id())
    assert ids[0] == ids[2]
    assert ids[0] != ids[1]


def test_a_plugin_is_a_configuration_and_its_module(monkeypatch):
    monkeypatch.setitem(LOSSES.members, "mine", f"{__name__}:MyLoss")
    loss = LOSSES.configure("mine", {"pull": "3"}).build(DIMENSION, CLASSES)
    assert isinstance(loss, Mine)
    assert (loss.pull, loss.points.weight.shape) == (3.0, (CLASSES, DIMENSION))


def test_naming_and_configuring_losses_imports_no_torch():
    program = (
        "import sys; from robustbench_pcl.losses import LOSSES; "
        "[LOSSES.configure(name).dump() for name in LOSSES]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_every_parameter_has_a_default_in_the_configuration_alone_and_is_explained_twice(name):
    configuration = LOSSES[name]
    implementation = resolve(name, configuration.implementation)
    taken = inspect.signature(implementation).parameters
    assert list(taken) == ["dimension", "classes", *configuration.parameters()]
    assert all(value.default is inspect.Parameter.empty for value in taken.values())
    assert all(f"{parameter}:" in implementation.__doc__ for parameter in taken)
    assert all(meaning for _, meaning in configuration.parameters().values())


@pytest.mark.parametrize("name", ON_FEATURES)
def test_parameters_reach_the_module(name):
    wanted = dict.fromkeys(LOSSES[name].parameters(), 0.25)
    loss = built(name, **wanted)
    assert {parameter: getattr(loss, parameter) for parameter in wanted} == wanted


@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_configuration_says_whether_there_are_anchors(name):
    if name in ANCHORED:
        assert placed(name).anchors().shape == (CLASSES, DIMENSION)
    else:
        with pytest.raises(NotImplementedError):
            placed(name).anchors()


def test_the_center_loss_s_defaults_are_those_of_wen_et_al():
    configuration = LOSSES.configure("center")
    assert (configuration.weight, configuration.alpha) == (0.003, 0.5)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("plc", {}, "Did you mean pcl"),
        ("pcl", {"seperation": 2}, "Did you mean separation"),
        ("pcl", {"dimension": 2}, "no parameter of pcl called 'dimension'"),
        ("pcl", {"separation": 0}, "separation: input should be greater than 0"),
        ("pcl", {"weight": -1}, "weight: input should be greater than or equal to 0"),
        ("pcl-authors", {"repulsion": 0}, "repulsion: input should be greater than 0"),
        ("center", {"alpha": 0}, "alpha: input should be greater than 0"),
        ("triplet", {"alpha": 1.5}, "alpha: input should be less than or equal to 1"),
        ("contrastive", {"margin": -1}, "margin: input should be greater than 0"),
        ("cross-entropy", {"weight": 2}, "no parameter of cross-entropy called 'weight'"),
    ],
    ids=str,
)
def test_wrong_names_and_values_are_refused(name, parameters, message):
    with pytest.raises(UserError, match=message):
        LOSSES.configure(name, parameters)
