"""Adversarial sets: shards that are never lost, sets that are whole, damage that is found."""

import itertools
import json

import h5py
import numpy as np
import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.specs.base import Part, digest
from robustbench_pcl.store.adversarial_sets import (
    FIELDS,
    SetSpec,
    Shard,
    find_set,
    finish_set,
    open_set,
    save_shard,
    set_path,
    stored_shards,
)
from robustbench_pcl.store.home import environment
from robustbench_pcl.store.records import DataRecord, ModelRecord

N = 50
HERE = environment("2.6.0", "a processor", 1)


@pytest.fixture
def spec(tiny):
    return SetSpec(
        source=ModelRecord(checkpoint="a" * 12, weights="b" * 12, recipe=tiny("softmax")),
        attack=Part(name="fgsm", parameters={"eps": 0.1}),
        norm="linf",
        data=DataRecord(dataset="digits", digest="c" * 12, source="scikit-learn"),
        n=N,
        seed=0,
    )


@pytest.fixture
def clean():
    return np.random.default_rng(0).integers(0, 256, (N + 10, 1, 8, 8), dtype=np.uint8)


@pytest.fixture
def content(clean):
    """What a whole set holds."""
    random = np.random.default_rng(1)
    noise = random.uniform(-0.1, 0.1, (N, 1, 8, 8)).astype(np.float32)
    return {
        "images": np.clip(clean[:N].astype(np.float32) / 255 + noise, 0, 1),
        "indices": np.arange(N),
        "labels": random.integers(0, 10, N),
        "predictions": random.integers(0, 10, N),
    }


@pytest.fixture
def save(tmp_path, spec, content):
    """Save the shards between some positions."""

    def save_between(*positions):
        for start, stop in itertools.pairwise(positions):
            part = {name: array[start:stop] for name, array in content.items()}
            shard = Shard(**part, seconds=1.5, forward_passes=10, backward_passes=stop - start)
            save_shard(tmp_path, spec.id, shard)

    return save_between


@pytest.fixture
def finished(tmp_path, spec, clean, save):
    save(0, 20, 40, N)
    return finish_set(tmp_path, spec, clean, HERE)


def stored(path):
    with h5py.File(path, "r") as file:
        return {name: file[name][:] for name in FIELDS}


def test_round_trip(tmp_path, spec, clean, content, finished):
    assert find_set(tmp_path, spec.id) == finished == open_set(set_path(tmp_path, spec.id))
    assert finished.spec == spec
    for name, array in stored(finished.path).items():
        np.testing.assert_array_equal(array, content[name])
        assert array.dtype == (np.float32 if name == "images" else np.int64)
    finished.verify()


def test_the_summary_follows_from_the_images(clean, content, finished):
    change = (content["images"] - clean[:N].astype(np.float32) / 255).reshape(N, -1)
    summary = finished.summary
    assert summary.largest_linf == np.abs(change).max()
    assert summary.mean_l2 == pytest.approx(np.linalg.norm(change, axis=1).mean(), rel=1e-6)
    assert (summary.seconds, summary.forward_passes, summary.backward_passes) == (4.5, 30, N)
    assert summary.environment == HERE


def test_only_the_finished_set_stays(tmp_path, finished):
    assert list(tmp_path.iterdir()) == [finished.path]


@pytest.mark.parametrize("size", [1, 7, N, 1000])
def test_batches_cover_the_set_in_order(content, finished, size):
    images, labels = zip(*finished.batches(size), strict=True)
    assert max(map(len, labels)) == min(size, N)
    np.testing.assert_array_equal(np.concatenate(images), content["images"])
    np.testing.assert_array_equal(np.concatenate(labels), content["labels"])


def test_shards_are_found_again(tmp_path, spec, save):
    assert stored_shards(tmp_path, spec.id) == {}
    save(0, 20, 40)
    assert stored_shards(tmp_path, spec.id) == {0: 20, 20: 20}
    assert find_set(tmp_path, spec.id) is None
    assert stored_shards(tmp_path, "another") == {}


def test_a_damaged_shard_counts_as_missing(tmp_path, spec, save):
    save(0, 20, 40)
    path = tmp_path / f"{spec.id}.parts" / "00000020.h5"
    path.write_bytes(path.read_bytes()[:-100])
    assert stored_shards(tmp_path, spec.id) == {0: 20}


def test_left_over_shards_of_another_size_do_no_harm(tmp_path, spec, clean, content, save):
    save(0, 10, 20, 30, 40, N)
    save(0, 30, N)
    found = finish_set(tmp_path, spec, clean, HERE)
    found.verify()
    assert found.summary.seconds == 3
    for name, array in stored(found.path).items():
        np.testing.assert_array_equal(array, content[name])


def test_a_set_with_a_hole_is_not_finished(tmp_path, spec, clean, save):
    save(0, 20)
    save(40, N)
    with pytest.raises(RuntimeError, match="20 of 50"):
        finish_set(tmp_path, spec, clean, HERE)
    assert find_set(tmp_path, spec.id) is None
    assert stored_shards(tmp_path, spec.id) == {0: 20, 40: 10}  # nothing is lost


def test_a_shard_with_damaged_images(tmp_path, spec, clean, save):
    save(0, 20, N)
    path = tmp_path / f"{spec.id}.parts" / "00000020.h5"
    with h5py.File(path, "r+") as file:
        del file["images"]
    with pytest.raises(UserError, match=r"00000020\.h5 is not a whole"):
        finish_set(tmp_path, spec, clean, HERE)


