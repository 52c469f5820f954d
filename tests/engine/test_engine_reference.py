"""The engine against the attacks written out for one image at a time."""

from functools import cache

import pytest
import torch
from attack_toys import SIGN_ATTACKS, generator, predictions, short
from engine_toys import MODELS, case_of, iterates

from robustbench_pcl.attacks import ATTACKS, CW
from robustbench_pcl.attacks.base import draw_seeds, uniform_noise
from robustbench_pcl.engine.shortcuts import EXACT, Shortcuts
from robustbench_pcl.evaluation.robustness import robustness

STEPS = 10
PREPARED = [pytest.param(False, id="plain"), pytest.param(True, id="folded")]
REFERENCES = ("fgsm", "bim", "mim", "pgd")


@cache
def paths(name, attack):
    """Every image's iterates, and whether each of them is adversarial, as the model itself says."""
    case = case_of(name)
    model = MODELS[name]().eval()
    noise = uniform_noise(case.images, draw_seeds(len(case.images), generator()))
    found = []
    for row in zip(case.images, case.labels, noise, strict=True):
        path = iterates(attack, model, row, eps=case.eps, steps=STEPS)
        with torch.no_grad():
            fooled = [bool(model(image[None]).argmax() != row[1]) for image in path]
        found.append((path, fooled))
    return found


def first_fooling(path, fooled):
    return next((image for image, yes in zip(path, fooled, strict=True) if yes), path[-1])


def assert_alike(found, expected, folded):
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert torch.allclose(one, other, rtol=0, atol=1e-9 if folded else 1e-12), index


def attack_of(name, attack):
    return short(attack, STEPS, eps=case_of(name).eps)


@pytest.mark.parametrize("name", MODELS)
def test_images_are_fooled_early_late_and_never(name):
    """So that what follows says something."""
    case = case_of(name)
    steps = [
        fooled.index(True) if any(fooled) else None
        for attack in ("bim", "mim", "pgd")
        for _, fooled in paths(name, attack)
    ]
    assert (case.predictions != case.labels).any()
    assert None in steps
    assert len({step for step in steps if step}) >= 3


@pytest.mark.parametrize("folded", PREPARED)
@pytest.mark.parametrize("attack", REFERENCES)
@pytest.mark.parametrize("name", MODELS)
def test_an_image_ends_at_the_first_iterate_that_fools_the_model(name, attack, folded):
    """Those that are wrong to begin with are left as they are; who withstands takes all steps."""
    case, walked = case_of(name), paths(name, attack)
    found = robustness(
        case.model,
        attack_of(name, attack),
        case.images,
        case.labels,
        shortcuts=Shortcuts(folded=folded, retiring=True),
    )
    assert found.shortcuts.folded == folded
    clean = case.predictions == case.labels
    assert torch.equal(found.clean, clean)
    expected = [
        first_fooling(*path) if right else image
        for path, right, image in zip(walked, clean, case.images, strict=True)
    ]
    assert_alike(found.adversarial, expected, folded)
    verdicts = [
        bool(right) and not any(fooled) for (_, fooled), right in zip(walked, clean, strict=True)
    ]
    assert found.robust.tolist() == verdicts


@pytest.mark.parametrize("folded", PREPARED)
@pytest.mark.parametrize("attack", REFERENCES)
@pytest.mark.parametrize("name", MODELS)
def test_without_retirement_an_image_ends_at_its_last_iterate(name, attack, folded):
    case, walked = case_of(name), paths(name, attack)
    found = robustness(
        case.model,
        attack_of(name, attack),
        case.images,
        case.labels,
        shortcuts=Shortcuts(folded=folded),
    )
    assert_alike(found.adversarial, [path[-1] for path, _ in walked], folded)
    assert found.robust.tolist() == [not fooled[-1] for _, fooled in walked]


@pytest.mark.parametrize("folded", PREPARED)
@pytest.mark.parametrize("attack", REFERENCES)
@pytest.mark.parametrize("name", ["conv_net", "normed_net"])
def test_an_attack_that_retires_counts_its_start_among_the_iterates(name, attack, folded):
    case, walked = case_of(name), paths(name, attack)
    found = attack_of(name, attack)(
        case.model,
        case.images,
        case.labels,
        generator=generator(),
        shortcuts=Shortcuts(folded=folded, retiring=True),
    )
    assert any(fooled[0] for _, fooled in walked)
    assert_alike(found, [first_fooling(*path) for path in walked], folded)


@pytest.mark.parametrize("name", MODELS)
def test_carlini_wagner_is_the_same_with_shortcuts_up_to_rounding(name):
    case, attack = case_of(name), CW(c=10.0, steps=40, learning_rate=0.05, search_steps=1)
    images, labels = case.images[:10], case.labels[:10]
    plain, prepared = (
        attack(case.model, images, labels, shortcuts=shortcuts)
        for shortcuts in (EXACT, Shortcuts(folded=True, retiring=True))
    )
    assert (plain != images).flatten(1).any(dim=1).sum() >= 5
    assert torch.allclose(prepared, plain, rtol=0, atol=1e-7)
    fooled = predictions(case.model, plain) != labels
    assert torch.equal(predictions(case.model, prepared) != labels, fooled)


@pytest.mark.parametrize("folded", PREPARED)
@pytest.mark.parametrize("attack", SIGN_ATTACKS)
def test_no_image_s_result_depends_on_others_or_on_the_batch(attack, folded, batches_of):
    case = case_of("normed_net")
    model = attack_of("normed_net", attack)
    shortcuts = Shortcuts(folded=folded, retiring=True)
    runs = []
    for size, rows in ((64, 16), (7, 16), (3, 16), (1, 16), (64, 5), (3, 9)):
        batches_of(size)
        images, labels = case.images[:rows], case.labels[:rows]
        runs.append(robustness(case.model, model, images, labels, shortcuts=shortcuts))
    whole = runs[0]
    assert 0 < whole.robust.sum() < 16
    for other in runs[1:]:
        rows = len(other.robust)
        assert torch.equal(other.adversarial, whole.adversarial[:rows])
        assert torch.equal(other.robust, whole.robust[:rows])
        assert torch.equal(other.clean, whole.clean[:rows])


@pytest.mark.parametrize("attack", SIGN_ATTACKS)
@pytest.mark.parametrize("name", MODELS)
def test_who_withstands_every_step_withstands_the_last(name, attack):
    case = case_of(name)
    every, last = (
        robustness(
            case.model,
            attack_of(name, attack),
            case.images,
            case.predictions,
            shortcuts=Shortcuts(folded=True, retiring=retiring),
        )
        for retiring in (True, False)
    )
    assert not (every.robust & ~last.robust).any()
    # Images that withstand go the same way.
    assert torch.equal(every.adversarial[every.robust], last.adversarial[every.robust])
    assert every.forward_passes < last.forward_passes or attack == "fgsm"


def test_every_sign_attack_has_a_reference():
    assert set(REFERENCES) == set(SIGN_ATTACKS)
    assert set(ATTACKS) - set(SIGN_ATTACKS) == {"cw"}
