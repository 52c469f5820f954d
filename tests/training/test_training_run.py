"""Training runs: what is learned, recorded, said and refused."""

import itertools

import pytest
import torch

from robustbench_pcl.data.batches import pixels
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import Schedule
from robustbench_pcl.training import trainer
from robustbench_pcl.training.build import arrays_of, build_model, restore
from robustbench_pcl.training.step import Totals, learning_rate, optimisers, runaways


def first_images(digits, count):
    images = torch.from_numpy(digits.train.images[:count].copy())
    return pixels(images), torch.from_numpy(digits.train.labels[:count].copy())


@pytest.mark.parametrize("name", ["softmax", "ours", "ours-pgd"])
def test_a_model_learns_and_each_epoch_is_recorded(run, tiny, trained, name):
    recipe = tiny(name)
    state = run(recipe).execute(restore(trained("softmax")) if recipe.start else None)
    terms = {"cross_entropy"} if name == "softmax" else {"cross_entropy", "pcl"}
    assert [entry["epoch"] for entry in state.history] == [1, 2, 3, 4]
    for entry in state.history:
        assert entry["loss"] == pytest.approx(sum(entry[term] for term in terms), rel=1e-5)
        assert 0 <= entry["training_accuracy"] <= 1
        assert min(entry["gradient_norm"], entry["seconds"]) > 0
        assert entry["warnings"] == []
    first, last = state.history[0], state.history[-1]
    assert last["loss"] < first["loss"]
    assert last["training_accuracy"] > 0.5  # chance is 0.1


def test_the_recipe_decides_the_weights_and_nothing_else(run, tiny):
    quick = tiny(schedule=Schedule(epochs=1, batch_size=64, learning_rate=0.05))
    found = []
    for recipe, process_seed in ((quick, 7), (quick, 8), (quick.changed(seed=1), 7)):
        torch.manual_seed(process_seed)
        found.append(run(recipe).execute().model.classifier.head.weight)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_start_gives_the_weights_and_where_the_prototypes_start(run, tiny, trained, digits):
    """With a learning rate that changes no bit, the end is the start."""
    still = Schedule(epochs=1, batch_size=64, learning_rate=1e-30, prototype_learning_rate=1e-30)
    start = restore(trained("softmax"))
    model = run(tiny("ours", schedule=still)).execute(start).model
    for name, value in start.classifier.state_dict().items():
        assert torch.equal(model.classifier.state_dict()[name], value), name
    fresh = run(tiny("ours", schedule=still)).execute().model
    assert not torch.equal(fresh.classifier.head.weight, start.classifier.head.weight)
    images, labels = first_images(digits, 256)
    with torch.no_grad():
        _, features = model.classifier.features(images)
    mean = features[4][labels == 3].mean(dim=0)
    torch.testing.assert_close(model.criterion.losses["4"].anchors()[3], mean)


def test_a_training_that_goes_on_keeps_its_prototypes(run, tiny, trained):
    """They stay where they were, though the features' means are elsewhere by now."""
    still = Schedule(epochs=1, batch_size=64, learning_rate=1e-30, prototype_learning_rate=1e-30)
    start = restore(trained("ours"))
    longer = tiny("ours", schedule=still, start=tiny("ours"))
    model = run(longer).execute(start).model
    for name, value in start.criterion.state_dict().items():
        assert torch.equal(model.criterion.state_dict()[name], value), name
    other = run(tiny("ours", schedule=still)).execute(start).model
    before, after = (each.criterion.losses["4"].prototypes for each in (model, other))
    assert not torch.equal(before, after)


