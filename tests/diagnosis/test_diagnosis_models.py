"""The verdict is the one whose reason was built into the model, from any seed."""

import pytest
from diagnosis_toys import Company, Cut, Noisy, Quantised, Scaled

from robustbench_pcl import PGD, diagnose

EPS = 0.1
REASONS = {
    "logits times 1,000": ("saturated", lambda made: Scaled(made("smooth"), 1_000)),
    "quantised pixels": ("flat or rugged", lambda made: Quantised(made("smooth"))),
    "no path for gradients": ("flat or rugged", lambda made: Cut(made("smooth"))),
    "winners take all": ("flat or rugged", lambda made: made("rugged")),
    "noise in the forward pass": ("randomised", lambda made: Noisy(made("smooth"))),
    "depends on its batch": ("randomised", lambda made: Company(made("smooth"))),
}
"""What was done to a model that hides nothing, and the verdict."""


@pytest.fixture
def made(request):
    return request.getfixturevalue


@pytest.mark.parametrize("name", REASONS)
def test_masked_models_are_found_out(name, made, clean_digits):
    verdict, make = REASONS[name]
    found = diagnose(make(made), *clean_digits, EPS)
    assert found.verdict == verdict
    assert found.withstood <= found.correct <= found.clean <= found.n == len(clean_digits[0])


def test_an_attack_of_tiny_steps_is_too_weak(smooth, clean_digits):
    weak = PGD(eps=EPS, relative_step_size=1e-4)
    found = diagnose(smooth, *clean_digits, EPS, attack=weak)
    assert found.verdict == "attack too weak"
    assert found.label == weak.label
    assert {each.code for each in found.checks if each.passed is False} == {
        *("PCL205", "PCL241", "PCL242"),
    }


def test_pcl_with_separation_16_is_saturated_and_plain_pgd_incompetent(demo_model, clean_digits):
    found = diagnose(demo_model("ours", loss__separation=16), *clean_digits, EPS)
    assert (found.verdict, found.code) == ("saturated", "PCL103")
    plain, margin = found.competence
    assert plain.interval[1] < 0.25
    assert margin.interval[0] > 0.8


@pytest.mark.slow
def test_madrys_recipe_holds_and_its_attacks_are_competent(demo_model, clean_digits):
    found = diagnose(demo_model("madry"), *clean_digits, EPS)
    assert (found.verdict, found.code) == ("holds", "PCL101")
    assert [each.code for each in found.checks if each.passed is False] == []
    assert all(each.interval[0] > 0.85 for each in found.competence)


def test_images_of_an_honest_twin_fool_what_hides_its_gradient(smooth, clean_digits):
    found = diagnose(Quantised(smooth), *clean_digits, EPS, sources={"twin": smooth})
    (check,) = (each for each in found.checks if each.code == "PCL202")
    assert check.passed is False
    assert check.measured["transfer from twin"] < check.measured["PGD"] - 50
    assert found.verdict == "flat or rugged"


@pytest.mark.slow
@pytest.mark.parametrize("name", REASONS)
def test_no_verdict_depends_on_the_seed(name, made, clean_digits):
    verdict, make = REASONS[name]
    model = make(made)
    found = [diagnose(model, *clean_digits, EPS, seed=seed).verdict for seed in range(20)]
    assert found == [verdict] * 20


RECIPES = {
    "madry": ("holds", "madry", {}, PGD(eps=EPS)),
    "ibp": ("holds", "ibp", {}, PGD(eps=EPS)),
    "tiny steps": ("attack too weak", "madry", {}, PGD(eps=EPS, relative_step_size=1e-4)),
    "separation 16": ("saturated", "ours", {"loss__separation": 16}, PGD(eps=EPS)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_nor_does_that_of_a_recipe(name, demo_model, clean_digits):
    verdict, recipe, changes, attack = RECIPES[name]
    model = demo_model(recipe, **changes)
    found = [
        diagnose(model, *clean_digits, EPS, attack=attack, seed=seed).verdict for seed in range(20)
    ]
    assert found == [verdict] * 20
