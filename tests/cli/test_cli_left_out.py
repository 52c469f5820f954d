"""One bad file stops nothing else: it is left out, and said once, with what to do about it."""

import shutil
import warnings

import pytest
from damages import OF_ANY_FILE, OF_RECORDS, SECRET
from fabricated import (
    make_attack,
    make_certificate,
    make_diagnosis,
    make_measurement,
    make_model,
    make_recipe,
    make_training,
)
from store_artefacts import EMBEDDING, HERE, layout
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.bundle import choose
from robustbench_pcl.evidence.manifest import Selection
from robustbench_pcl.report.results import load_evidence, results
from robustbench_pcl.store.embeddings import save_embedding
from robustbench_pcl.store.formats import check_format
from robustbench_pcl.store.records import Paths, now, save_measurement, save_record, save_training

MEASURED = "results/measurements"
KINDS = {
    "measurements": OF_RECORDS,
    "trainings": OF_RECORDS,
    "diagnoses": OF_RECORDS,
    "certificates": OF_RECORDS,
    "embeddings": OF_ANY_FILE,
}
COMMANDS = {
    "table": ["report", "--table", "3"],
    "overview": ["report"],
    "model": ["report", "--model", "ours"],
    "figure": ["report", "--figure", "eps", "--model", "ours"],
    "page": ["report", "--page"],
    "check": ["check", "--require", "ours.pgd >= 40"],
}


OURS, STRONGER = make_model("ours"), make_attack("pgd", steps=40)
BAD = {
    "measurements": make_measurement(OURS, OURS, STRONGER, correct=300),
    "trainings": make_training(make_recipe(seed=1)),
    "diagnoses": make_diagnosis(OURS, STRONGER),
    "certificates": make_certificate(OURS, [(0.04, None)] * 10),
}
"""Of each kind of records one that may be spoilt."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Of each kind one file that may be spoilt, and others."""
    home = tmp_path_factory.mktemp("home")
    paths = Paths(home)
    save_measurement(paths, make_measurement(OURS))
    save_measurement(paths, make_measurement(OURS, OURS, make_attack("pgd")))
    save_training(paths, make_training())
    for kind, record in BAD.items():
        save_record(paths.results / kind, record.file_name, record)
    save_embedding(paths.embeddings, EMBEDDING, layout(), HERE, now())
    return home


def spoil(whole, folder, kind, name):
    """A copy of it with one file spoilt, and one without that file."""
    for copy in ("spoilt", "without"):
        shutil.copytree(whole, folder / copy)
    bad = BAD[kind].file_name if kind in BAD else EMBEDDING.id
    (path,) = (folder / "spoilt" / "results" / kind).glob(f"{bad}.*")
    (folder / "without" / path.relative_to(folder / "spoilt")).unlink()
    KINDS[kind][name](path)
    return folder / "spoilt", folder / "without", path


def run(home, *words):
    return CliRunner().invoke(app, [words[0], "--home", str(home), *words[1:]])


@pytest.mark.parametrize(
    ("kind", "damage"), [(kind, damage) for kind, damages in KINDS.items() for damage in damages]
)
def test_what_cannot_be_read_is_left_out_and_named_once(whole, tmp_path, kind, damage):
    spoilt, without, path = spoil(whole, tmp_path, kind, damage)
    found = []
    evidence, other = load_evidence(Paths(spoilt), found.append), load_evidence(Paths(without))
    for name in ("measurements", "trainings"):
        assert getattr(evidence, name).equals(getattr(other, name))
    assert evidence.diagnoses == other.diagnoses
    assert evidence.certificates == other.certificates
    assert len(evidence.embeddings) == len(other.embeddings)
    (error,) = found
    assert str(path) in error.cause
    assert error.cure
    assert SECRET not in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 500 + 3 * len(str(path))
    with pytest.raises(UserError):
        load_evidence(Paths(spoilt))


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        *((command, "measurements") for command in COMMANDS if command != "page"),
        *(("table", kind) for kind in KINDS if kind != "measurements"),
        ("page", "embeddings"),
    ],
)
def test_every_report_goes_on_and_says_what_is_missing(whole, tmp_path, command, kind):
    spoilt, without, path = spoil(whole, tmp_path, kind, "truncated")
    words = COMMANDS[command]
    result = run(spoilt, *words, "--strict")
    assert result.exit_code == 3, result.output
    assert result.stdout == run(without, *words, "--strict").stdout
    assert result.stderr.count(str(path)) == 1
    assert "Left out: " in result.stderr


@pytest.mark.parametrize("command", [COMMANDS["table"], COMMANDS["check"]])
def test_only_where_it_is_asked_for_is_that_an_error(whole, tmp_path, command):
    spoilt, without, _ = spoil(whole, tmp_path, "measurements", "truncated")
    assert run(spoilt, *command).exit_code == 0
    assert run(without, *command, "--strict").exit_code == 0


def test_a_bundle_is_written_without_it(whole, tmp_path):
    spoilt, _, path = spoil(whole, tmp_path, "measurements", "truncated")
    result = run(spoilt, "report", "--bundle", str(tmp_path / "bundle"), "--strict")
    assert result.exit_code == 3
    assert result.stderr.count(f"Left out: {path}") == 1
    assert (tmp_path / "bundle" / "bundle.json").exists()
    with pytest.raises(UserError, match=str(path)):
        choose(Paths(spoilt), Selection())


def test_a_requirement_that_does_not_hold_counts_more(whole, tmp_path):
    spoilt, _, _ = spoil(whole, tmp_path, "trainings", "truncated")
    assert run(spoilt, "check", "--require", "ours.pgd >= 99", "--strict").exit_code == 1


def test_a_notebook_is_warned(whole, tmp_path):
    spoilt, without, path = spoil(whole, tmp_path, "measurements", "truncated")
    with pytest.warns(UserWarning, match=f"Left out: {path}"):
        frame = results(spoilt)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert frame.equals(results(without))


def test_of_many_files_the_first_are_named(whole, tmp_path):
    spoilt, _, path = spoil(whole, tmp_path, "measurements", "truncated")
    for number in range(30):
        shutil.copyfile(path, path.with_name(f"worse-{number}.json"))
    result = run(spoilt, "report")
    assert result.stderr.count("Left out: ") == 10
    assert "Left out, too: 21 more files." in result.stderr


def test_what_a_newer_pclbench_wrote_says_so(whole, tmp_path):
    spoilt, _, _ = spoil(whole, tmp_path, "measurements", "a newer format")
    stderr = run(spoilt, "report").stderr
    assert "made by a newer pclbench" in stderr
    assert "pip install --upgrade pclbench" in stderr


def test_a_workspace_has_the_format_of_most_of_it(whole, tmp_path):
    home, _, _ = spoil(whole, tmp_path, "measurements", "a newer format")
    check_format(Paths(home))
    for path in Paths(home).results.rglob("*.json"):
        path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(UserError, match=r"has format 3, made by a newer pclbench"):
        check_format(Paths(home))
    assert run(home, "report").exit_code == 2