def test_weights_attack_pixels_n_and_seed_decide_the_id(spec):
    def changed(**changes):
        return spec.model_copy(update=changes).id

    renamed = spec.source.model_copy(
        update={"recipe": spec.source.recipe.model_copy(update={"name": "x"}), "checkpoint": "y"}
    )
    assert changed(source=renamed) == spec.id
    others = {
        changed(source=spec.source.model_copy(update={"weights": "other"})),
        changed(attack=spec.attack.merged({"eps": 0.2})),
        changed(attack=Part(name="bim", parameters={"eps": 0.1})),
        changed(data=spec.data.model_copy(update={"digest": "other"})),
        changed(n=N - 1),
        changed(seed=1),
    }
    assert len(others | {spec.id}) == 7


def test_a_truncated_file_of_any_length(finished):
    content = finished.path.read_bytes()
    for length in {0, 1, 7, 8, 100, *range(512, len(content), 911), len(content) - 1}:
        finished.path.write_bytes(content[:length])
        with pytest.raises(UserError, match="is not a whole adversarial set") as raised:
            open_set(finished.path)
        assert "\n" not in raised.value.cause
        assert "craft it" in raised.value.cure


@pytest.mark.parametrize("content", [b"<html>404</html>", b"PK\x03\x04", bytes(5000)])
def test_other_files(tmp_path, content):
    (tmp_path / "set.h5").write_bytes(content)
    with pytest.raises(UserError, match="is not a whole adversarial set"):
        open_set(tmp_path / "set.h5")


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
def test_unfinished_and_incomplete_sets(tmp_path, spec, finished, changes, words):
    change(finished.path, **changes)
    for read in (open_set, lambda _: find_set(tmp_path, spec.id)):
        with pytest.raises(UserError, match=words):
            read(finished.path)


def test_verify_finds_pixels_that_were_written_over(finished):
    def nudge(file, name):
        file[name][17, 0, 3, 3] += 1 / 255

    change(finished.path, images=nudge)
    with pytest.raises(UserError, match="pixels do not match their digest"):
        open_set(finished.path).verify()


@pytest.mark.parametrize("field", FIELDS)
def test_a_flipped_bit_anywhere_in_the_data_is_found_when_it_is_read(finished, field):
    with h5py.File(finished.path, "r") as file:
        chunk = file[field].id.get_chunk_info(0)
    data = bytearray(finished.path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 4
    finished.path.write_bytes(data)
    if field in ("images", "labels"):
        with pytest.raises(UserError, match="is not a whole adversarial set"):
            list(open_set(finished.path).batches(N))
    else:
        with pytest.raises(OSError, match="filter"):
            stored(finished.path)


# How a set was made


def test_the_way_of_crafting_is_part_of_the_id_unless_it_is_exact(spec):
    ids = {
        mode: spec.model_copy(update={"crafting": mode}).id
        for mode in ("exact", "fast", "until-fooled")
    }
    assert len(set(ids.values())) == 3
    made_from = {
        "source": spec.source.key,
        "attack": spec.attack.content(),
        "data": spec.data.digest,
        "n": N,
        "seed": 0,
    }
    assert ids["exact"] == spec.id == digest(made_from)  # as it was before there were others
    assert ids["fast"] == digest({**made_from, "crafting": "fast"})


def test_sets_that_do_not_say_how_they_were_made_are_exact(tmp_path, finished):
    with h5py.File(finished.path, "r+") as file:
        for name, gone in (("spec", "crafting"), ("summary", "precision")):
            content = json.loads(file.attrs[name])
            del content[gone]
            file.attrs[name] = json.dumps(content)
    found = open_set(finished.path)
    assert found == finished
    assert (found.spec.crafting, found.summary.precision) == ("exact", "float32")


@pytest.mark.parametrize("precisions", [("bfloat16",) * 2, ("float32", "bfloat16")])
def test_the_precision_of_the_gradients_is_kept_shard_by_shard(
    tmp_path, spec, clean, content, precisions
):
    for start, stop, precision in zip((0, 20), (20, N), precisions, strict=True):
        part = {name: array[start:stop] for name, array in content.items()}
        cost = {"seconds": 1.0, "forward_passes": 1, "backward_passes": 1}
        save_shard(tmp_path, spec.id, Shard(**part, **cost, precision=precision))
    finish_set(tmp_path, spec, clean, HERE)
    expected = " and ".join(sorted(set(precisions)))
    assert find_set(tmp_path, spec.id).summary.precision == expected


def test_the_source_s_verdicts_are_those_it_had_when_crafting(content, finished):
    expected = content["predictions"] == content["labels"]
    found = finished.source_verdicts()
    assert found.dtype == bool
    np.testing.assert_array_equal(found, expected)
    assert 0 < expected.sum() < N


@pytest.mark.parametrize("field", ["labels", "predictions"])
def test_verdicts_that_cannot_be_read_are_not_made_up(finished, field):
    with h5py.File(finished.path, "r") as file:
        chunk = file[field].id.get_chunk_info(0)
    data = bytearray(finished.path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 4
    finished.path.write_bytes(data)
    with pytest.raises(UserError, match="is not a whole adversarial set"):
        open_set(finished.path).source_verdicts()
