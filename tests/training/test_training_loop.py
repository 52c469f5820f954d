"""Training: what is found, what is recorded, what is said, and what is refused."""

import itertools
import statistics

import numpy as np
import pytest
import torch

from robustbench_pcl.errors import UserError
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.progress import Progress
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.recipe import Schedule
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.measurements import load_trainings
from robustbench_pcl.store.tensors import save_arrays
from robustbench_pcl.training import loop
from robustbench_pcl.training.assemble import arrays_of, build_model, pick_device
from robustbench_pcl.training.loop import Run
from robustbench_pcl.training.optimisers import learning_rate, optimisers
from robustbench_pcl.training.runaways import runaways
from robustbench_pcl.training.update import Totals, Update


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, device="cpu")


@pytest.fixture
def read_only(tiny_home, monkeypatch):
    """A bench on the trained models that must not train."""

    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(Run, "execute", refuse)
    return Bench(tiny_home, device="cpu")


def test_finished_training_is_found(tiny, read_only):
    for name in ("softmax", "ours", "ours-pgd"):
        found = read_only.train(tiny(name))
        assert found.record.recipe == tiny(name)
        assert found == read_only.checkpoint(tiny(name))
    with pytest.raises(AssertionError, match="trained again"):
        read_only.train(tiny("softmax", seed=1))


def test_what_two_recipes_start_from_is_trained_once(tiny_home):
    found = sorted(path.name for path in (tiny_home / "checkpoints").glob("*.safetensors"))
    assert [name.rpartition("-demo-")[0] for name in found] == [
        "digits-ours",
        "digits-ours-pgd",
        "digits-softmax",
    ]
    assert list((tiny_home / "checkpoints" / "partial").iterdir()) == []


def test_a_record_is_kept_of_every_training(tiny, read_only):
    records = {record.recipe.name: record for record in load_trainings(read_only.home.results)}
    assert records.keys() == {"softmax", "ours", "ours-pgd"}
    for name, record in records.items():
        checkpoint = read_only.checkpoint(tiny(name))
        assert record.checkpoint == checkpoint.record.checkpoint
        assert record.weights == checkpoint.record.weights
        assert record.recipe == tiny(name)
        assert record.data.digest == read_only.dataset("digits").train.digest
        assert [entry["epoch"] for entry in record.history] == [1, 2, 3, 4]
        seconds = [entry["seconds"] for entry in record.history]
        assert record.seconds_per_epoch == statistics.median(seconds) > 0
        terms = {"cross_entropy"} if name == "softmax" else {"cross_entropy", "pcl"}
        for entry in record.history:
            assert entry["loss"] == pytest.approx(sum(entry[term] for term in terms), rel=1e-5)
            assert 0 <= entry["training_accuracy"] <= 1
            assert entry["gradient_norm"] > 0
        assert record.environment.device


def test_training_learns(read_only, tiny):
    (record,) = (
        record for record in load_trainings(read_only.home.results) if record.recipe.name == "ours"
    )
    first, last = record.history[0], record.history[-1]
    assert last["loss"] < first["loss"]
    assert last["training_accuracy"] > 0.5  # chance is 0.1
    initial = build_model(tiny("ours")).state_dict()
    trained = read_only.checkpoint(tiny("ours")).arrays()
    assert (trained["criterion.losses.3.prototypes"] != 0).any()
    assert trained["criterion.losses.3.scale"] != 1
    assert (trained["classifier.head.weight"] != initial["classifier.head.weight"].numpy()).any()


def test_the_recipe_decides_the_weights(tiny, tmp_path):
    quick = tiny("softmax", schedule=Schedule(epochs=1, batch_size=64, learning_rate=0.05))
    seeded = quick.model_copy(update={"seed": 1})
    torch.manual_seed(7)  # the process's own random state must not matter
    one = Bench(tmp_path / "one", device="cpu").train(quick)
    torch.manual_seed(8)
    two = Bench(tmp_path / "two", device="cpu").train(quick)
    other = Bench(tmp_path / "two", device="cpu").train(seeded)
    assert one.record == two.record
    assert other.record.weights != two.record.weights
    assert other.record.checkpoint != two.record.checkpoint