def test_the_learning_rate_decays_at_the_milestones():
    schedule = Schedule(epochs=300, learning_rate=0.1, milestones=(200, 250), decay=0.1)
    rates = [learning_rate(schedule, epoch) for epoch in (0, 199, 200, 249, 250, 299)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize(("epochs", "rate"), [(1, 0.05), (2, 0.025), (3, 0.0125)])
def test_the_learning_rate_reaches_the_optimiser_and_no_prototype(run, tiny, epochs, rate):
    schedule = {"batch_size": 256, "learning_rate": 0.05, "milestones": (1, 2), "decay": 0.5}
    state = run(tiny("ours", schedule=Schedule(epochs=epochs, **schedule))).execute()
    assert {group["lr"] for group in state.momentum.param_groups} == {rate}
    assert {group["lr"] for group in state.prototypes.param_groups} == {0.5}


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


def test_a_defence_changes_fresh_weights(tiny):
    """Two of each neuron's are left by `ibp`; no other defence changes any."""
    plain = arrays_of(build_model(tiny()))
    for name in set(DEFENSES) - {"adp"}:  # which has three networks
        own = arrays_of(build_model(tiny(defense=DEFENSES[name]().dump())))
        assert (name == "ibp") == any((own[key] != plain[key]).any() for key in plain)
    sparse = build_model(tiny(defense=DEFENSES["ibp"]().dump())).classifier.layers[0][0].weight
    assert set(sparse.flatten(1).count_nonzero(dim=1).tolist()) == {2}


# A loss that runs away


def entry(**terms):
    return {"epoch": 1, "seconds": 1.0, "training_accuracy": 0.5, "gradient_norm": 900.0} | terms


def test_a_loss_that_runs_away_is_noticed():
    history = [entry(cross_entropy=2.3, pcl=-1.0, loss=1.3), entry(cross_entropy=0.4, pcl=-1.5)]
    assert runaways(entry(cross_entropy=90.0, pcl=-99.0), []) == []
    assert runaways(entry(cross_entropy=1.2, pcl=-1.9, loss=-500.0), history) == []
    (words,) = runaways(entry(cross_entropy=1.4, pcl=-1.9), history)
    assert words.startswith("cross-entropy rose from 0.40 to 1.40")
    (words,) = runaways(entry(cross_entropy=0.4, pcl=-21.0), history)
    assert words == "pcl went from -1.00 to -21.00 and may run away"
    assert len(runaways(entry(cross_entropy=9.0, pcl=50.0), history)) == 2


def test_warnings_are_said_and_recorded(run, tiny, monkeypatch):
    monkeypatch.setattr(trainer, "runaways", lambda entry, history: ["mind this"] * len(history))
    made = run(tiny(schedule=Schedule(epochs=2, batch_size=128)))
    history = made.execute().history
    assert made.progress.lines == ["train softmax on digits, epoch 2: mind this"]
    assert [entry["warnings"] for entry in history] == [[], ["mind this"]]


@pytest.mark.parametrize("looked_at", ["after each step", "after the epoch"])
def test_an_infinite_loss_is_refused(run, tiny, monkeypatch, looked_at):
    if looked_at == "after the epoch":  # as on an accelerator
        monkeypatch.setattr(Totals, "last_loss", lambda total: 0.0)
    schedule = Schedule(epochs=3, batch_size=64, learning_rate=1e30, gradient_clip=None)
    with pytest.raises(UserError, match="became infinite in epoch 1") as raised:
        run(tiny(schedule=schedule)).execute()
    assert "--learning-rate 1e+29" in raised.value.cure


# What a run does beside its steps


def test_after_each_epoch_the_model_is_shown_and_that_changes_nothing(run, tiny):
    shown = []

    def look(model, epochs):
        assert not any(module.training for module in model.modules())
        shown.append((epochs, model.classifier.head.weight.detach().clone()))

    recipe = tiny(schedule=Schedule(epochs=3, batch_size=128))
    looked_at = arrays_of(run(recipe, after_epoch=look).execute().model)
    assert [epochs for epochs, _ in shown] == [0, 1, 2, 3]
    assert all(not torch.equal(*pair) for pair in itertools.pairwise(weight for _, weight in shown))
    for name, value in arrays_of(run(recipe).execute().model).items():
        assert (looked_at[name] == value).all(), name


@pytest.mark.parametrize("loss", ["contrastive", "triplet"])
def test_without_a_final_layer_the_class_means_of_all_training_images_decide(
    run, tiny, digits, loss
):
    recipe = tiny(
        "ours",
        loss={"name": loss, "margin": 3.0, "alpha": 0.5, "weight": 1.0},
        feature_layers=(3, 5),
        inference="nearest",
        schedule=Schedule(epochs=3, batch_size=64),
    )
    state = run(recipe).execute()
    images, labels = first_images(digits, recipe.train_images)
    with torch.no_grad():
        features = state.model.classifier.features(images)[1][5]
        answers = state.model(images).argmax(dim=1)
    means = torch.stack([features[labels == label].mean(dim=0) for label in range(10)])
    anchors = state.model.criterion.losses["5"].anchors()
    torch.testing.assert_close(anchors, means, rtol=1e-4, atol=1e-5)
    nearest = torch.cdist(features.double(), means.double()).argmin(dim=1)
    assert (answers == nearest).float().mean() > 0.99  # but for ties in the last bits
    assert (answers == labels).float().mean() > 0.5  # chance is 0.1
    assert {loss} <= state.history[0].keys()
    assert "cross_entropy" not in state.history[0]


@pytest.mark.parametrize(("loss", "passes"), [("pcl", 1), ("contrastive", 2)])
def test_features_of_all_images_are_computed_only_for_a_loss_that_calibrates(
    run, tiny, monkeypatch, loss, passes
):
    counts, features_of = [], trainer.features_of

    def counted(model, split, count):
        counts.append(count)
        return features_of(model, split, count)

    monkeypatch.setattr(trainer, "features_of", counted)
    inference = "nearest" if loss == "contrastive" else "softmax"
    schedule = Schedule(epochs=1, batch_size=128)
    recipe = tiny("ours", loss={"name": loss}, inference=inference, schedule=schedule)
    run(recipe).execute()
    assert counts == [trainer.INITIAL_FEATURES, recipe.train_images][:passes]


@pytest.mark.parametrize("defense", ["adp", "atda"])
def test_an_ensemble_and_a_defence_s_memory_are_trained_and_saved(run, tiny, defense):
    members = 3 if defense == "adp" else 1
    recipe = tiny(
        defense={"name": defense}, members=members, schedule=Schedule(epochs=1, batch_size=64)
    )
    state = run(recipe).execute()
    fresh = arrays_of(build_model(recipe))
    trained = arrays_of(state.model)
    assert fresh.keys() == trained.keys()
    moved = {name for name in fresh if (fresh[name] != trained[name]).any()}
    if defense == "adp":
        assert {f"classifier.members.{number}.head.weight" for number in range(3)} <= moved
    else:
        assert "memory.centres" in moved
