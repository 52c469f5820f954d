"""Families of named things, and completing one of their configurations."""

import sys
from typing import Literal

import pytest
from pydantic import Field

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.configuration import Configuration, Count
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.registry import ConfigurationFamily, Family

FAMILIES = {"attack": ATTACKS, "model": MODELS, "loss": LOSSES, "defense": DEFENSES}


class Box(Configuration):
    """A member of a family."""

    name: Literal["box"] = "box"
    size: Count = Field(default=1, description="its size")


BOXES = ConfigurationFamily(
    "box", {"box": f"{__name__}:Box", "ghost": "robustbench_pcl.no_such_module:Ghost"}
)


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


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        (
            "robustbench_pcl.no_such_module:Ghost",
            "The box ghost cannot be imported from robustbench_pcl.no_such_module: "
            "No module named 'robustbench_pcl.no_such_module'.",
        ),
        (f"{__name__}:Ghost", f"The box ghost is not in {__name__}, which has no 'Ghost'."),
    ],
)
def test_a_member_that_is_not_where_it_should_be(target, cause):
    with pytest.raises(UserError) as caught:
        Family("box", {"ghost": target})["ghost"]
    assert caught.value.cause == cause
    assert repr(target) in caught.value.cure


def test_a_defect_of_the_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_box.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        Family("box", {"broken": "broken_box:Box"})["broken"]


def test_a_family_does_not_follow_later_changes_of_its_table():
    table = {"box": f"{__name__}:Box"}
    family = Family("box", table)
    table["crate"] = table["box"]
    assert "crate" not in family


def test_a_member_can_be_added():
    family, target = Family("box", {"box": f"{__name__}:Box"}), f"{__name__}:Ghost"
    for _ in range(2):
        family.add("my-box2", target)
    assert list(family) == ["box", "my-box2"]
    family.add("other-box", f"{__name__}:Box")
    assert family["other-box"] is Box


@pytest.mark.parametrize(
    ("name", "target", "cause", "cure"),
    [
        ("box", "a:b", "'box' is the name of another box.", "Give yours another one."),
        ("My Box!", "a:b", "No box can be called 'My Box!'.", ": my-box."),
        ("", "a:b", "No box can be called ''.", ": my-box."),
        ("ärger", "a:b", "No box can be called 'ärger'.", ": rger."),
        ("-box", "a:b", "No box can be called '-box'.", ": box."),
        ("a--b", "a:b", "No box can be called 'a--b'.", ": a-b."),
        ("a/b", "a:b", "No box can be called 'a/b'.", ": a-b."),
        ("a.b", "a:b", "No box can be called 'a.b'.", ": a-b."),
        ("a\n", "a:b", "No box can be called 'a\\n'.", ": a."),
        ("a" * 41, "a:b", f"No box can be called '{'a' * 41}'.", f": {'a' * 40}."),
        ("new", "module.Box", "'module.Box' does not say where the box new is.", "my_module:Mine"),
        ("new", "a b:c", "'a b:c' does not say where the box new is.", "my_module:Mine"),
        ("new", Box, f"{Box!r} does not say where the box new is.", "my_module:Mine"),
    ],
)
def test_what_cannot_be_added(name, target, cause, cure):
    family = Family("box", {"box": f"{__name__}:Box"})
    with pytest.raises(UserError) as caught:
        family.add(name, target)
    assert caught.value.cause == cause
    assert cure in caught.value.cure
    assert list(family) == ["box"]


CONFIGURATIONS = [ATTACKS, LOSSES, DEFENSES]


@pytest.mark.parametrize("family", CONFIGURATIONS, ids=lambda family: family.kind)
def test_every_default_configuration_survives_its_dump(family):
    for name in family:
        whole = family.configure(name)
        assert whole.name == name
        assert family.read(whole.dump()) == whole
        assert all(meaning for _, meaning in type(whole).parameters().values())


def test_a_configuration_by_name():
    assert BOXES.configure("box", {"size": "3"}) == Box(size=3)
    for words, name, given in (
        ("Did you mean box", "bxo", {}),
        ("no parameter of box called 'sice'. Did you mean size", "box", {"sice": 1}),
    ):
        with pytest.raises(UserError, match=words):
            BOXES.configure(name, given)


def test_a_configuration_registered_under_another_name_is_refused():
    family = ConfigurationFamily("box", {"crate": f"{__name__}:Box"})
    with pytest.raises(UserError, match="registered as 'crate' calls itself 'box'"):
        family.configure("crate")
