"""Adversarial sets: shards that are never lost, sets that are whole, damage that is found."""

import itertools
from typing import Literal

import h5py
import numpy as np
import pytest
from store_artefacts import HERE, PGD, SET, adversarial_images, clean_images

from robustbench_pcl.configuration import Configuration, Positive
from robustbench_pcl.errors import UserError
from robustbench_pcl.store import adversarial_sets
from robustbench_pcl.store.adversarial_sets import (
    FIELDS,
    SetSpecification,
    Shard,
    find_set,
    finish_set,
    open_set,
    save_shard,
    stored_shards,
)

N = SET.n
CONTENT = adversarial_images()
CLEAN = clean_images()


@pytest.fixture
def save(tmp_path):
    """Save the shards between some positions."""

    def save_between(*positions, precision="float32"):
        for start, stop in itertools.pairwise(positions):
            part = {name: array[start:stop] for name, array in CONTENT.items()}
            cost = {"seconds": 1.5, "forward_passes": 10, "backward_passes": stop - start}
            save_shard(tmp_path, SET.id, Shard(**part, **cost, precision=precision))

    return save_between


@pytest.fixture
def finished(tmp_path, save):
    save(0, 20, 40, N)
    return finish_set(tmp_path, SET, CLEAN, HERE)


def stored(path):
    with h5py.File(path, "r") as file:
        return {name: file[name][:] for name in FIELDS}


def test_a_set_comes_back(tmp_path, finished):
    assert find_set(tmp_path, SET.id) == finished == open_set(finished.path)
    assert finished.spec == SET
    for name, array in stored(finished.path).items():
        np.testing.assert_array_equal(array, CONTENT[name])
        assert array.dtype == (np.float32 if name == "images" else np.int64)
    finished.verify()


def test_the_summary_follows_from_the_images(finished):
    change = (CONTENT["images"] - CLEAN[:N].astype(np.float32) / 255).reshape(N, -1)
    summary = finished.summary
    assert summary.largest_linf == np.abs(change).max()
    assert summary.mean_l2 == pytest.approx(np.linalg.norm(change, axis=1).mean(), rel=1e-6)
    assert (summary.seconds, summary.forward_passes, summary.backward_passes) == (4.5, 30, N)
    assert summary.environment == HERE


def test_only_the_finished_set_stays(tmp_path, finished):
    assert list(tmp_path.iterdir()) == [finished.path]


@pytest.mark.parametrize("size", [1, 7, N, 1000])
def test_batches_cover_the_set_in_order(finished, size):
    images, labels = zip(*finished.batches(size), strict=True)
    assert max(map(len, labels)) == min(size, N)
    np.testing.assert_array_equal(np.concatenate(images), CONTENT["images"])
    np.testing.assert_array_equal(np.concatenate(labels), CONTENT["labels"])


def test_shards_are_found_again(tmp_path, save):
    assert stored_shards(tmp_path, SET.id) == {}
    save(0, 20, 40)
    assert stored_shards(tmp_path, SET.id) == {0: 20, 20: 20}
    assert find_set(tmp_path, SET.id) is None
    assert stored_shards(tmp_path, "another") == {}


def test_a_damaged_shard_counts_as_missing(tmp_path, save):
    save(0, 20, 40)
    path = tmp_path / f"{SET.id}.parts" / "00000020.h5"
    path.write_bytes(path.read_bytes()[:-100])
    assert stored_shards(tmp_path, SET.id) == {0: 20}


def test_left_over_shards_of_another_size_do_no_harm(tmp_path, save):
    save(0, 10, 20, 30, 40, N)
    save(0, 30, N)
    found = finish_set(tmp_path, SET, CLEAN, HERE)
    found.verify()
    assert found.summary.seconds == 3
    for name, array in stored(found.path).items():
        np.testing.assert_array_equal(array, CONTENT[name])


def test_a_set_with_a_hole_is_not_finished(tmp_path, save):
    save(0, 20)
    save(40, N)
    with pytest.raises(RuntimeError, match="20 of 50"):
        finish_set(tmp_path, SET, CLEAN, HERE)
    assert find_set(tmp_path, SET.id) is None
    assert stored_shards(tmp_path, SET.id) == {0: 20, 40: 10}  # nothing is lost


def test_a_shard_with_damaged_images_is_named(tmp_path, save):
    save(0, 20, N)
    path = tmp_path / f"{SET.id}.parts" / "00000020.h5"
    with h5py.File(path, "r+") as file:
        del file["images"]
    with pytest.raises(UserError, match=r"00000020\.h5 is not a whole"):
        finish_set(tmp_path, SET, CLEAN, HERE)


