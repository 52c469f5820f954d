"""Adversarial sets: what they hold, and that a killed run loses no part and changes no bit."""

import shutil
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_sets import classes, clean_images, labels_of, stored

from robustbench_pcl import CW, FGSM, PGD, Workspace
from robustbench_pcl.attacks import ATTACKS, target
from robustbench_pcl.attacks.checks import ALONE, PROBE
from robustbench_pcl.attacks.fast_model import Shortcuts
from robustbench_pcl.errors import InvalidInputError, UserError
from robustbench_pcl.evaluation import generate
from robustbench_pcl.progress import Progress
from robustbench_pcl.store.parts import load_parts

N, EPS = 40, 0.1
PGD_01 = PGD(eps=EPS)
ASKED = 2 * PROBE + ALONE
"""Images that are passed forward to see whether a model can be judged, those for a gradient apart.
"""


SHORT = {
    "cw": {"c": 10, "steps": 20},
    "square": {"steps": 300},
    "fab": {"steps": 20, "targets": 3},
    "apgd-t": {"steps": 20, "targets": 3},
    "lbfgs": {"steps": 20, "search_steps": 3},
    "strongest": {"budget": "quick"},
}
"""How attacks that take long are made short."""
LONG = ("auto",)
"""Those that are published at one length."""


def complete(name):
    budget = {"eps": EPS} if "eps" in ATTACKS[name].model_fields else {}
    return ATTACKS.configure(name, {**budget, **SHORT.get(name, {})})


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in ATTACKS],
)
def test_a_set_holds_images_of_the_attack_with_the_sources_classes(tiny_workspace, tiny, name):
    attack = complete(name)
    found = tiny_workspace.adversarial_set(tiny(), attack, images=N, mode="exact")
    content, clean = stored(found), clean_images(tiny_workspace, N)
    labels = labels_of(tiny_workspace, N)
    expected = attack(tiny_workspace.model(tiny()), clean, torch.from_numpy(labels), exact=True)
    np.testing.assert_array_equal(content["images"], expected.numpy())
    np.testing.assert_array_equal(content["indices"], np.arange(N))
    np.testing.assert_array_equal(content["labels"], labels)
    model = tiny_workspace.model(tiny())
    np.testing.assert_array_equal(content["predictions"], classes(model, expected))
    assert content["images"].dtype == np.float32

    largest = np.abs(content["images"] - clean.numpy()).max()
    assert found.summary.largest_linf == pytest.approx(largest, abs=1e-7)
    assert largest > 0
    assert largest <= EPS or "eps" not in attack.dump()
    assert found.summary.mean_l2 > 0
    assert found.summary.precision == "float32"
    found.verify()


def test_a_set_says_what_it_was_made_from(tiny_workspace, tiny):
    attack = CW(c=10, steps=20)
    spec = tiny_workspace.adversarial_set(tiny(), attack, images=N, seed=3).spec
    assert spec.attack == attack.dump()
    assert spec.norm == "l2"
    assert spec.source == tiny_workspace.train(tiny()).record
    assert spec.data.digest == tiny_workspace.dataset("digits").test.digest
    assert (spec.n, spec.seed, spec.mode) == (N, 3, "fast")


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_every_pass_is_counted(tiny_workspace, tiny, mode):
    made = tiny_workspace.adversarial_set(tiny(), PGD_01, images=N, mode=mode)
    content, found = stored(made), made.summary
    # Whether the fast model agrees with the reference model is tried on a few images.
    tried = [0] if mode == "exact" else [2 * PROBE, 3 * PROBE]
    assert found.backward_passes - PGD_01.steps * N - PROBE in tried
    # Of images that withstand, both models are asked what they answer.
    withstand = (content["predictions"] == content["labels"]).sum()
    asked = N + (withstand if mode == "fast" else 0)
    assert withstand > 0
    assert found.forward_passes == found.backward_passes + ASKED + asked
    assert found.seconds > 0


# Makes parts of eight, one after the other, and hangs after the third one.
PROGRAM = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
import torch
from robustbench_pcl import PGD, Workspace
from robustbench_pcl.attacks import target
from robustbench_pcl.evaluation import generate
from robustbench_pcl.progress import Progress
from robustbench_pcl.recipe import Recipe

home, marker = Path(sys.argv[1]), Path(sys.argv[2])
generate.PART = target.BATCH["cpu"] = 8
torch.set_num_threads(1)

class Hang(Progress):
    @contextmanager
    def task(self, title, total):
        seen = 0
        def advance(done, note):
            nonlocal seen
            seen += done
            if seen == 24:
                marker.touch()
                time.sleep(600)
        yield advance

