"""Configurations: completed once, typed, frozen; budgets as users type them; ids from content."""

import hashlib
import subprocess
import sys
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from robustbench_pcl.configuration import (
    ID_LENGTH,
    Configuration,
    Count,
    Description,
    Eps,
    digest,
    parse_eps,
)
from robustbench_pcl.errors import UserError


class Nudge(Configuration):
    """A configuration like any other."""

    name: Literal["nudge"] = "nudge"
    eps: Eps = Field(default=8 / 255, description="budget")
    steps: Count = Field(default=10, description="how many")
    c: float = Field(default=1, description="weight")
    keep: bool = Field(default=False, description="whether to")


GOOD = [
    ("0.03", 0.03),
    ("8/255", 8 / 255),
    (" 8 / 255 ", 8 / 255),
    ("0.5/255", 0.5 / 255),
    ("8.0/255", 8 / 255),
    ("3e-2", 0.03),
    (".1", 0.1),
    ("0", 0.0),
    ("0/255", 0.0),
    ("1", 1.0),
    ("255/255", 1.0),
    (0, 0.0),
    (1, 1.0),
    (0.3, 0.3),
]

BAD = [
    # typed, what the cause says, what the cure says
    ("-0.1", "is negative", "8/255"),
    ("-8/255", "is negative", "8/255"),
    (-1e-9, "is negative", "8/255"),
    ("nan", "is not a number", "0.03 or 8/255"),
    (float("nan"), "is not a number", "0.03 or 8/255"),
    ("inf", "is not a number", "0.03 or 8/255"),
    ("-inf", "is not a number", "0.03 or 8/255"),
    (float("inf"), "is not a number", "0.03 or 8/255"),
    ("1e400", "is not a number", "0.03 or 8/255"),
    ("banana", "'banana' is not a number", "0.03 or 8/255"),
    ("", "'' is not a number", "0.03 or 8/255"),
    ("8/", "is not a number", "0.03 or 8/255"),
    ("/255", "is not a number", "0.03 or 8/255"),
    ("1/0", "'1/0' is not a number", "0.03 or 8/255"),
    ("1/255/2", "is not a number", "0.03 or 8/255"),
    ("8,255", "is not a number", "0.03 or 8/255"),
    ("8", "larger than the whole pixel range", "Did you mean --eps 8/255?"),
    (8, "larger than the whole pixel range", "Did you mean --eps 8/255?"),
    (8.0, "larger than the whole pixel range", "Did you mean --eps 8/255?"),
    ("8.0", "larger than the whole pixel range", "Did you mean --eps 8/255?"),
    ("1.5", "larger than the whole pixel range", "Did you mean --eps 1.5/255?"),
    ("16/8", "larger than the whole pixel range", "Did you mean --eps 2/255?"),
    ("256", "larger than the whole pixel range", "0.03 or 8/255"),
]


@pytest.mark.parametrize(("text", "expected"), GOOD, ids=str)
def test_a_budget(text, expected):
    assert parse_eps(text) == expected
    assert isinstance(parse_eps(text), float)


@pytest.mark.parametrize(("text", "cause", "cure"), BAD, ids=str)
def test_not_a_budget(text, cause, cure):
    with pytest.raises(UserError) as caught:
        parse_eps(text)
    assert cause in caught.value.cause
    assert cure in caught.value.cure


@pytest.mark.parametrize(
    "cure", sorted({cure for _, _, cure in BAD if cure.startswith("Did you mean")})
)
def test_what_is_suggested_can_be_typed(cure):
    assert 0 < parse_eps(cure.removeprefix("Did you mean --eps ").removesuffix("?")) < 1


def test_a_configuration_is_complete_and_typed_whatever_was_given():
    whole = {"name": "nudge", "eps": 8 / 255, "steps": 10, "c": 1.0, "keep": False}
    assert Nudge().dump() == whole
    assert {name: type(value) for name, value in Nudge().dump().items()} == {
        name: type(value) for name, value in whole.items()
    }
    assert Nudge.complete(whole) == Nudge.complete({"eps": "8/255", "steps": "10"}) == Nudge()


def test_10_and_10_0_are_one_configuration():
    assert Nudge(c=10) == Nudge(c=10.0)
    assert digest(Nudge(c=10).dump()) == digest(Nudge.complete({"c": "10"}).dump())
    assert digest(Nudge(c=10).dump()) != digest(Nudge(c=11).dump())


def test_parameters_are_listed_with_their_defaults_and_meaning():
    assert Nudge.parameters() == {
        "eps": (8 / 255, "budget"),
        "steps": (10, "how many"),
        "c": (1, "weight"),
        "keep": (False, "whether to"),
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stepz": 3}, "no parameter of nudge called 'stepz'. Did you mean steps"),
        ({"steps": 0}, "nudge: steps: input should be greater than or equal to 1, not 0."),
        ({"steps": 2.5}, "nudge: steps: input should be a valid integer"),
        ({"steps": "banana"}, "nudge: steps: input should be a valid integer"),
        ({"steps": True}, "nudge: steps: a truth value is not a number"),
        ({"eps": True}, "nudge: eps: a truth value is not a number"),
        ({"eps": 8}, "Did you mean --eps 8/255"),
        ({"eps": [0.1]}, "not a number"),
        ({"c": float("nan")}, "nudge: c: input should be a finite number"),
        ({"c": "inf"}, "nudge: c: input should be a finite number"),
        ({"name": "shove"}, "nudge: name: input should be 'nudge'"),
    ],
    ids=str,
)
def test_wrong_parameters_name_the_field_and_the_value(given, words):
    with pytest.raises(UserError) as caught:
        Nudge.complete(given)
    assert words in str(caught.value)


def test_descriptions_are_frozen_refuse_unknown_fields_and_check_their_changes():
    with pytest.raises(ValidationError, match="frozen"):
        Nudge().steps = 3
    with pytest.raises(ValidationError, match="Extra inputs"):
        Nudge(colour="red")
    assert Nudge().changed(steps=3) == Nudge(steps=3)
    with pytest.raises(ValidationError, match="greater than or equal"):
        Nudge().changed(steps=-1)


def test_a_description_survives_json():
    assert Nudge.model_validate_json(Nudge(c=3).model_dump_json()) == Nudge(c=3)
    assert issubclass(Configuration, Description)


def test_the_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    canonical = '{"a":1,"b":"ε"}'.encode()
    assert digest({"b": "ε", "a": 1}) == hashlib.sha256(canonical).hexdigest()[:ID_LENGTH]


def test_root_modules_do_not_import_torch():
    names = ("configuration", "recipe", "registry", "plugins", "progress", "lazy", "errors")
    imports = ", ".join(f"robustbench_pcl.{name}" for name in names)
    code = f"import sys, {imports}; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
