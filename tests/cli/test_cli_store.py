"""``pclbench store``: what it prints, what it removes, what it refuses, for people and programs."""

import shutil
import subprocess
import sys

import pytest
from documents import read_rows
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app


@pytest.fixture(scope="module")
def measured(tiny_home, tmp_path_factory):
    """A workspace with a model that was measured clean and attacked; to be read only."""
    from robustbench_pcl import Workspace

    folder = tmp_path_factory.mktemp("stored")
    shutil.copytree(tiny_home, folder, dirs_exist_ok=True)
    (softmax,) = (folder / "checkpoints").glob("*-softmax-*")
    workspace = Workspace(folder, device="cpu")
    workspace.measure(workspace.open(softmax), "fgsm", images=10)
    return folder


@pytest.fixture
def home(measured, tmp_path):
    return shutil.copytree(measured, tmp_path / "home")


def run(*words, code=0):
    result = CliRunner().invoke(app, ["store", *(str(word) for word in words)])
    assert result.exit_code == code, result.output
    return result


def files(home):
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}


def listed(home, *words):
    return read_rows(run("list", "--home", home, "--format", "json", *words).stdout, "inventory")


def test_a_list_says_what_is_there_and_how_large(measured):
    rows = listed(measured)
    assert {row["file"] for row in rows} == files(measured)
    assert all(row["bytes"] == (measured / row["file"]).stat().st_size for row in rows)
    (images,) = listed(measured, "--kind", "set")
    about = {
        "source": "softmax",
        "target": None,
        "dataset": "digits",
        "n": 10,
        "kind": "set",
        "scale": "demo",
    }
    assert about.items() <= images.items()
    assert images["attack"].startswith("FGSM")
    printed = run("list", "--home", measured)
    assert max(map(len, printed.stdout.splitlines())) <= 80
    assert "Adversarial sets: 1, " in printed.stdout
    assert images["id"] in printed.stdout
    assert f"{len(rows)} in all, " in printed.stderr
    table = run("list", "--home", measured, "--format", "csv").stdout.splitlines()
    assert len(table) == len(rows) + 1


def test_a_damaged_file_is_listed_as_damaged(home):
    (path,) = (home / "results/measurements").iterdir()
    path.write_text("<<<<<<< ours")
    (row,) = listed(home, "--kind", "measurement")
    assert "merge" in row["damage"]
    assert "damaged" in run("list", "--home", home, "--kind", "measurement").stdout
    assert "merge" in " ".join(run("show", path.stem, "--home", home).stdout.split())


def test_one_artefact_is_shown_with_what_it_rests_on_and_what_makes_it_again(measured):
    (number,) = listed(measured, "--kind", "measurement")
    (images,) = listed(measured, "--kind", "set")
    shown = run("show", number["id"], "--home", measured, "--format", "json").stdout
    (said,) = read_rows(shown, "artefact")
    assert images["file"] in said["made_from"]
    assert said["not_here"] == []
    assert said["command"].startswith("pclbench transfer --source ")
    assert said["record"]["adversarial_set"] == images["id"]
    text = run("show", images["id"][:6], "--home", measured).stdout
    lines = text.replace(str(measured), "home").splitlines()
    assert max(map(len, lines)) <= 80  # but a file's name is never broken
    assert f"made of it: {number['file']}" in text
    assert "attack.name: fgsm" in text


def test_prune_shows_before_it_removes(home):
    before = files(home)
    shown = run("prune", "--sets", "--home", home)
    assert "Would go: 1 file" in shown.stderr
    assert files(home) == before
    (images,) = listed(home, "--kind", "set")
    assert "0 files" in run("prune", "--home", home, "--yes").stderr
    assert "0 files" in run("prune", "--sets", "--older-than", "1d", "--yes", "--home", home).stderr
    assert "0 files" in run("prune", "--sets", "--kind", "partial", "--yes", "--home", home).stderr
    assert files(home) == before
    assert f"{images['bytes']:,} bytes" in run("prune", "--sets", "--yes", "--home", home).stderr
    assert files(home) == before - {images["file"]}


def test_a_model_goes_only_where_it_is_named(home):
    before = files(home)
    model = next(row for row in listed(home, "--kind", "checkpoint") if row["target"] == "softmax")
    shown = run("prune", model["id"], "--home", home, "--format", "json")
    named = {row["file"] for row in read_rows(shown.stdout, "unneeded")}
    assert named == {model["file"], f"results/trainings/{model['id']}-{model['weights']}.json"}
    assert "What rests on it stays: " in shown.stderr
    run("prune", model["id"], "--home", home, "--yes")
    assert files(home) == before - named


def test_an_archive_goes_from_one_folder_to_another(measured, tmp_path):
    archive, new = tmp_path / "some.tar.gz", tmp_path / "new"
    wrote = run("export", archive, "--home", measured, "--model", "softmax")
    assert "1 training, 1 checkpoint, 1 set, 1 measurement" in wrote.stderr
    assert "Took in 1 training" in run("import", archive, "--home", new).stderr
    assert "nothing new; already here: 4." in run("import", archive, "--home", new).stderr
    refused = run("export", archive, "--home", measured, code=2).stderr
    assert "there already" in refused
    run("export", archive, "--home", measured, "--force")
    assert "Took in" in run("merge", measured, "--home", new).stderr
    assert files(new) == files(measured)


WRONG = {
    "no folder": (["list", "--home", "nowhere"], "There is no folder"),
    "no folder to merge": (["merge", "nowhere"], "Check the path that you gave."),
    "nobody": (["show", "zz"], "nothing called"),
    "no age": (["prune", "--older-than", "soon"], "no age"),
    "tables without sets": (["prune", "--keep-tables"], "is about sets"),
    "an id and sets": (["prune", "ab", "--sets"], "others asked for"),
    "a kind of archive": (["export", "x.rar"], "what kind of archive"),
    "a device": (["export", "/dev/null", "--force"], "is no file"),
    "a table": (["export", "x.tar", "--table", "99"], "table 99"),
    "no archive": (["import", "x.tar"], "no such file"),
    "itself": (["merge", "."], "this workspace itself"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_refused_in_two_lines(wrong, home, monkeypatch):
    monkeypatch.chdir(home)
    words, cause = WRONG[wrong]
    before = files(home)
    refused = run(*words, code=2).stderr
    assert cause in refused
    assert len(refused.splitlines()) == 2
    assert files(home) == before


def test_a_list_does_not_wait_for_torch(measured):
    program = (
        "import sys; from robustbench_pcl.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    words = [sys.executable, "-c", program, "store", "list", "--home", str(measured)]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == "False"
