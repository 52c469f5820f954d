"""The compiled form of the fast model: kept where it is faster, and never asked for a verdict."""

import copy
from dataclasses import replace
from shutil import which

import pytest
import torch
from attack_models import case_of
from attack_toys import attacked, chunks_of, collected, predictions
from torch import nn

from robustbench_pcl.attacks import BIM, fast_model, runner, target
from robustbench_pcl.attacks.fast_model import (
    EXACT,
    Shortcuts,
    faster_compiled,
)
from robustbench_pcl.attacks.target import TargetModel

COMPILED = Shortcuts(folded=True, compiled=True)


class Form(nn.Module):
    """What a compiler makes of a model: the same, in so many seconds."""

    def __init__(self, model: nn.Module, seconds: float) -> None:
        super().__init__()
        self.model, self.seconds, self.sizes = model, seconds, []

    def forward(self, images):
        self.sizes.append(len(images))
        return self.model(images)


TRIALS = 3
"""Passes of a form before it is kept: one to compile it, one to time it, one to compare it."""


class Liar(Form):
    """Compiled wrongly: every class is another."""

    def forward(self, images):
        return super().forward(images).flip(1)


class LateLiar(Form):
    """Compiled wrongly, which does not show before it is kept."""

    def forward(self, images):
        logits = super().forward(images)
        return logits.flip(1) if len(self.sizes) > TRIALS else logits


@pytest.fixture
def compile_to(monkeypatch):
    """Have every model compiled to a form that takes some seconds; or to nothing."""

    def prepare(seconds, kind=Form):
        made = []

        def form_of(model, *, dynamic):
            assert dynamic is False
            if seconds is None:
                raise RuntimeError("no compiler")
            made.append(kind(model, seconds))
            return made[-1]

        monkeypatch.setattr(torch, "compile", form_of)
        return made

    return prepare


class Clock:
    """Seconds that pass only while a model runs: one for a model that is not compiled."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def run(self, model: nn.Module) -> None:
        model(torch.zeros(4, 1))
        self.now += getattr(model, "seconds", 1.0)


@pytest.mark.parametrize(
    ("seconds", "kept"), [(0.5, True), (0.95, False), (1.0, False), (3.0, False), (None, False)]
)
def test_a_compiled_model_is_kept_if_it_is_clearly_faster(compile_to, monkeypatch, seconds, kept):
    made, clock = compile_to(seconds), Clock()
    monkeypatch.setattr(fast_model, "time", clock)
    found = faster_compiled(nn.Identity(), clock.run)
    assert found is (made[0] if kept else None)


@pytest.fixture
def always(monkeypatch):
    """However little is left to do, compiling is tried; what it gives is kept."""
    monkeypatch.setattr(target, "LONG", 0.0)
    monkeypatch.setattr(fast_model, "FASTER", 0.0)


def compiled_attack(shortcuts=COMPILED):
    case = case_of("normed_net")
    attack, model = BIM(eps=0.04), copy.deepcopy(case.model)
    images, labels = case.images[:11], case.labels[:11]
    return attacked(attack, model, images, labels, shortcuts, sizes=[4, 4, 3])


@pytest.mark.usefixtures("always")
def test_full_batches_are_passed_through_the_compiled_model_and_others_are_not(
    compile_to, batches_of
):
    batches_of(4)
    expected = compiled_attack(Shortcuts(folded=True))
    (made, found) = compile_to(0.5), compiled_attack()
    (form,) = made
    assert set(form.sizes) == {4}
    steps = 2 * 10  # 8 images in full batches; 3 in the rest's
    assert len(form.sizes) == TRIALS + steps
    assert torch.equal(found.adversarial, expected.adversarial)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("seconds", [3.0, None])
def test_a_slow_form_changes_nothing(compile_to, batches_of, monkeypatch, seconds):
    batches_of(4)
    monkeypatch.setattr(fast_model, "FASTER", float("inf"))
    expected = compiled_attack(Shortcuts(folded=True))
    made, found = compile_to(seconds), compiled_attack()
    assert [len(form.sizes) for form in made] == ([2] if seconds else [])
    assert torch.equal(found.adversarial, expected.adversarial)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("shortcuts", [EXACT, Shortcuts(folded=True), Shortcuts(compiled=True)])
def test_the_model_itself_is_never_compiled(compile_to, shortcuts):
    made = compile_to(0.5)
    compiled_attack(shortcuts)
    assert made == []


def test_a_short_attack_compiles_nothing(compile_to):
    made = compile_to(0.5)
    compiled_attack()
    assert made == []


@pytest.mark.usefixtures("always")
def test_verdicts_are_never_a_compiled_model_s(compile_to, batches_of):
    """Also where the copy that was compiled did the very operations of the model."""
    made = compile_to(0.5, LateLiar)
    batches_of(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 5)).double()
    images = case_of("normed_net").images
    shortcuts = Shortcuts(folded=True, early_stop=True, compiled=True)
    found = attacked(BIM(eps=1e-6), model, images, predictions(model, images), shortcuts)
    assert found.robust.all()
    assert len(made[0].sizes) > TRIALS


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.usefixtures("always")
def test_a_form_that_answers_otherwise_protects_nobody(compile_to, batches_of, early_stop):
    """Its gradients would lead astray: it is dropped before it has made a step, and it is said."""
    batches_of(4)
    plain = Shortcuts(folded=True, early_stop=early_stop)
    expected = compiled_attack(plain)
    made = compile_to(0.5, Liar)
    with pytest.warns(UserWarning, match="the compiled model's answers are others") as said:
        found = compiled_attack(replace(plain, compiled=True))
    assert len(said) == 1
    assert [len(form.sizes) for form in made] == [TRIALS]
    assert torch.equal(found.robust, expected.robust)
    assert torch.equal(found.adversarial, expected.adversarial)


class Steady:
    """A second for each look at the clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1
        return self.now


@pytest.mark.parametrize(("long", "compiles"), [(20.0, True), (60.0, False)])
def test_a_long_attack_is_compiled_once_its_pace_is_known(
    compile_to, batches_of, monkeypatch, long, compiles
):
    """A pass of four images takes a second, and there are ten for each of eleven images."""
    monkeypatch.setattr(runner, "time", Steady())
    monkeypatch.setattr(target, "LONG", long)
    monkeypatch.setattr(fast_model, "FASTER", 0.0)
    batches_of(4)
    made = compile_to(0.5)
    compiled_attack()
    assert len(made) == compiles
    if compiles:
        first = 2 * 10 - runner.WARM
        assert len(made[0].sizes) == TRIALS + first


@pytest.mark.slow
@pytest.mark.usefixtures("always")
@pytest.mark.skipif(not (which("g++") or which("clang++")), reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_a_really_compiled_model_is_attacked_alike(batches_of):
    batches_of(8)
    case, attack = case_of("normed_net"), BIM(eps=0.04, steps=3)
    expected = attacked(attack, case.model, case.images, case.labels, Shortcuts(folded=True))
    with TargetModel(copy.deepcopy(case.model), COMPILED) as entered:
        chunks = chunks_of(case.images, case.labels, [16])
        found, _ = collected(attack.stream(entered, chunks, 16), case.images)
        assert not entered.exact
    assert torch.allclose(found, expected.adversarial, rtol=0, atol=1e-9)
