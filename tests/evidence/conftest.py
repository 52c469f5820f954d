"""A workspace of two tiny models with one artefact of each kind, and its bundle, made once."""

import shutil

import numpy as np
import pytest
from bundles import EPS, N, bundle_of, save_judgements, save_unfinished

from robustbench_pcl import Workspace, load_attack
from robustbench_pcl.evidence.verify import Verifier


@pytest.fixture(scope="session")
def evidence_home(tiny_home, tiny, tmp_path_factory):
    """A workspace with clean, white-box, transferred and imported images; to be read only."""
    folder = tmp_path_factory.mktemp("evidence")
    shutil.copytree(tiny_home / "checkpoints", folder / "checkpoints")
    shutil.copytree(tiny_home / "results", folder / "results")
    workspace = Workspace(folder, device="cpu")
    ours, softmax = tiny("ours"), tiny()
    strongest = load_attack("strongest", "digits", "demo", {"budget": "quick"})
    clean = workspace.measure(ours, images=N)
    workspace.measure(softmax, images=N)
    pgd = workspace.measure(ours, "pgd", images=N)
    workspace.measure(ours, strongest, images=N, mode="early-stop")
    workspace.measure(ours, "pgd", source=softmax, images=N)
    test = workspace.dataset("digits").test
    theirs = np.clip(test.images[2:9] / 255 + EPS, 0, 1)
    np.savez(folder / "theirs.npz", adv=theirs, indices=np.arange(2, 9))
    workspace.judge(softmax, workspace.import_images(folder / "theirs.npz", "digits", EPS))
    save_judgements(workspace, clean, pgd)
    return folder


@pytest.fixture(scope="session")
def unfinished_home(evidence_home, tmp_path_factory):
    """The same with an interrupted training and a part of a set; to be read only."""
    folder = shutil.copytree(evidence_home, tmp_path_factory.mktemp("unfinished") / "home")
    save_unfinished(Workspace(folder, device="cpu"))
    return folder


@pytest.fixture(scope="session")
def whole_bundle(evidence_home, tmp_path_factory):
    """A bundle of all of it, with weights and sets; to be read only."""
    folder = tmp_path_factory.mktemp("bundles") / "whole"
    bundle_of(evidence_home, folder)
    return folder


@pytest.fixture
def bundle(whole_bundle, tmp_path):
    """A copy of the bundle, to be tampered with."""
    return shutil.copytree(whole_bundle, tmp_path / "bundle")


@pytest.fixture
def verifier():
    return Verifier(device="cpu")
