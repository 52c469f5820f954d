"""Per-image results: what every column holds, and that every format holds the same."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
from store_artefacts import sign_set

from robustbench_pcl import load_attack
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.export import all_of_target, one_stored
from robustbench_pcl.report.image_files import write_per_image
from robustbench_pcl.report.per_image import COLUMNS, IMAGE_COLUMNS, SHARED_COLUMNS

N = 12
NAMES = [column.name for column in COLUMNS]


@pytest.fixture
def workspace(tiny_workspace):
    return tiny_workspace


@pytest.fixture
def theirs(workspace, tmp_path):
    """Images crafted elsewhere, the third first, the first one unchanged."""
    clean = workspace.dataset("digits").test.images[:N] / 255
    changed = np.clip(clean + 0.05, 0, 1)
    changed[0] = clean[0]
    np.savez(tmp_path / "theirs.npz", adv=changed[::-1], indices=np.arange(N)[::-1])
    return workspace.import_images(tmp_path / "theirs.npz", "digits")


def answers(workspace, recipe, images):
    import torch

    with torch.no_grad():
        return workspace.model(recipe)(torch.as_tensor(images)).argmax(dim=1).numpy()


def clean(workspace):
    return workspace.dataset("digits").test.images[:N].astype(np.float32) / 255


def pixels(images):
    return np.concatenate([batch for batch, _ in images.batches(100)])


def test_a_white_box_set_shows_what_its_source_answers(workspace, tiny):
    recipe = tiny()
    images = workspace.adversarial_set(recipe, "pgd", images=N, mode="early-stop")
    workspace.measure(recipe, images=N)
    frame = one_stored(workspace, images.spec.id).frame()
    assert list(frame) == NAMES
    labels = np.array(workspace.dataset("digits").test.labels[:N])
    before, after = (
        answers(workspace, recipe, each) for each in (clean(workspace), pixels(images))
    )
    np.testing.assert_array_equal(frame["index"], np.arange(N))
    np.testing.assert_array_equal(frame["label"], labels)
    np.testing.assert_array_equal(frame["clean_prediction"], before)
    np.testing.assert_array_equal(frame["prediction"], after)
    np.testing.assert_array_equal(frame["robust"], after == labels)
    change = (pixels(images) - clean(workspace)).reshape(N, -1)
    np.testing.assert_allclose(frame["linf"], np.abs(change).max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(frame["l2"], np.sqrt((change**2).sum(axis=1)), rtol=1e-5)
    expected = np.where(after == labels, "", np.where(before == labels, "PGD, eps 0.1", "Clean"))
    np.testing.assert_array_equal(frame["felled_by"], expected)
    shared = frame[[column.name for column in SHARED_COLUMNS]].drop_duplicates()
    (row,) = shared.itertuples()
    assert (row.attack, row.eps, row.norm, row.dataset) == ("PGD, eps 0.1", 0.1, "linf", "digits")
    assert (row.target, row.source) == (recipe.name, recipe.name)
    assert row.adversarial_set == images.spec.id
    assert row.measurement is None


def test_the_stage_that_felled_an_image_is_named(workspace, tiny):
    recipe = tiny()
    attack = load_attack("pgd", "digits", "demo", {"restarts": 3, "steps": 1, "eps": 0.05})
    measured = workspace.measure(recipe, attack, images=4 * N, mode="early-stop")
    images = workspace.adversarial_set(recipe, attack, images=4 * N, mode="early-stop")
    names = dict(enumerate(images.stages))
    expected = [{**names, -1: "", -2: "Clean"}[each] for each in images.felled_by()]
    assert len({*expected} & {*images.stages}) > 1, "one start fells all"
    for identity in (images.spec.id, measured.id):
        assert one_stored(workspace, identity).frame()["felled_by"].tolist() == expected


def test_of_another_target_only_right_answers_are_known(workspace, tiny):
    measured = workspace.measure(tiny("ours"), "fgsm", tiny(), images=N)
    frame = one_stored(workspace, measured.id).frame()
    right = measured.withstood()
    assert not right.all()
    np.testing.assert_array_equal(frame["robust"], right)
    np.testing.assert_array_equal(frame["prediction"].isna(), ~right)
    np.testing.assert_array_equal(frame["prediction"][right], frame["label"][right])
    assert set(frame["target"]) == {"ours"}
    assert set(frame["source"]) == {"softmax"}
    assert set(frame["measurement"]) == {measured.id}


def test_clean_images_are_unchanged(workspace, tiny):
    measured = workspace.measure(tiny(), images=N)
    frame = one_stored(workspace, measured.id).frame()
    np.testing.assert_array_equal(frame["robust"], measured.withstood())
    assert (frame[["linf", "l2"]] == 0).all(axis=None)
    assert set(frame["attack"]) == {"Clean"}
    assert frame[["eps", "norm", "source", "adversarial_set"]].isna().all(axis=None)
    assert set(frame["felled_by"]) <= {"", "Clean"}


def test_nobody_answers_on_images_crafted_elsewhere(theirs, workspace):
    frame = one_stored(workspace, theirs.spec.id).frame()
    unknown = ["clean_prediction", "prediction", "robust", "felled_by", "target", "model", "source"]
    assert frame[unknown].isna().all(axis=None)
    assert frame["linf"][0] == 0
    np.testing.assert_allclose(frame["linf"][1:], 0.05, atol=1e-6)


def test_an_unchanged_image_tells_the_class_of_the_clean_one(theirs, workspace, tiny):
    measured = workspace.judge(tiny(), theirs)
    frame = one_stored(workspace, measured.id).frame()
    (first,) = answers(workspace, tiny(), clean(workspace)[:1])
    assert first == frame["label"][0], "a model that is wrong here shows nothing"
    assert frame["clean_prediction"][0] == first
    assert frame["clean_prediction"][1:].isna().all()


def read_csv(path):
    return pd.read_csv(path).astype(object).where(lambda frame: frame.notna(), None)


def read_jsonl(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return pd.DataFrame(rows, columns=NAMES).astype(object).where(lambda it: it.notna(), None)


def read_h5(path):
    with h5py.File(path) as file:
        arrays = {name: file[name][:] for name in file if name != "felled_by"}
        if "felled_by" in file:
            arrays["felled_by"] = file["felled_by"].asstr()[:]
        return arrays, dict(file.attrs)


def read_npz(path):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file}
    return (
        {name: array for name, array in arrays.items() if array.ndim},
        {name: array.item() for name, array in arrays.items() if not array.ndim},
    )


@pytest.fixture(params=["white-box", "transfer", "clean", "elsewhere", "nobody"])
def identity(request, workspace, tiny, theirs):
    """The id of one of each kind that can be written."""
    ours, softmax = tiny("ours"), tiny()
    return {
        "white-box": lambda: workspace.adversarial_set(ours, "pgd", images=N).spec.id,
        "transfer": lambda: workspace.measure(ours, "pgd", softmax, images=N).id,
        "clean": lambda: workspace.measure(ours, images=N).id,
        "elsewhere": lambda: workspace.judge(ours, theirs).id,
        "nobody": lambda: theirs.spec.id,
    }[request.param]()


@pytest.mark.parametrize("reader", [read_csv, read_jsonl])
def test_rows_are_the_frame(reader, identity, workspace, tmp_path):
    path = tmp_path / f"out.{reader.__name__.removeprefix('read_')}"
    assert workspace.export(identity, path) == N
    found, frame = reader(path), one_stored(workspace, identity).frame()
    assert list(found) == NAMES
    for column in COLUMNS:
        mine = frame[column.name].astype(object).where(frame[column.name].notna(), None)
        if reader is read_csv:  # where "" and nothing are one
            mine = mine.replace({"": None})
        if column.dtype == "float64":
            np.testing.assert_allclose(
                found[column.name].astype(float), mine.astype(float), rtol=1e-12, atol=1e-15
            )
        else:
            assert found[column.name].tolist() == mine.tolist(), column.name


@pytest.mark.parametrize("reader", [read_h5, read_npz])
def test_arrays_are_the_frame_and_the_images(reader, identity, workspace, tmp_path):
    path = tmp_path / f"out.{reader.__name__.removeprefix('read_')}"
    assert workspace.export(identity, path) == N
    answered = one_stored(workspace, identity)
    (arrays, shared), frame = reader(path), answered.frame()
    np.testing.assert_array_equal(arrays.pop("images"), np.concatenate([*answered.batches()]))
    for column in IMAGE_COLUMNS:
        known = frame[column.name].dropna()
        if column.name not in arrays:
            assert known.empty
            continue
        found = pd.Series(arrays[column.name])
        np.testing.assert_array_equal(found[known.index], known)
        assert found.drop(known.index).isin([-1]).all()
    assert shared == frame[[column.name for column in SHARED_COLUMNS]].iloc[0].dropna().to_dict()


@pytest.mark.parametrize("name", ["out.h5", "out.npz"])
def test_what_is_written_can_be_read_again(name, workspace, tiny, tmp_path):
    images = workspace.adversarial_set(tiny(), "pgd", images=N)
    workspace.export(images.spec.id, tmp_path / name)
    again = workspace.import_images(tmp_path / name, "digits")
    np.testing.assert_array_equal(pixels(again), pixels(images))


def test_all_measurements_of_a_model_follow_one_another(workspace, tiny, theirs, tmp_path):
    made = [workspace.measure(tiny(), images=N), workspace.judge(tiny(), theirs)]
    workspace.measure(tiny("ours"), images=N)
    found = all_of_target(workspace, "softmax", None)
    assert write_per_image(found, tmp_path / "out.csv") == 2 * N
    rows = pd.read_csv(tmp_path / "out.csv")
    assert set(rows["measurement"]) == {each.id for each in made}
    with pytest.raises(UserError, match="one set of images, not 2"):
        write_per_image(found, tmp_path / "out.h5")


def test_where_images_are_gone_verdicts_are_left(workspace, tiny, tmp_path):
    measured = workspace.measure(tiny(), "fgsm", images=N)
    for path in workspace.paths.adversarial_sets.iterdir():
        path.unlink()
    frame = one_stored(workspace, measured.id).frame()
    np.testing.assert_array_equal(frame["robust"], measured.withstood())
    assert frame[["linf", "l2"]].isna().all(axis=None)
    assert set(frame["adversarial_set"]) == {measured.adversarial_set}
    with pytest.raises(UserError, match="no longer stored"):
        workspace.export(measured.id, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


MISTAKES = {
    "unknown": ("0123456789ab", "out.csv", "no adversarial set or measurement"),
    "a path": ("../../etc/passwd", "out.csv", "no adversarial set or measurement"),
    "no file": ("nothing.h5", "out.csv", "nothing.h5"),
    "no format": (None, "out.xlsx", "has no known ending"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake, workspace, theirs, tmp_path):
    what, output, words = MISTAKES[mistake]
    with pytest.raises(UserError, match=words):
        workspace.export(what or theirs.spec.id, tmp_path / output)
    assert not (tmp_path / output).exists()


def test_a_set_is_found_by_its_file(workspace, theirs, tmp_path):
    assert workspace.export(str(theirs.path), tmp_path / "out.jsonl") == N


@pytest.mark.parametrize("change", [{"indices": 500}, {"data": "another copy"}])
def test_a_set_of_other_clean_images_is_refused(change, workspace, theirs):
    with h5py.File(theirs.path, "r+") as file:
        if "indices" in change:
            file["indices"][-1] = change["indices"]
        else:
            spec = json.loads(file.attrs["spec"])
            spec["data"]["digest"] = "0" * 12
            file.attrs["spec"] = json.dumps(spec)
    sign_set(theirs.path)
    with pytest.raises(UserError, match="not the copy"):
        one_stored(workspace, str(theirs.path))


def test_nothing_stored_of_a_model_says_what_there_is(workspace, tiny):
    workspace.measure(tiny(), images=N)
    with pytest.raises(UserError) as error:
        all_of_target(workspace, "softmx", None)
    assert "softmax" in error.value.cure
    with pytest.raises(UserError):
        all_of_target(workspace, "softmax", "mnist")
