"""The error that users see."""

import copy

import pytest

from robustbench_pcl.errors import UserError, unknown_name

NAMES = ["pgd", "fgsm", "bim", "cw", "mim"]


def test_it_says_what_is_wrong_and_what_to_do():
    error = UserError("The tank is empty.", "Fill it up.")
    assert (error.cause, error.cure) == ("The tank is empty.", "Fill it up.")
    assert str(error) == "The tank is empty. Fill it up."


def test_it_can_be_copied_as_pickle_does_between_processes():
    error = copy.copy(UserError("The tank is empty.", "Fill it up."))
    assert (error.cause, error.cure) == ("The tank is empty.", "Fill it up.")
    assert str(error) == "The tank is empty. Fill it up."


@pytest.mark.parametrize(
    ("typed", "suggested"), [("fsgm", "fgsm"), ("PGD", "pgd"), ("pdg", "pgd"), ("mimm", "mim")]
)
def test_the_nearest_name_comes_first(typed, suggested):
    error = unknown_name("attack", typed, NAMES)
    assert error.cause == f"There is no attack called {typed!r}."
    assert error.cure.startswith(f"Did you mean {suggested}")
    assert error.cure.endswith("Known: bim, cw, fgsm, mim, pgd.")


def test_nothing_near_gets_no_suggestion():
    assert unknown_name("attack", "deepfool", NAMES).cure == "Known: bim, cw, fgsm, mim, pgd."


def test_the_names_may_be_an_iterator():
    assert unknown_name("attack", "x", iter(NAMES)).cure == "Known: bim, cw, fgsm, mim, pgd."
