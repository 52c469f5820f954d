"""Perturbation budgets as users type them."""

import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.specs.units import parse_eps

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