workspace = Workspace(home, device="cpu", progress=Hang())
recipe = Recipe.model_validate_json(sys.argv[3])
workspace.adversarial_set(recipe, PGD(eps=0.1), images=40)
"""


def test_a_killed_run_loses_no_part_and_changes_no_bit(
    *, tiny_workspace, tiny_home, tiny, tmp_path, killed, begun, monkeypatch
):
    monkeypatch.setattr(generate, "PART", 8)
    monkeypatch.setitem(target.BATCH, "cpu", 8)
    home, marker = tiny_workspace.paths.root, tmp_path / "marker"
    killed(PROGRAM, marker, str(home), str(marker), tiny().model_dump_json())
    sets = tiny_workspace.paths.adversarial_sets
    (parts,) = sets.glob("*.parts")
    kept = [part.indices.tolist() for part in load_parts(sets, parts.stem)]
    assert kept == [[*range(start, start + 8)] for start in (0, 8, 16)]
    assert not list(sets.glob("*.h5"))

    resumed = tiny_workspace.adversarial_set(tiny(), PGD_01, images=N)
    assert begun == [[*range(24, N)]]
    assert list(sets.iterdir()) == [resumed.path]

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tiny_home / "checkpoints", elsewhere / "checkpoints")
    whole = Workspace(elsewhere, device="cpu").adversarial_set(tiny(), PGD_01, images=N)
    assert begun[1:] == [[*range(N)]]
    assert resumed.spec == whole.spec
    assert resumed.summary.images_digest == whole.summary.images_digest
    again = resumed.summary.forward_passes - whole.summary.forward_passes
    # In each run, the model is tried once, and then its fast copy.
    assert again - ASKED - PROBE in (2 * 8, 3 * 8)
    for name, array in stored(whole).items():
        np.testing.assert_array_equal(stored(resumed)[name], array, strict=True)


class Stop(Progress):
    """Interrupts a run after 24 images, as Ctrl-C does."""

    @contextmanager
    def task(self, title, total):
        done = []

        def advance(count, note):
            done.append(count)
            if sum(done) == 24:
                raise KeyboardInterrupt

        yield advance


def test_an_interrupted_run_keeps_images_of_no_whole_part(tiny_workspace, tiny, begun, monkeypatch):
    monkeypatch.setitem(target.BATCH, "cpu", 8)
    usual, tiny_workspace.progress = tiny_workspace.progress, Stop()
    with pytest.raises(KeyboardInterrupt) as raised:
        tiny_workspace.adversarial_set(tiny(), PGD_01, images=N)
    (note,) = raised.value.__notes__
    assert note == "of PGD, eps 0.1 on softmax the images that are done are kept"
    tiny_workspace.progress = usual
    whole = tiny_workspace.adversarial_set(tiny(), PGD_01, images=N)
    assert begun == [[*range(N)], [*range(24, N)]]
    whole.verify()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["fast", "early-stop"])
def test_no_result_depends_on_the_size_of_parts_and_batches(
    *, tiny, tiny_home, tmp_path, monkeypatch, begun, mode, precision
):
    """An image that needs all steps does not keep later ones waiting, and loses nothing."""
    allowed = Shortcuts(folded=True, precision=precision)
    monkeypatch.setattr(generate, "shortcuts_for", lambda device: allowed)
    found = []
    for part, batch in ((256, 128), (7, 128), (16, 5)):
        monkeypatch.setattr(generate, "PART", part)
        monkeypatch.setitem(target.BATCH, "cpu", batch)
        home = tmp_path / f"{part}"
        shutil.copytree(tiny_home / "checkpoints", home / "checkpoints")
        workspace = Workspace(home, device="cpu")
        begun.clear()
        found.append(workspace.adversarial_set(tiny(), PGD_01, images=N, mode=mode))
        (taken,) = begun
        assert taken == sorted(taken)
        assert mode == "early-stop" or taken == [*range(N)]
    assert len({one.spec.id for one in found}) == 1
    first, *others = map(stored, found)
    for other in others:
        for name in ("indices", "labels", "predictions"):
            np.testing.assert_array_equal(other[name], first[name])
        # A processor may sum a batch of five in another order than one of 128.
        differ = np.abs(other["images"] - first["images"]) > 1e-5
        if mode == "early-stop" and precision == "bfloat16":  # then one may leave a step later
            assert differ.any(axis=(1, 2, 3)).mean() <= 0.05
        else:
            assert differ.mean() < 2e-3


@pytest.mark.parametrize("mode", ["fast", "early-stop"])
def test_parts_that_are_damaged_or_missing_are_made_again(
    tiny_workspace, tiny, begun, monkeypatch, mode
):
    monkeypatch.setattr(generate, "PART", 10)
    monkeypatch.setitem(target.BATCH, "cpu", 10)
    with monkeypatch.context() as patch:
        patch.setattr(generate, "finish_set", lambda *_: None)
        tiny_workspace.adversarial_set(tiny(), FGSM(eps=EPS), images=N, mode=mode)
    sets = tiny_workspace.paths.adversarial_sets
    first, damaged, *_, last = sorted(sets.glob("*/part-*.h5"))
    lost = [load_parts(sets, first.parent.stem)[place].indices for place in (1, -1)]
    damaged.write_bytes(damaged.read_bytes()[:500])
    last.unlink()
    found = tiny_workspace.adversarial_set(tiny(), FGSM(eps=EPS), images=N, mode=mode)
    assert len(begun) == 2
    assert begun[1] == sorted(np.concatenate(lost).tolist())
    content = stored(found)
    expected = classes(tiny_workspace.model(tiny()), content["images"])
    np.testing.assert_array_equal(content["predictions"], expected)


def test_seed_count_and_parameters_make_other_sets(tiny_workspace, tiny):
    def made(attack=PGD_01, **options):
        return tiny_workspace.adversarial_set(tiny(), attack, **{"images": N, **options})

    base, seeded, few = made(), made(seed=1), made(images=10)
    others = [base, seeded, few, made(PGD(eps=0.2)), made(PGD(eps=EPS, steps=3))]
    assert len({one.spec.id for one in others}) == len(others)
    assert not np.array_equal(stored(base)["images"], stored(seeded)["images"])
    # The first ones, with the same random starts.
    assert (np.abs(stored(few)["images"] - stored(base)["images"][:10]) > 1e-6).mean() < 1e-3


def test_numbers_are_typed_so_that_10_and_10_0_are_one_set(tiny_workspace, tiny, begun):
    for c in (10, 10.0, "10"):
        tiny_workspace.adversarial_set(tiny(), CW.complete({"c": c, "steps": 5}), images=8)
    assert len(begun) == 1


def test_the_models_weights_are_left_alone(tiny_workspace, tiny):
    model = tiny_workspace.model(tiny())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tiny_workspace.adversarial_set(tiny(), PGD_01, images=N)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_folder_that_cannot_be_written_is_noticed_before_any_work(tiny_workspace, tiny, begun):
    Path(tiny_workspace.paths.root / "results").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        tiny_workspace.adversarial_set(tiny(), PGD_01, images=N)
    assert begun == []


@pytest.mark.parametrize("mode", ["fast", "early-stop"])
def test_progress_counts_every_image(tiny_workspace, tiny, mode):
    seen = []

    class Noted(Progress):
        def task(self, title, total):
            seen.append((title, total))
            return nullcontext(lambda done, note: seen.append(done))

    tiny_workspace.progress = Noted()
    tiny_workspace.adversarial_set(tiny(), PGD_01, images=N, mode=mode)
    assert seen[0] == ("PGD, eps 0.1 on softmax", N)
    assert sum(seen[1:]) == N


@pytest.mark.parametrize("mode", ["exact", "fast", "early-stop"])
def test_nothing_is_stored_of_a_model_that_cannot_be_judged(
    tiny_workspace, tiny, mode, begun, monkeypatch
):
    """One that answers at random: in early stop, its clean images are not classified either."""
    model = tiny_workspace.model(tiny())
    model.classifier.layers[0].register_forward_hook(
        lambda _module, _given, found: found + torch.rand_like(found)
    )
    monkeypatch.setattr(type(tiny_workspace), "model", lambda *_: model)
    with pytest.raises(InvalidInputError, match="The model is randomised"):
        tiny_workspace.adversarial_set(tiny(), PGD_01, images=N, mode=mode)
    assert begun == []
    assert not list(tiny_workspace.paths.adversarial_sets.glob("*"))


@pytest.mark.parametrize("mode", ["exact", "fast", "early-stop"])
def test_images_without_a_gradient_do_not_withstand_without_a_word(
    tiny_workspace, tiny, mode, monkeypatch
):
    """The gradient is 0 times infinity in the brighter half of the images."""
    model, said = tiny_workspace.model(tiny()), []
    middle = clean_images(tiny_workspace, N).flatten(1).mean(dim=1).median()

    def without_slope(_module, given, logits):
        brightness = given[0].flatten(1).mean(dim=1)
        ones = torch.where(brightness > middle, 0 * brightness, 1).sqrt()
        return logits + (ones - ones.detach())[:, None]

    class Said(Progress):
        def say(self, message):
            said.append(message)

    model.register_forward_hook(without_slope)
    monkeypatch.setattr(type(tiny_workspace), "model", lambda *_: model)
    tiny_workspace.progress = Said()
    found = tiny_workspace.adversarial_set(tiny(), FGSM(eps=EPS), images=N, mode=mode)
    bright = (clean_images(tiny_workspace, N).flatten(1).mean(dim=1) > middle).numpy()
    withstood = int((found.source_verdicts() & bright).sum())
    assert withstood > 0
    (blind,) = [words for words in said if "withstood" in words]
    assert blind.startswith(f"{withstood} of {N} images withstood only because their gradient")


class Thrown(FGSM):
    """An attack that throws images out of its budget."""

    def step(self, target, state):
        after, found = super().step(target, state)
        return replace(after, adversarial=(after.adversarial + 0.5).clamp(0, 1)), found


def test_nothing_is_stored_of_an_attack_that_leaves_its_budget(tiny_workspace, tiny):
    with pytest.raises(InvalidInputError, match=r"changed a pixel by 0\..*nothing was stored"):
        tiny_workspace.adversarial_set(tiny(), Thrown(eps=EPS), images=N)
    assert not list(tiny_workspace.paths.adversarial_sets.glob("**/*.h5"))
