"""Embeddings: what is written comes back, and a damaged file is named and not believed."""

import numpy as np
import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.view import View
from robustbench_pcl.store.embeddings import (
    EmbeddingSpec,
    Layout,
    find_embedding,
    load_embeddings,
    open_embedding,
    save_embedding,
)
from robustbench_pcl.store.home import environment, now
from robustbench_pcl.store.records import DataRecord, ModelRecord
from robustbench_pcl.store.tensors import load_description, save_arrays

HERE = environment("2.6.0", "a processor", 1)
PGD = Part(name="pgd", parameters={"eps": 0.1, "steps": 10})


@pytest.fixture
def spec(tiny):
    return EmbeddingSpec(
        model=ModelRecord(checkpoint="aaaaaaaaaaaa", weights="bbbbbbbbbbbb", recipe=tiny("ours")),
        view=View(layer=5, method="tsne"),
        data=DataRecord(dataset="digits", digest="dddddddddddd", source="scikit-learn"),
        adversarial_set=None,
        classes=tuple(range(10)),
        n=40,
        seed=0,
    )


def layout(**more):
    random = np.random.default_rng(0)
    return Layout(
        points=random.normal(size=(40, 2)).astype(np.float32),
        labels=random.integers(0, 10, 40),
        predictions=random.integers(0, 10, 40),
        **more,
    )


@pytest.fixture
def stored(tmp_path, spec):
    return save_embedding(tmp_path, spec, layout(), HERE, now())


@pytest.mark.parametrize(
    "more",
    [{}, {"anchors": np.ones((10, 2), np.float32), "head": np.ones((10, 3), np.float32)}],
    ids=["points alone", "with anchors and head"],
)
def test_round_trip(tmp_path, spec, more):
    wanted = layout(**more)
    save_embedding(tmp_path, spec, wanted, HERE, now())
    found = find_embedding(tmp_path, spec.id)
    assert found.spec == spec
    assert found.record.environment == HERE
    assert load_embeddings(tmp_path) == [found]
    given = found.layout()
    assert given.arrays().keys() == wanted.arrays().keys()
    for name, array in wanted.arrays().items():
        assert getattr(given, name).dtype == array.dtype
        np.testing.assert_array_equal(getattr(given, name), array)


def test_nothing_is_stored_yet(tmp_path, spec):
    assert find_embedding(tmp_path, spec.id) is None
    assert load_embeddings(tmp_path / "nowhere") == []


def test_accuracy_and_anchors():
    points, labels = np.zeros((4, 2), np.float32), np.array([0, 1, 2, 3])
    bare = Layout(points, labels, np.array([0, 1, 0, 0]))
    assert bare.accuracy == 0.5
    assert bare.with_anchors([0]) is points
    anchored = Layout(points, labels, labels, np.arange(8, dtype=np.float32).reshape(4, 2))
    np.testing.assert_array_equal(anchored.with_anchors([1, 3])[4:], [[2, 3], [6, 7]])


def test_what_it_is_made_from_decides_the_id_and_names_do_not(spec):
    def changed(**changes):
        return spec.model_copy(update=changes).id

    def viewed(**changes):
        return changed(view=spec.view.model_copy(update=changes))

    def modelled(**changes):
        return changed(model=spec.model.model_copy(update=changes))

    recipe = spec.model.recipe
    others = [
        modelled(weights="eeeeeeeeeeee"),
        modelled(recipe=recipe.model_copy(update={"inference": "nearest"})),
        viewed(layer=4),
        viewed(method="features"),
        viewed(epoch=3),
        viewed(epoch=4),
        changed(data=spec.data.model_copy(update={"digest": "eeeeeeeeeeee"})),
        changed(adversarial_set="ffffffffffff"),
        changed(classes=(0, 1)),
        changed(n=39),
        changed(seed=1),
    ]
    assert len({spec.id, *others}) == len(others) + 1
    renamed = modelled(recipe=recipe.model_copy(update={"name": "mine", "scale": "quick"}))
    assert renamed == spec.id
    # Before the end of a training there are no stored weights: the checkpoint's id stands for them.
    started = spec.model_copy(update={"view": View(layer=5, epoch=3)})
    later = started.model.model_copy(update={"weights": ""})
    assert started.model_copy(update={"model": later}).id == started.id
    other = started.model.model_copy(update={"checkpoint": "eeeeeeeeeeee"})
    assert started.model_copy(update={"model": other}).id != started.id


def test_a_model_is_attacked_when_it_is_trained():
    with pytest.raises(ValueError, match="attacked when it is trained"):
        View(layer=5, attack=PGD, epoch=3)


def test_the_oldest_comes_first(tmp_path, spec):
    for seed, created in enumerate(("2025-03-01", "2025-01-01", "2025-02-01")):
        one = spec.model_copy(update={"seed": seed})
        save_embedding(tmp_path, one, layout(), HERE, f"{created}T00:00:00+00:00")
    assert [found.spec.seed for found in load_embeddings(tmp_path)] == [1, 2, 0]


def test_half_written_files_are_not_seen(tmp_path, stored):
    (tmp_path / f".{stored.path.name}.abc.tmp").write_bytes(b"\x00")
    (tmp_path / f".{stored.path.name}").write_bytes(b"\x00")
    assert load_embeddings(tmp_path) == [stored]


def assert_refused(read, path, *words):
    with pytest.raises(UserError) as raised:
        read()
    assert str(path) in raised.value.cause
    assert "\n" not in str(raised.value)
    assert "ove it away" in raised.value.cure or "Download" in raised.value.cure
    for word in words:
        assert word in str(raised.value)


def test_a_truncated_file_of_any_length(tmp_path, stored):
    content = stored.path.read_bytes()
    for length in {*range(0, len(content), 61), len(content) - 1}:
        stored.path.write_bytes(content[:length])
        assert_refused(lambda: load_embeddings(tmp_path), stored.path)
        assert_refused(stored.layout, stored.path)


def test_one_flipped_bit_of_the_points(stored):
    content = bytearray(stored.path.read_bytes())
    content[-5] ^= 1
    stored.path.write_bytes(content)
    found = open_embedding(stored.path)
    assert_refused(found.layout, stored.path, "not the ones that its header names")


def test_another_kind_of_file(tmp_path, stored):
    description = load_description(stored.path)
    arrays = layout().arrays()
    for changes in ({"surprise": 1}, {"spec": {}}, {"created": None}):
        save_arrays(stored.path, arrays, {**description, **changes})
        name = next(iter(changes))
        assert_refused(lambda: load_embeddings(tmp_path), stored.path, "is not a whole", name)
    save_arrays(stored.path, arrays, {"history": []})
    assert_refused(lambda: find_embedding(tmp_path, stored.spec.id), stored.path)
    stored.path.write_bytes(b"<!DOCTYPE html>")
    assert_refused(lambda: load_embeddings(tmp_path), stored.path, "a web page")
