"""Embeddings: what is written comes back, and points that changed are not believed."""

import numpy as np
import pytest
from store_artefacts import EMBEDDING, HERE, PGD, layout

from robustbench_pcl.errors import UserError
from robustbench_pcl.store.checkpoints import load_description, save_arrays
from robustbench_pcl.store.embeddings import (
    Layout,
    View,
    find_embedding,
    load_embeddings,
    open_embedding,
    save_embedding,
)
from robustbench_pcl.store.records import now


@pytest.fixture
def stored(tmp_path):
    return save_embedding(tmp_path, EMBEDDING, layout(), HERE, now())


@pytest.mark.parametrize(
    "more",
    [{}, {"anchors": np.ones((10, 2), np.float32), "head": np.ones((10, 3), np.float32)}],
    ids=["points alone", "with anchors and head"],
)
def test_an_embedding_comes_back(tmp_path, more):
    wanted = layout(**more)
    save_embedding(tmp_path, EMBEDDING, wanted, HERE, now())
    found = find_embedding(tmp_path, EMBEDDING.id)
    assert found.spec == EMBEDDING
    assert found.record.environment == HERE
    assert load_embeddings(tmp_path) == [found]
    given = found.layout()
    assert given.arrays().keys() == wanted.arrays().keys()
    for name, array in wanted.arrays().items():
        assert getattr(given, name).dtype == array.dtype
        np.testing.assert_array_equal(getattr(given, name), array)
    assert find_embedding(tmp_path, "another") is None


def test_accuracy_and_anchors():
    points, labels = np.zeros((4, 2), np.float32), np.array([0, 1, 2, 3])
    bare = Layout(points, labels, np.array([0, 1, 0, 0]))
    assert bare.accuracy == 0.5
    assert bare.with_anchors([0]) is points
    anchored = Layout(points, labels, labels, np.arange(8, dtype=np.float32).reshape(4, 2))
    np.testing.assert_array_equal(anchored.with_anchors([1, 3])[4:], [[2, 3], [6, 7]])


def test_what_it_is_made_from_decides_the_id_and_names_do_not():
    def viewed(**changes):
        return EMBEDDING.changed(view=EMBEDDING.view.changed(**changes))

    def modelled(specification=EMBEDDING, **changes):
        return specification.changed(model=specification.model.changed(**changes))

    recipe, unfinished = EMBEDDING.model.recipe, viewed(epoch=3)
    others = [
        EMBEDDING,
        modelled(weights="eeeeeeeeeeee"),
        modelled(recipe=recipe.changed(inference="nearest")),
        viewed(layer=4),
        viewed(method="features"),
        unfinished,
        viewed(epoch=4),
        modelled(unfinished, checkpoint="eeeeeeeeeeee"),
        EMBEDDING.changed(data=EMBEDDING.data.changed(digest="eeeeeeeeeeee")),
        EMBEDDING.changed(adversarial_set="ffffffffffff"),
        EMBEDDING.changed(classes=(0, 1)),
        EMBEDDING.changed(n=39),
        EMBEDDING.changed(seed=1),
    ]
    assert len({other.id for other in others}) == len(others)
    assert modelled(recipe=recipe.changed(name="mine", scale="quick")).id == EMBEDDING.id
    # Before the end of a training there are no stored weights: the checkpoint's id stands for them.
    assert modelled(unfinished, weights="").id == unfinished.id


def test_a_model_is_attacked_when_it_is_trained():
    with pytest.raises(ValueError, match="attacked when it is trained"):
        View(layer=5, attack=PGD, epoch=3)


def test_the_oldest_comes_first(tmp_path):
    for seed, created in enumerate(("2025-03-01", "2025-01-01", "2025-02-01")):
        one = EMBEDDING.changed(seed=seed)
        save_embedding(tmp_path, one, layout(), HERE, f"{created}T00:00:00+00:00")
    assert [found.spec.seed for found in load_embeddings(tmp_path)] == [1, 2, 0]


def test_one_flipped_bit_of_the_points_is_found(stored):
    content = bytearray(stored.path.read_bytes())
    content[-5] ^= 1
    stored.path.write_bytes(content)
    found = open_embedding(stored.path)
    with pytest.raises(UserError, match="not the ones that its header names"):
        found.layout()


@pytest.mark.parametrize("change", [{"surprise": 1}, {"spec": {}}, {"created": None}])
def test_a_wrong_field_is_named(tmp_path, stored, change):
    description = load_description(stored.path)
    save_arrays(stored.path, layout().arrays(), {**description, **change})
    with pytest.raises(UserError, match=f"is not a whole embedding: {next(iter(change))}"):
        load_embeddings(tmp_path)
