"""A diagnosis in a workspace: made once, found by what was asked, and shown beside the numbers."""

from __future__ import annotations

import pytest
import torch

from robustbench_pcl import CW, PGD, Workspace, results
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.diagnosing import ENOUGH, Diagnose
from robustbench_pcl.store.diagnoses import CODES, Diagnosis, diagnosis_id
from robustbench_pcl.store.records import read_record

PGD_01 = PGD(eps=0.1)


@pytest.fixture(scope="module")
def asked(tiny):
    """What is diagnosed, on few images."""
    return Diagnose(tiny(), PGD_01, 20)


@pytest.fixture(scope="module")
def workspace(tiny_home, tmp_path_factory):
    """With the small trained models, which are only read, and results of its own."""
    folder = tmp_path_factory.mktemp("diagnosed")
    (folder / "checkpoints").symlink_to(tiny_home / "checkpoints")
    return Workspace(folder, device="cpu")


@pytest.fixture(scope="module")
def made(workspace, asked):
    """Its diagnosis."""
    torch.set_num_threads(1)
    assert workspace.find(asked) is None
    return workspace.make(asked)


def test_a_diagnosis_says_what_it_is_of(made, tiny):
    assert made.target.recipe == tiny()
    assert made.data.dataset == "digits"
    assert (made.attack, made.label, made.norm, made.eps) == (
        PGD_01.dump(),
        PGD_01.label,
        "linf",
        0.1,
    )
    assert (made.n, made.seed) == (20, 0)
    assert CODES[made.verdict] == made.code
    assert made.n >= made.clean >= made.correct >= made.withstood
    assert made.interval[0] <= made.withstood / made.n <= made.interval[1]
    assert len({check.code for check in made.checks}) == len(made.checks) > 3


def test_it_is_stored_under_its_id_and_found_again(workspace, made, asked, monkeypatch):
    file = workspace.paths.diagnoses / f"{made.id}.json"
    assert read_record(file, Diagnosis) == made
    monkeypatch.setattr(Diagnose, "compute", None)
    assert Workspace(workspace.paths.root, device="cpu").make(asked) == made


def test_a_workspace_takes_names_and_budgets(workspace, made, tiny):
    assert workspace.diagnose(tiny(), "pgd", images=20) == made
    assert workspace.diagnose(tiny(), PGD(eps=0.3), eps="0.1", images=20) == made


def test_its_number_has_its_code(workspace, made, tiny):
    workspace.measure(tiny(), PGD_01, images=20)
    workspace.measure(tiny(), PGD(eps=0.2), images=20)
    frame = results(workspace).set_index("attack")
    assert frame.loc["PGD, eps 0.1", "verdict"] == made.code
    assert frame.loc["PGD, eps 0.2", "verdict"] is None


def test_everything_that_is_asked_is_part_of_the_id(made):
    base = {"n": made.n, "seed": 0}
    other = made.target.changed(weights="others")
    ids = [
        diagnosis_id(made.target, made.data.digest, made.attack, **base),
        diagnosis_id(other, made.data.digest, made.attack, **base),
        diagnosis_id(made.target, "other images", made.attack, **base),
        diagnosis_id(made.target, made.data.digest, PGD(eps=0.2).dump(), **base),
        diagnosis_id(made.target, made.data.digest, made.attack, n=21, seed=0),
        diagnosis_id(made.target, made.data.digest, made.attack, n=20, seed=1),
        diagnosis_id(made.target, made.data.digest, made.attack, **base, sources=[other]),
    ]
    assert made.id == ids[0]
    assert len(set(ids)) == len(ids)


def test_other_models_are_asked_for_images(workspace, tiny):
    found = workspace.diagnose(tiny(), images=12, sources=[tiny("ours"), tiny("ours-pgd")])
    (transfer,) = [check for check in found.checks if check.code == "PCL202"]
    assert transfer.passed is not None
    assert [source.recipe.name for source in found.sources] == ["ours", "ours-pgd"]
    assert {"ours", "ours-pgd"} <= {word for name in transfer.measured for word in name.split()}


def test_so_many_images_are_enough_unless_more_are_asked_for(workspace, tiny):
    everything = tiny(scale="paper")
    assert Diagnose(everything, PGD_01)._count(workspace) == ENOUGH == 500
    assert Diagnose(tiny(), PGD_01)._count(workspace) == 200
    assert Diagnose(tiny(), PGD_01, 10**6)._count(workspace) == 500  # no more are there


def test_what_cannot_be_judged_is_refused_before_any_work(tiny):
    with pytest.raises(UserError, match=r"C&W.* has no budget.*--attack pgd"):
        Diagnose(tiny(), CW())
    with pytest.raises(UserError, match=r"ours is for mnist, softmax is not"):
        Diagnose(tiny(), PGD_01, sources=(tiny("ours", dataset="mnist", start=None),))


def test_an_untrained_model_has_no_diagnosis_yet(tiny, tmp_path):
    workspace = Workspace(tmp_path, device="cpu")
    assert workspace.find(Diagnose(tiny(), PGD_01)) is None
    assert [task.kind for task in Diagnose(tiny("ours"), PGD_01, sources=(tiny(),)).needs] == [
        "train",
        "train",
    ]