def test_a_warm_start_keeps_the_weights(tiny, tiny_home, tmp_path):
    """With a learning rate that changes no bit, the end is the start."""
    still = Schedule(epochs=1, batch_size=64, learning_rate=1e-30, prototype_learning_rate=1e-30)
    bench = Bench(tiny_home, device="cpu")
    start = bench.model(tiny("softmax"))
    run = Run(
        tiny("ours", schedule=still),
        bench.dataset("digits"),
        torch.device("cpu"),
        tmp_path / "partial",
        Progress(),
    )
    model = run.execute(start).model
    for name, value in start.classifier.state_dict().items():
        assert torch.equal(model.classifier.state_dict()[name], value), name
    fresh = run.execute(None).model
    assert not torch.equal(fresh.classifier.head.weight, start.classifier.head.weight)
    # The prototypes start at the class means of the warm model's features.
    images = torch.from_numpy(np.array(bench.dataset("digits").train.images[:256])) / 255
    labels = torch.from_numpy(np.array(bench.dataset("digits").train.labels[:256]))
    with torch.no_grad():
        _, features = model.eval().classifier.features(images)
    criterion = model.criterion.losses["4"]
    mean = features[4][labels == 3].mean(dim=0)
    torch.testing.assert_close(criterion.prototypes[3] * criterion.scale, mean)


def test_the_learning_rate_decays_at_the_milestones():
    schedule = Schedule(epochs=300, learning_rate=0.1, milestones=(200, 250), decay=0.1)
    rates = [learning_rate(schedule, epoch) for epoch in (0, 199, 200, 249, 250, 299)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_the_learning_rate_reaches_the_optimiser(tiny, bench, monkeypatch):
    used, step = [], Update.__call__

    def spy(update, state, *arguments):
        used.append({group["lr"] for group in state.momentum.param_groups})
        used[-1] |= {("prototypes", group["lr"]) for group in state.prototypes.param_groups}
        return step(update, state, *arguments)

    schedule = Schedule(epochs=3, batch_size=256, learning_rate=0.05, milestones=(1, 2), decay=0.5)
    monkeypatch.setattr(Update, "__call__", spy)
    bench.train(tiny("ours", start=None, schedule=schedule))
    assert used == [{rate, ("prototypes", 0.5)} for rate in (0.05, 0.025, 0.0125)]


def test_weights_decay_and_prototypes_do_not(tiny):
    model = build_model(tiny("ours"))
    schedule = Schedule(epochs=1, weight_decay=0.01, momentum=0.8)
    classifier, prototypes = optimisers(model, schedule)
    decays = {
        id(value): group["weight_decay"]
        for group in classifier.param_groups
        for value in group["params"]
    }
    for value in model.classifier.parameters():
        assert decays.pop(id(value)) == (0.01 if value.ndim >= 2 else 0)
    assert not decays
    assert {group["momentum"] for group in classifier.param_groups} == {0.8}
    own = [value for group in prototypes.param_groups for value in group["params"]]
    assert {id(value) for value in own} == {id(v) for v in model.criterion.parameters()}
    assert all(not group["weight_decay"] for group in prototypes.param_groups)
    assert optimisers(build_model(tiny("softmax")), schedule)[1] is None


def entry(**terms):
    return {"epoch": 1, "seconds": 1.0, "training_accuracy": 0.5, "gradient_norm": 900.0} | terms


def test_a_run_that_gets_away_is_noticed():
    history = [entry(cross_entropy=2.3, pcl=-1.0, loss=1.3), entry(cross_entropy=0.4, pcl=-1.5)]
    assert runaways(entry(cross_entropy=90.0, pcl=-99.0), []) == []
    assert runaways(entry(cross_entropy=1.2, pcl=-1.9, loss=-500.0), history) == []
    (words,) = runaways(entry(cross_entropy=1.4, pcl=-1.9), history)
    assert words.startswith("cross-entropy rose from 0.40 to 1.40")
    (words,) = runaways(entry(cross_entropy=0.4, pcl=-21.0), history)
    assert words == "pcl went from -1.00 to -21.00 and may run away"
    assert len(runaways(entry(cross_entropy=9.0, pcl=50.0), history)) == 2


def test_warnings_are_said_and_recorded(tiny, tmp_path, monkeypatch):
    said = []

    class Listener(Progress):
        def say(self, message):
            said.append(message)

    monkeypatch.setattr(loop, "runaways", lambda entry, history: ["mind this"] * len(history))
    bench = Bench(tmp_path, device="cpu", progress=Listener())
    bench.train(tiny("softmax", schedule=Schedule(epochs=2, batch_size=128)))
    assert said == ["train softmax on digits, epoch 2: mind this"]
    (record,) = load_trainings(bench.home.results)
    assert [entry["warnings"] for entry in record.history] == [[], ["mind this"]]


@pytest.mark.parametrize("last_batch_only", [False, True])
def test_an_infinite_loss_is_refused(tiny, bench, monkeypatch, last_batch_only):
    if last_batch_only:  # as on an accelerator, where only the epoch's mean is looked at
        monkeypatch.setattr(Totals, "last_loss", lambda total: 0.0)
    schedule = Schedule(epochs=3, batch_size=64, learning_rate=1e30, gradient_clip=None)
    with pytest.raises(UserError, match="became infinite in epoch 1") as raised:
        bench.train(tiny("softmax", schedule=schedule))
    assert "--learning-rate 1e+29" in raised.value.cure
    assert list(bench.home.checkpoints.glob("*.safetensors")) == []
    assert load_trainings(bench.home.results) == []


def partial_of(bench, recipe):
    identity = recipe.id(bench.dataset("digits").train.digest)
    return bench.home.partial / f"{identity}.safetensors"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path, arrays: write_bytes(path, b"<html>"), "a web page"),
        (lambda path, arrays: write_bytes(path, b""), "truncated or damaged"),
        (lambda path, arrays: save_arrays(path, {}, {"history": []}), "another model's weights"),
        (lambda path, arrays: save_arrays(path, arrays, {}), "not the state of an interrupted"),
    ],
)
def test_a_damaged_state_is_refused(tiny, bench, tiny_home, damage, words):
    recipe = tiny("softmax")
    arrays = Bench(tiny_home, device="cpu").checkpoint(recipe).arrays()
    path = partial_of(bench, recipe)
    damage(path, {f"model.{name}": array for name, array in arrays.items()})
    with pytest.raises(UserError, match=words) as raised:
        bench.train(recipe)
    assert str(path) in raised.value.cause


