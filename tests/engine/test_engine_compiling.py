"""A compiled form is tried where much is left to do, and kept if it is faster."""

import copy
from shutil import which

import pytest
import torch
from attack_toys import predictions
from engine_toys import case_of
from torch import nn

from robustbench_pcl.attacks import BIM
from robustbench_pcl.attacks.losses import attack_loss
from robustbench_pcl.engine import compiling
from robustbench_pcl.engine.compiling import LONG, Compiler
from robustbench_pcl.engine.shortcuts import EXACT, Shortcuts
from robustbench_pcl.engine.victim import Victim
from robustbench_pcl.evaluation.robustness import robustness

COMPILED = Shortcuts(folded=True, compiled=True)


class Form(nn.Module):
    """What a compiler makes of a model: the same, used so and so often, in so many seconds."""

    def __init__(self, model: nn.Module, seconds: float) -> None:
        super().__init__()
        self.model, self.seconds, self.sizes = model, seconds, []

    def forward(self, images):
        self.sizes.append(len(images))
        return self.model(images)


class Clock:
    """Seconds that pass only while a model runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(compiling, "time", clock)
    return clock


@pytest.fixture
def compile_to(monkeypatch, clock):
    """Have every model compiled to a form that takes some seconds; or to nothing."""

    def prepare(seconds):
        made = []

        def fake(model, *, dynamic):
            assert dynamic is False
            if seconds is None:
                raise RuntimeError("no compiler")
            made.append(Form(model, seconds))
            return made[-1]

        monkeypatch.setattr(torch, "compile", fake)
        return made

    return prepare


PLAIN = nn.Identity()


def consider(compiler, clock, seconds=LONG, size=4, plain=1.0):
    """As the engine would; a run of the plain model takes a second."""
    runs = []

    def run(model):
        runs.append(model)
        model(torch.zeros(size, 1))
        clock.now += plain if model is PLAIN else model.seconds

    compiler.consider(PLAIN, run, seconds, size)
    return runs


def test_a_faster_form_is_used_for_batches_of_its_own_size(compile_to, clock):
    (made, compiler) = compile_to(0.5), Compiler()
    assert compiler.or_plain(PLAIN, 4) is PLAIN
    runs = consider(compiler, clock)
    assert runs == [made[0], made[0], PLAIN]  # the first time it is compiled
    assert compiler.or_plain(PLAIN, 4) is made[0]
    assert compiler.or_plain(PLAIN, 3) is PLAIN
    assert compiler.or_plain(PLAIN, 5) is PLAIN


@pytest.mark.parametrize("seconds", [0.95, 1.0, 3.0])
def test_a_form_that_is_hardly_faster_is_dropped_and_not_tried_again(compile_to, clock, seconds):
    made, compiler = compile_to(seconds), Compiler()
    consider(compiler, clock)
    assert compiler.or_plain(PLAIN, 4) is PLAIN
    assert consider(compiler, clock) == []
    assert len(made) == 1


def test_a_form_that_fails_is_dropped(compile_to, clock, monkeypatch):
    made, compiler = compile_to(0.5), Compiler()
    monkeypatch.setattr(Form, "forward", lambda *_: 1 / 0)
    consider(compiler, clock)
    assert len(made) == 1
    assert compiler.or_plain(PLAIN, 4) is PLAIN


@pytest.mark.parametrize("seconds", [0.0, 1.0, LONG - 1])
def test_nothing_is_compiled_for_a_short_time(compile_to, clock, seconds):
    made, compiler = compile_to(0.5), Compiler()
    assert consider(compiler, clock, seconds) == []
    assert made == []
    consider(compiler, clock, LONG)  # it may be asked again
    assert len(made) == 1


# In an attack


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(compiling, "LONG", 0.0)
    monkeypatch.setattr(compiling, "_seconds", lambda run, model: getattr(model, "seconds", 1.0))


def attacked(shortcuts=COMPILED, count=11):
    case = case_of("normed_net")
    model = copy.deepcopy(case.model)
    images, labels = case.images[:count], case.labels[:count]
    found = robustness(model, BIM(eps=0.04), images, labels, shortcuts=shortcuts)
    assert torch.equal(found.robust, predictions(model, found.adversarial) == labels)
    return found


@pytest.mark.usefixtures("always")
def test_full_batches_are_compiled_and_others_are_not(compile_to, batches_of):
    batches_of(4)
    expected = attacked(Shortcuts(folded=True))
    made = compile_to(0.5)
    found = attacked()
    (form,) = made
    assert set(form.sizes) == {4}
    # 8 images in full batches: all steps but the first, which came before; 3 in the rest's.
    assert len(form.sizes) == 1 + 2 * 10 - 1
    assert torch.equal(found.adversarial, expected.adversarial)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("seconds", [3.0, None])
def test_a_slow_form_changes_nothing(compile_to, batches_of, seconds):
    batches_of(4)
    expected = attacked(Shortcuts(folded=True))
    made = compile_to(seconds)
    found = attacked()
    assert [set(form.sizes) for form in made] == ([{4}] if seconds else [])
    assert all(len(form.sizes) == 1 for form in made)
    assert torch.equal(found.adversarial, expected.adversarial)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("shortcuts", [EXACT, Shortcuts(folded=True), Shortcuts(compiled=True)])
def test_the_model_itself_is_never_compiled(compile_to, shortcuts):
    made = compile_to(0.5)
    attacked(shortcuts)
    assert made == []


def test_a_short_attack_compiles_nothing(compile_to):
    made = compile_to(0.5)
    attacked()
    assert made == []


class Liar(Form):
    """Compiled wrongly: every class is another."""

    def forward(self, images):
        return super().forward(images).flip(1)


@pytest.mark.usefixtures("always")
def test_verdicts_are_never_a_compiled_form_s(monkeypatch, batches_of):
    """Also where the copy that was compiled did the very operations of the model."""
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: Liar(model, 0.5))
    batches_of(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 5)).double()
    case = case_of("normed_net")
    labels = predictions(model, case.images)
    shortcuts = Shortcuts(folded=True, retiring=True, compiled=True)
    found = robustness(model, BIM(eps=1e-6), case.images, labels, shortcuts=shortcuts)
    assert found.robust.all()


@pytest.mark.slow
@pytest.mark.skipif(not (which("g++") or which("clang++")), reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_a_really_compiled_model_is_attacked_alike(monkeypatch):
    monkeypatch.setattr(compiling, "LONG", 0.0)
    monkeypatch.setattr(compiling, "FASTER", 0.0)  # so that it is kept on any machine
    case = case_of("normed_net")
    with Victim(copy.deepcopy(case.model), COMPILED) as victim:

        def objective(model, images):
            return attack_loss("cross-entropy")(model, images, case.labels[: len(images)])

        victim.settle(objective, case.images)
        plain = victim.evaluate(objective, case.images)
        victim.consider_compiling(1.0, objective, case.images)
        assert not victim.plain
        compiled = victim._compiler.or_plain(victim._fast, len(case.images))
        assert compiled is not victim._fast
        found = victim.evaluate(objective, case.images)
    assert torch.allclose(found.gradient, plain.gradient, rtol=0, atol=1e-12)
    assert torch.allclose(found.logits, plain.logits, rtol=0, atol=1e-12)
