"""Adversarial sets: parts that are never lost, sets that are whole, damage that is found."""

import itertools
from typing import Literal

import h5py
import numpy as np
import pytest
from store_artefacts import (
    HERE,
    PGD,
    SET,
    adversarial_images,
    as_before_digests,
    clean_images,
    part_of,
    save_set,
)

from robustbench_pcl.configuration import Configuration, Positive
from robustbench_pcl.errors import DamagedSetError, UserError
from robustbench_pcl.store import adversarial_sets
from robustbench_pcl.store.adversarial_sets import (
    FIELDS,
    TEXTS,
    SetSpecification,
    copy_set,
    find_set,
    open_set,
)
from robustbench_pcl.store.parts import ROWS, Draft, finish_set, load_parts, save_part
from robustbench_pcl.store.records import Paths

N = SET.n
CONTENT = adversarial_images()
CLEAN = clean_images()


@pytest.fixture
def save(tmp_path):
    """Save the parts between some positions; where each image is, ready to be joined."""

    def save_between(*positions, **changes):
        parts = [
            save_part(
                tmp_path,
                SET.id,
                part_of(
                    {name: array[start:stop] for name, array in CONTENT.items()},
                    backward_passes=stop - start,
                    **changes,
                ),
            )
            for start, stop in itertools.pairwise(positions)
        ]
        sizes = [len(part.indices) for part in parts]
        number = np.repeat(np.arange(len(parts)), sizes)
        row = np.concatenate([np.arange(size) for size in sizes])
        felled_by = np.where(CONTENT["predictions"] != CONTENT["labels"], 0, -1)
        return Draft(
            stages=("PGD",),
            labels=CONTENT["labels"],
            predictions=CONTENT["predictions"],
            felled_by=felled_by,
            blind=np.arange(N) < 3,
            parts=parts,
            part=number,
            position=row,
        )

    return save_between


@pytest.fixture
def finished(tmp_path, save):
    return finish_set(tmp_path, SET, save(0, 20, 40, N), CLEAN, HERE)


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
    assert summary.largest_l2 == pytest.approx(np.linalg.norm(change, axis=1).max(), rel=1e-6)
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


def test_parts_are_found_again(tmp_path, save):
    assert load_parts(tmp_path, SET.id) == []
    save(0, 20, N)
    found = load_parts(tmp_path, SET.id)
    assert [len(part.indices) for part in found] == [20, 30]
    for part in found:
        rows = part.indices
        np.testing.assert_array_equal(part.predictions, CONTENT["predictions"][rows])
        images = part.read_images(np.arange(len(rows)))
        np.testing.assert_array_equal(images, CONTENT["images"][rows])
    assert find_set(tmp_path, SET.id) is None
    assert load_parts(tmp_path, "another") == []


def test_a_damaged_part_counts_as_missing(tmp_path, save):
    save(0, 20, 40)
    path = tmp_path / f"{SET.id}.parts" / "part-000001.h5"
    path.write_bytes(path.read_bytes()[:-100])
    assert [part.indices[0] for part in load_parts(tmp_path, SET.id)] == [0]
    assert path.with_name("part-000001.h5.bad").exists()
    save(20, 40)
    assert [part.indices[0] for part in load_parts(tmp_path, SET.id)] == [0, 20]


def in_part(name, row=3):
    """A change of one number, or of the images of one row."""

    def change(file):
        old = file[name][row]
        file[name][row] = ~old if old.dtype == bool else old + 1

    return change


def without_digest(file):
    del file.attrs["digest"]


def another_cost(file):
    file.attrs["cost"] = [0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    "change",
    [*map(in_part, (*ROWS, "images")), without_digest, another_cost],
    ids=[*ROWS, "images", "no digest", "cost"],
)
def test_a_part_that_was_changed_is_set_aside_and_said_once(tmp_path, save, change):
    save(0, 20, 40)
    path = tmp_path / f"{SET.id}.parts" / "part-000001.h5"
    with h5py.File(path, "r+") as file:
        change(file)
    said = []
    for _ in range(2):
        assert [part.indices[0] for part in load_parts(tmp_path, SET.id, said.append)] == [0]
    (line,) = said
    assert "Made again: " in line
    assert path.name in line
    assert path.with_name(f"{path.name}.bad").exists()


