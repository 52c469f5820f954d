"""Families of named things, and making one of their members from a part."""

import dataclasses
import sys

import pytest

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.registry import Family, build
from robustbench_pcl.specs.base import Part

FAMILIES = {"attack": ATTACKS, "model": MODELS, "loss": LOSSES, "defense": DEFENSES}


@dataclasses.dataclass
class Box:
    content: object
    size: int = 1
    colour: str = "red"

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size is {self.size}")
        if self.colour == "invisible":
            raise UserError("Nobody would find it.", "Paint it.")


BOXES = Family("box", {"box": f"{__name__}:Box", "ghost": "robustbench_pcl.no_such_module:Ghost"})


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_member_of_every_family_is_there(kind):
    family = FAMILIES[kind]
    assert family.kind == kind
    assert len(family) == len(list(family)) > 2
    for name in family:
        assert name in family
        assert family.check(name) == name
        assert name == name.lower()
        assert callable(family[name])


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_unknown_member_is_met_with_the_nearest(kind):
    family = FAMILIES[kind]
    name = next(iter(family))
    assert f"{name}x" not in family
    for ask in (family.check, family.__getitem__):
        with pytest.raises(UserError) as caught:
            ask(f"{name.upper()}x")
        assert caught.value.cause == f"There is no {kind} called '{name.upper()}x'."
        assert f"Did you mean {name}" in caught.value.cure
        assert all(known in caught.value.cure for known in family)


def test_only_the_member_that_is_used_is_imported():
    assert list(BOXES) == ["box", "ghost"]
    assert BOXES["box"] is Box
    assert "robustbench_pcl.no_such_module" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        BOXES["ghost"]


def test_a_family_does_not_follow_later_changes_of_its_table():
    table = {"box": f"{__name__}:Box"}
    family = Family("box", table)
    table["crate"] = table["box"]
    assert "crate" not in family


def test_build():
    part = Part(name="box", parameters={"size": 3})
    assert build(BOXES, part, "books") == Box("books", size=3)
    assert build(BOXES, Part(name="box", parameters={"content": "air"})) == Box("air")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"colours": "blue"}, "no parameter of box box called 'colours'. Did you mean colour"),
        ({"content": "air"}, "no parameter of box box called 'content'"),  # given by position
        ({"size": -1}, r"Box box cannot be made: size is -1. Its parameters: colour, size\."),
        ({"size": "big"}, "Box box cannot be made: .*not supported"),
        ({"colour": "invisible"}, "Nobody would find it. Paint it."),
    ],
    ids=str,
)
def test_what_cannot_be_built(parameters, message):
    with pytest.raises(UserError, match=message):
        build(BOXES, Part(name="box", parameters=parameters), "books")


def test_an_unknown_name_cannot_be_built():
    with pytest.raises(UserError, match="Did you mean box"):
        build(BOXES, Part(name="bxo"))


@pytest.mark.parametrize("family", [ATTACKS, DEFENSES], ids=lambda family: family.kind)
def test_defaults_written_out_make_the_same_member(family):
    for name in family:
        plain = build(family, Part(name=name))
        given = {entry.name: getattr(plain, entry.name) for entry in dataclasses.fields(plain)}
        assert build(family, Part(name=name, parameters=given)) == plain
