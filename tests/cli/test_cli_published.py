"""Published numbers on the command line: ``report``, ``check``, ``verify`` and ``store``."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.store import published

INSTEAD = "Nothing is measured here yet, so these are published numbers."


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def measured(tiny_home, tmp_path_factory):
    """A workspace with a model that was measured clean and attacked; to be read only."""
    from robustbench_pcl import Workspace

    folder = tmp_path_factory.mktemp("measured")
    shutil.copytree(tiny_home, folder, dirs_exist_ok=True)
    (softmax,) = (folder / "checkpoints").glob("*-softmax-*")
    workspace = Workspace(folder, device="cpu")
    for attack in (None, "fgsm"):
        workspace.measure(workspace.open(softmax), attack, images=10)
    return folder


@pytest.fixture(scope="module")
def evidence(measured, tmp_path_factory):
    """What is published of it; to be read only."""
    folder = tmp_path_factory.mktemp("evidence") / "published"
    said = run("store", "publish", folder, "--home", measured).stderr
    assert "1 training record, 2 measurements, 1 strip; already there: 0." in said
    return folder


@pytest.fixture
def installed(evidence, monkeypatch, tmp_path):
    """As if pclbench came with it, and was run in an empty folder."""
    monkeypatch.setattr(published, "PLACES", (evidence,))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def checkout(evidence, tmp_path):
    """A folder in which nothing is measured, with published numbers."""
    shutil.copytree(evidence, tmp_path / "checkout" / "results" / "published")
    return tmp_path / "checkout"


def rows(*words):
    return json.loads(run("report", "--model", "softmax", "--format", "json", *words).stdout)


def test_an_installed_package_reports_published_numbers_anywhere(installed, measured, tmp_path):
    assert rows("--published") == rows("--home", measured)
    assert INSTEAD not in run("report", "--published").stderr
    run("report", "--published", "--page")
    assert (tmp_path / "results" / "published.html").exists()
    assert not (tmp_path / "results" / "report.html").exists()


def test_a_fresh_checkout_reports_what_is_published_in_it_and_says_so(checkout, measured):
    assert rows("--home", checkout) == rows("--home", measured)
    result = run("report", "--table", 3, "--home", checkout)
    assert f"{INSTEAD} To measure: pclbench run --table 3\n" in result.stderr
    assert INSTEAD not in result.stdout
    run("report", "--page", "--home", checkout)
    assert "softmax" in (checkout / "results" / "report.html").read_text()


def test_what_is_measured_in_a_checkout_is_not_mixed_with_what_is_published(checkout, measured):
    own = measured / "results" / "measurements"
    (clean,) = (path for path in own.iterdir() if '"attack": null' in path.read_text())
    (checkout / "results" / "measurements").mkdir()
    shutil.copy(clean, checkout / "results" / "measurements")
    assert INSTEAD not in run("report", "--home", checkout).stderr
    found = json.dumps(rows("--home", checkout))
    assert "FGSM" not in found
    assert "FGSM" in json.dumps(rows("--home", measured))


def test_requirements_are_about_published_numbers_only_where_that_is_asked_for(installed, checkout):
    words = ("check", "--require", "softmax.clean >= 0")
    run(*words, "--published")
    run(*words, "--home", checkout, code=1)


def test_published_numbers_make_a_bundle(installed, tmp_path):
    run("report", "--published", "--bundle", tmp_path / "bundle")
    run("verify", tmp_path / "bundle", "--device", "cpu")


@pytest.mark.parametrize("words", [["DIR"], ["--home", "DIR"], ["--published"]])
def test_published_numbers_are_verified_however_they_are_named(
    installed, evidence, tmp_path, words
):
    folder = shutil.copytree(evidence, tmp_path / "copy")
    named = [folder if word == "DIR" else word for word in words]
    result = run("verify", *named, "--device", "cpu")
    assert "published numbers" in result.stdout
    assert "All that was checked holds." in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80 + len(str(folder))
    run("verify", *named, "--repair", code=2)
    strip = next((folder / "strips").iterdir())
    strip.write_bytes(strip.read_bytes() + b"\0")
    run("verify", folder, "--device", "cpu", code=1)


def test_a_fresh_checkout_is_verified_by_what_is_published_in_it(checkout):
    words = ("verify", "--home", checkout, "--device", "cpu")
    assert "published numbers" in run(*words).stdout
    strip = next((checkout / "results" / "published" / "strips").iterdir())
    strip.write_bytes(strip.read_bytes() + b"\0")
    run(*words, code=1)


def test_mistakes_have_a_cause_and_a_cure(evidence, monkeypatch, tmp_path):
    monkeypatch.setattr(published, "PLACES", ())
    for command in (["report"], ["verify"], ["check", "--require", "softmax.clean >= 0"]):
        said = run(*command, "--published", code=2)
        assert "No published numbers came with this pclbench." in str(said.output)
    assert "two folders" in run("verify", evidence, "--published", code=2).output
    assert (
        "nothing new is made there" in run("attack", "softmax", "--home", evidence, code=2).output
    )
    words = ("store", "merge", tmp_path, "--home", evidence)
    assert "nothing new is made there" in run(*words, code=2).output


def test_a_list_shows_what_is_published(evidence):
    listed = json.loads(run("store", "list", "--home", evidence, "--format", "json").stdout)
    kinds = [row["kind"] for row in listed["rows"]]
    assert kinds == ["training", "measurement", "measurement", "strip", "other"]
    (strip,) = (row for row in listed["rows"] if row["kind"] == "strip")
    identity = strip["file"].rpartition("/")[2].removesuffix(".png")
    shown = json.loads(
        run("store", "show", identity, "--home", evidence, "--format", "json").stdout
    )
    assert shown["rows"][0]["kind"] == "measurement"


@pytest.mark.parametrize("named", ["DIR", "--published"])
def test_published_numbers_are_taken_into_a_workspace(
    installed, evidence, measured, tmp_path, named
):
    """There, a model of one's own stands beside them."""
    folder = evidence if named == "DIR" else named
    said = run("store", "merge", folder, "--home", tmp_path / "mine").stderr
    assert "1 training, 2 measurements" in said
    assert rows("--home", tmp_path / "mine") == rows("--home", measured)


@pytest.mark.parametrize("words", [[], ["--published", "other"]])
def test_one_workspace_is_merged_at_a_time(installed, words):
    assert "Name its folder" in run("store", "merge", *words, code=2).stderr