def test_a_home_that_cannot_be_written_is_noticed_before_training(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    trained = []
    monkeypatch.setattr(Run, "execute", lambda *arguments: trained.append(arguments))
    with pytest.raises(UserError, match="is a file, not a folder"):
        Bench(tmp_path / "file", device="cpu").train(tiny("softmax"))
    assert trained == []


@pytest.mark.parametrize("name", ["banana", "cuda:99", "meta"])
def test_no_such_device(name):
    with pytest.raises(UserError, match=f"There is no device '{name}' here") as raised:
        pick_device(name)
    assert "\n" not in raised.value.cause


def test_the_device_is_chosen():
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


# What a training does beside its steps


class Listening:
    """A bench whose trainings say what they are looked at with."""

    def __init__(self, bench, recipe, path):
        self.heard = []
        dataset = bench.dataset("digits")
        self.run = Run(recipe, dataset, torch.device("cpu"), path, Progress(), self.hear)

    def hear(self, model, epochs):
        assert not any(module.training for module in model.modules())
        self.heard.append((epochs, model.classifier.head.weight.detach().clone()))


def test_after_each_epoch_the_model_is_shown(tiny, bench, tmp_path):
    recipe = tiny("softmax", schedule=Schedule(epochs=3, batch_size=128))
    listening = Listening(bench, recipe, tmp_path / "partial")
    listening.run.execute(None)
    assert [epochs for epochs, _ in listening.heard] == [0, 1, 2, 3]
    weights = [weight for _, weight in listening.heard]
    assert all(not torch.equal(*pair) for pair in itertools.pairwise(weights))


def test_being_looked_at_changes_nothing(tiny, bench, tmp_path):
    recipe = tiny("softmax", schedule=Schedule(epochs=2, batch_size=128))
    listening = Listening(bench, recipe, tmp_path / "partial")
    shown = arrays_of(listening.run.execute(None).model)
    for name, value in bench.train(recipe).arrays().items():
        assert (shown[name] == value).all(), name


@pytest.mark.parametrize("loss", ["contrastive", "triplet"])
def test_without_a_final_layer_the_class_means_of_all_training_images_decide(tiny, bench, loss):
    recipe = tiny(
        loss,
        loss=Part(name=loss),
        taps=(3, 5),
        start=None,
        inference="nearest",
        schedule=Schedule(epochs=3, batch_size=64),
    )
    model = bench.model(recipe)
    assert isinstance(model.classifier.head, torch.nn.Identity)
    train = bench.dataset("digits").train
    images = torch.from_numpy(np.array(train.images[: recipe.train_images])) / 255
    labels = torch.from_numpy(np.array(train.labels[: recipe.train_images]))
    with torch.no_grad():
        features = model.classifier.features(images)[1][5]
        answers = model(images).argmax(dim=1)
    means = torch.stack([features[labels == label].mean(dim=0) for label in range(10)])
    torch.testing.assert_close(model.criterion.losses["5"].anchors(), means, rtol=1e-4, atol=1e-5)
    nearest = torch.cdist(features.double(), means.double()).argmin(dim=1)
    assert (answers == nearest).float().mean() > 0.99  # but for ties in the last bits
    assert (answers == labels).float().mean() > 0.5  # chance is 0.1
    (record,) = load_trainings(bench.home.results)
    assert {loss} <= record.history[0].keys()
    assert "cross_entropy" not in record.history[0]


def test_an_ensemble_is_trained_and_restored(tiny, bench):
    schedule = Schedule(epochs=1, batch_size=64)
    recipe = tiny("softmax", defense=Part(name="adp"), members=3, schedule=schedule)
    model = bench.model(recipe)
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.classifier.member_logits(images)
        assert logits.shape == (3, 4, 10)
        assert not torch.allclose(logits[0], logits[1])
        torch.testing.assert_close(model(images).exp(), logits.softmax(dim=2).mean(dim=0))
    assert bench.checkpoint(recipe).record.recipe.members == 3


def test_an_ensemble_has_no_layers_to_supervise(tiny):
    with pytest.raises(UserError, match="is an ensemble"):
        build_model(tiny("ours", defense=Part(name="adp"), members=3))


def test_how_a_class_is_decided_takes_no_training(tiny, read_only):
    softmax, nearest = (tiny("ours", inference=rule) for rule in ("softmax", "nearest"))
    records = [read_only.train(recipe).record for recipe in (softmax, nearest)]
    assert records[0].weights == records[1].weights
    assert records[0].key != records[1].key
    assert [record.recipe.inference for record in records] == ["softmax", "nearest"]
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = [read_only.model(recipe)(images) for recipe in (softmax, nearest)]
    assert not torch.allclose(*logits)


@pytest.mark.parametrize("first", ["softmax", "nearest"])
def test_training_goes_by_the_loss_s_own_rule(tiny, tmp_path, first):
    """Training attacks go by the rule that decides a class, and the id does not know the rule."""
    schedule = Schedule(epochs=1, batch_size=128)
    recipe = tiny("ours-pgd", schedule=schedule, start=None)
    bench = Bench(tmp_path, device="cpu")
    nearest = recipe.model_copy(update={"name": "ours-pgd-nearest", "inference": "nearest"})
    asked = recipe if first == "softmax" else nearest
    found = bench.train(asked)
    assert found.record.recipe == asked
    assert found.record.weights == Bench(tmp_path / "x", device="cpu").train(recipe).record.weights
    (record,) = load_trainings(bench.home.results)
    assert record.recipe == recipe


def test_a_training_s_record_is_there_before_its_checkpoint(tiny, bench, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    recipe = tiny("softmax", schedule=Schedule(epochs=1, batch_size=256))
    with monkeypatch.context() as patch:
        patch.setattr("robustbench_pcl.jobs.bench.save_checkpoint", die)
        with pytest.raises(KeyboardInterrupt):
            bench.train(recipe)
    assert bench.checkpoint(recipe) is None
    bench.train(recipe)
    assert {record.checkpoint for record in load_trainings(bench.home.results)} == {
        bench.checkpoint(recipe).record.checkpoint
    }