def test_a_part_of_another_set_is_set_aside(tmp_path, save):
    save(0, N)
    (tmp_path / f"{SET.id}.parts").rename(tmp_path / "another.parts")
    assert load_parts(tmp_path, "another") == []


def test_a_part_that_was_changed_is_not_joined(tmp_path, save):
    draft = save(0, 20, N)
    with h5py.File(draft.parts[1].path, "r+") as file:
        file["images"][2, 0, 0, 0] = 0.5
    with pytest.raises(DamagedSetError, match="does not match its digest"):
        finish_set(tmp_path, SET, draft, CLEAN, HERE)
    assert find_set(tmp_path, SET.id) is None


def test_images_are_taken_from_wherever_they_are(tmp_path, save):
    """Later stages hold some again; what is not in any part is the clean image."""
    draft = save(0, 20, 40, N)
    rows = np.array([3, 25, 41])
    again = {name: array[rows] for name, array in CONTENT.items()}
    again["images"] = 1 - again["images"]
    better = np.array([True, False, True])
    part = part_of(again, stage=1, better=better, images=again["images"][better])
    draft.parts.append(save_part(tmp_path, SET.id, part))
    draft.part[[3, 41]], draft.position[[3, 41]] = 3, [0, 1]
    draft.part[7] = -1
    found = finish_set(tmp_path, SET, draft, CLEAN, HERE)
    expected = CONTENT["images"].copy()
    expected[[3, 41]] = 1 - expected[[3, 41]]
    expected[7] = CLEAN[7].astype(np.float32) / 255
    np.testing.assert_array_equal(stored(found.path)["images"], expected)
    found.verify()


def test_a_part_with_damaged_images_is_named(tmp_path, save):
    draft = save(0, 20, N)
    with h5py.File(tmp_path / f"{SET.id}.parts" / "part-000001.h5", "r+") as file:
        del file["images"]
    with pytest.raises(UserError, match=r"part-000001\.h5 is not a whole"):
        finish_set(tmp_path, SET, draft, CLEAN, HERE)
    assert find_set(tmp_path, SET.id) is None
    assert len(load_parts(tmp_path, SET.id)) == 1  # the other one is not lost


def test_what_felled_each_image_is_kept(finished):
    again = open_set(finished.path)
    assert again.stages == ("PGD",)
    np.testing.assert_array_equal(again.felled_by() == -1, again.source_verdicts())
    assert again.summary.blind == 3


def test_a_set_from_before_stages_has_one(finished):
    as_before_digests(finished.path)
    with h5py.File(finished.path, "r+") as file:
        del file["felled_by"], file.attrs["stages"]
    again = open_set(finished.path)
    assert again.stages == ()
    np.testing.assert_array_equal(again.felled_by() == -1, again.source_verdicts())


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

    def counted(*content, **more):
        computed.append(content)
        return f"id {len(computed)}"

    monkeypatch.setattr(adversarial_sets, "set_id", counted)
    assert [asked.id, asked.id, asked.id] == ["id 1"] * 3


@pytest.mark.parametrize("second", ["bfloat16", "float32"])
def test_the_precision_of_the_gradients_is_kept_part_by_part(tmp_path, save, second):
    draft = save(0, N, precision="bfloat16")
    content = {name: array[:5] for name, array in CONTENT.items()}
    draft.parts.append(save_part(tmp_path, SET.id, part_of(content, precision=second)))
    finish_set(tmp_path, SET, draft, CLEAN, HERE)
    expected = " and ".join(sorted({"bfloat16", second}))
    assert find_set(tmp_path, SET.id).summary.precision == expected


def test_text_has_a_fixed_length_also_in_copies_of_older_sets(tmp_path):
    path = save_set(Paths(tmp_path))
    with h5py.File(path, "r+") as file:
        assert file.attrs.get_id("spec").dtype.kind == "S"
        for name in TEXTS:
            file.attrs[name] = file.attrs[name].decode()
        assert file.attrs.get_id("spec").dtype.kind == "O"
    copy_set(open_set(path), tmp_path / "copy.h5")
    with h5py.File(tmp_path / "copy.h5") as file:
        assert {file.attrs.get_id(name).dtype.kind for name in TEXTS} == {"S"}
    copied = open_set(tmp_path / "copy.h5")
    assert (copied.spec, copied.stages) == (SET, ("PGD",))
    copied.verify()