def change(path, **changes):
    with h5py.File(path, "r+") as file:
        for name, do in changes.items():
            do(file, name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"complete": lambda file, name: file.attrs.pop(name)}, "never finished"),
        ({"complete": lambda file, name: file.attrs.modify(name, False)}, "never finished"),
        ({"labels": lambda file, name: file.pop(name)}, "a part of it is missing"),
        ({"spec": lambda file, name: file.attrs.pop(name)}, "whole"),
        ({"summary": lambda file, name: file.attrs.modify(name, "{}")}, "whole"),
    ],
)
def test_unfinished_and_incomplete_sets_are_named(tmp_path, finished, changes, words):
    change(finished.path, **changes)
    for read in (open_set, lambda _: find_set(tmp_path, SET.id)):
        with pytest.raises(UserError, match=words):
            read(finished.path)


def test_verify_finds_pixels_that_were_written_over(finished):
    def nudge(file, name):
        file[name][17, 0, 3, 3] += 1 / 255

    change(finished.path, images=nudge)
    with pytest.raises(UserError, match="pixels do not match their digest"):
        open_set(finished.path).verify()


def flip_a_bit(path, field):
    with h5py.File(path, "r") as file:
        chunk = file[field].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("field", ["images", "labels"])
def test_a_flipped_bit_is_found_when_images_are_read(finished, field):
    flip_a_bit(finished.path, field)
    with pytest.raises(UserError, match="is not a whole adversarial set"):
        list(open_set(finished.path).batches(N))


@pytest.mark.parametrize("field", ["labels", "predictions"])
def test_a_flipped_bit_is_found_when_verdicts_are_read(finished, field):
    flip_a_bit(finished.path, field)
    with pytest.raises(UserError, match="is not a whole adversarial set"):
        open_set(finished.path).source_verdicts()


def test_the_source_s_verdicts_are_those_the_attack_saw(finished):
    expected = CONTENT["predictions"] == CONTENT["labels"]
    found = finished.source_verdicts()
    assert found.dtype == bool
    np.testing.assert_array_equal(found, expected)
    assert 0 < expected.sum() < N


# Ids


def test_what_it_is_made_from_decides_the_id_and_names_do_not():
    source = SET.source
    others = [
        SET,
        SET.changed(source=source.changed(weights="ffffffffffff")),
        SET.changed(source=source.changed(recipe=source.recipe.changed(inference="nearest"))),
        SET.changed(attack={**PGD, "eps": 0.2}),
        SET.changed(attack={**PGD, "name": "bim"}),
        SET.changed(data=SET.data.changed(digest="ffffffffffff")),
        SET.changed(n=N - 1),
        SET.changed(seed=1),
        SET.changed(mode="fast"),
        SET.changed(mode="early-stop"),
    ]
    assert len({other.id for other in others}) == len(others)
    renamed = source.changed(recipe=source.recipe.changed(name="mine"), checkpoint="another")
    assert SET.changed(source=renamed).id == SET.id


class Weighted(Configuration):
    name: Literal["weighted"] = "weighted"
    c: Positive = 1.0


@pytest.mark.parametrize("c", [10, 10.0, "10", "1e1", np.float64(10)])
def test_ten_and_10_0_are_one_set(c):
    attack = Weighted.complete({"c": c}).dump()
    asked = SET.changed(attack=attack)
    assert asked.id == SET.changed(attack={"name": "weighted", "c": 10.0}).id
    assert SetSpecification.model_validate_json(asked.model_dump_json()).id == asked.id


def test_the_id_is_computed_once(monkeypatch):
    asked, computed = SET.changed(seed=7), []

    def counted(content):
        computed.append(content)
        return f"id {len(computed)}"

    monkeypatch.setattr(adversarial_sets, "digest", counted)
    assert [asked.id, asked.id, asked.id] == ["id 1"] * 3


@pytest.mark.parametrize("second", ["bfloat16", "float32"])
def test_the_precision_of_the_gradients_is_kept_shard_by_shard(tmp_path, save, second):
    save(0, 20, precision="bfloat16")
    save(20, N, precision=second)
    finish_set(tmp_path, SET, CLEAN, HERE)
    expected = " and ".join(sorted({"bfloat16", second}))
    assert find_set(tmp_path, SET.id).summary.precision == expected
