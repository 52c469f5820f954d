"""``report --bundle`` and ``verify``: what they print, their exit codes, what they refuse."""

import json
import shutil

import pytest
from documents import read_document
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.cli.verify import read_share
from robustbench_pcl.errors import UserError


@pytest.fixture(scope="module")
def home(tiny_home, tmp_path_factory):
    """A workspace with a measured model; to be read only."""
    from robustbench_pcl import Workspace

    folder = tmp_path_factory.mktemp("measured")
    shutil.copytree(tiny_home, folder, dirs_exist_ok=True)
    (softmax,) = (folder / "checkpoints").glob("*-softmax-*")
    workspace = Workspace(folder, device="cpu")
    workspace.measure(workspace.open(softmax), "fgsm", images=10)
    return folder


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def bundle(home, tmp_path):
    run("report", "--home", home, "--bundle", tmp_path / "bundle", "--with-weights")
    return tmp_path / "bundle"


def test_a_bundle_says_its_digest_and_is_verified_by_it(home, tmp_path):
    words = ("report", "--home", home, "--bundle", tmp_path / "bundle", "--with-weights")
    digest = run(*words).stdout.strip()
    assert len(digest) == 64
    found = run("verify", tmp_path / "bundle", "--digest", digest, "--device", "cpu")
    assert digest in found.stdout
    assert found.stdout.endswith("All that was checked holds.\n")
    assert max(map(len, found.stdout.removeprefix(f"{tmp_path}").splitlines()[1:])) <= 80
    refused = run(*words, code=2)
    assert "not empty" in refused.stderr


def test_what_does_not_hold_is_exit_code_1_for_people_and_programs(bundle):
    path = min((bundle / "results/measurements").iterdir())
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "correct": 3}))
    printed = run("verify", bundle, "--device", "cpu", code=1).stdout
    assert f"{path.name}: correct: 3; expected: {record['correct']}" in " ".join(printed.split())
    found = read_document(
        run("verify", bundle, "--format", "json", "--data", "50%", code=1).stdout, "verification"
    )
    assert not found["holds"]
    changed = [finding["what"] for finding in found["rows"]]
    assert changed == ["its SHA-256", "correct", "record_digest"]


def test_without_a_folder_the_workspace_is_verified(home):
    found = read_document(run("verify", "--home", home, "--format", "json").stdout, "verification")
    assert found["holds"]
    assert found["sha256"] is None
    assert found["checked"]["measurements"] == 1


def test_a_workspace_is_repaired(home, tmp_path):
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    (path,) = (tmp_path / "results/measurements").iterdir()
    trainings = (tmp_path / "results/trainings").iterdir()
    (training,) = [each for each in trainings if '"name": "ours-pgd"' in each.read_text()]
    record = path.read_text()
    path.write_text(record.replace('"correct": ', '"correct": 9'))
    training.write_text("{}")
    run("verify", "--home", tmp_path, "--device", "cpu", code=1)
    words = ("verify", "--home", tmp_path, "--repair", "--device", "cpu")
    printed = run(*words).stdout
    assert max(map(len, printed.splitlines())) <= 80
    said = " ".join(printed.split())
    for name in (f"measurements/{path.name}", f"trainings/{training.name}"):
        (aside,) = (tmp_path / "results/damaged").glob(f"*/results/{name}")
        assert f"- {aside.relative_to(tmp_path)}" in said
    assert f"Made again: 1 - results/measurements/{path.name} Not made again: 1" in said
    assert "pclbench train digits --recipe ours-pgd --scale demo --seed 0" in said
    assert said.endswith("All that was checked holds.")
    assert json.loads(path.read_text())["verdicts"] == json.loads(record)["verdicts"]
    again = read_document(run(*words, "--format", "json").stdout, "verification")
    assert again["holds"]
    assert (again["set_aside"], again["made_again"], again["not_made_again"]) == ({}, [], {})


def test_nothing_of_a_bundle_is_repaired(bundle, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for where in ([bundle], ["--home", bundle]):
        refused = run("verify", *where, "--repair", "--device", "cpu", code=2)
        assert "is a bundle" in refused.stderr
        assert "pclbench verify --home DIR --repair" in refused.stderr
    assert sorted(tmp_path.rglob("*")) == before


WRONG = {
    "no bundle": (["verify", "nowhere"], "no bundle in"),
    "half a digest": (["verify", "nowhere", "--digest", "abc"], "64 digits"),
    "a digest of a workspace": (["verify", "--digest", "a" * 64], "no digest"),
    "no share": (["verify", "nowhere", "--data", "0%"], "no share"),
    "no share, as it was called": (["verify", "nowhere", "--sample", "0%"], "no share"),
    "nothing to repair": (["verify", "--home", "nowhere", "--repair"], "no folder"),
    "weights without a bundle": (["report", "--with-weights"], "go into a bundle"),
    "sets without a bundle": (["report", "--with-sets"], "go into a bundle"),
    "a page": (["report", "--bundle", "new", "--page"], "--page means nothing"),
    "a figure": (["report", "--bundle", "new", "--figure", "7"], "--figure means nothing"),
    "a file": (["report", "--bundle", "new", "-o", "x.html"], "--output means nothing"),
    "a format": (["report", "--bundle", "new", "--format", "csv"], "--format means nothing"),
    "nothing stored": (["report", "--bundle", "new", "--home", "nowhere"], "Nothing is measured"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_means_nothing_is_refused(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, cause = WRONG[wrong]
    refused = run(*words, code=2).stderr
    assert cause in refused
    assert len(refused.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_share_is_written_in_two_ways():
    assert [read_share(text) for text in ("5%", "0.05", "100 %", "1")] == [0.05, 0.05, 1, 1]
    for text in ("", "%", "0", "101%", "nan", "-5%", "all", "inf"):
        with pytest.raises(UserError, match="no share"):
            read_share(text)
