"""What is done of a plan: what fits, what is chosen, and what goes on when something fails."""

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from documents import read_rows
from typer.testing import CliRunner

from robustbench_pcl import FGSM, Workspace
from robustbench_pcl.cli.app import app
from robustbench_pcl.data import loader
from robustbench_pcl.pipeline.executors import Local
from robustbench_pcl.pipeline.runs import read_run, stored_runs
from robustbench_pcl.pipeline.tasks import Generate
from robustbench_pcl.progress import read_duration
from robustbench_pcl.store.records import Paths

CLAIM = Path(__file__).parents[2] / "suites/claim.toml"
Usage = namedtuple("Usage", "total used free")


def run(words, home, code=0):
    command = [*words.split(), "--device", "cpu", "--home", str(home)]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return result


def said(result):
    """What was said, without its line breaks."""
    return " ".join(result.stderr.split())


@pytest.fixture
def suite(tmp_path):
    """A suite of one recipe, two attacks, and the data sets that are named."""

    def write(*datasets):
        path = tmp_path / "suite.toml"
        path.write_text(
            f'datasets = {json.dumps(datasets)}\ntargets = ["softmax"]\nscale = "demo"\n'
            'images = 20\n[[attack]]\nname = "fgsm"\n[[attack]]\nname = "pgd"\n'
        )
        return path

    return write


@pytest.fixture
def asked(monkeypatch):
    """The titles of the tasks that would be done; none is."""
    titles = []

    def note(executor, work, artefacts, run, terms):
        titles.extend(task.title for task, _ in work)

    monkeypatch.setattr(Local, "perform", note)
    return titles


@pytest.fixture
def files(tiny_workspace, tiny):
    """Two models as they are named on the command line."""
    return [tiny_workspace.train(tiny(name)).path for name in ("softmax", "ours")]


def test_a_plan_says_how_much_of_what_how_long_and_how_much_room(suite, tmp_path, asked):
    result = run(f"run --suite {suite('digits')}", tmp_path)
    assert "6 of 6 tasks to do (1 train, 2 generate, 3 measure), about" in said(result)
    assert "MB of" in said(result)
    assert all(len(line) <= 80 for line in result.stderr.splitlines())
    rows = json.loads(
        run(f"run --suite {suite('digits')} --dry-run --format json", tmp_path).stdout
    )["rows"]
    assert {row["kind"] for row in rows} == {"train", "generate", "measure"}
    sizes = {row["kind"]: row["bytes"] for row in rows}
    assert sizes["generate"] == pytest.approx(0.6 * 20 * 64 * 4, abs=1)  # images of 8 x 8 floats
    assert sizes["train"] > sizes["measure"] > 0


def test_the_claim_is_planned_without_torch(tmp_path):
    program = (
        "import sys\nfrom robustbench_pcl.cli.app import app\ntry: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\nassert 'torch' not in sys.modules"
    )
    words = ["run", "--suite", str(CLAIM), "--dry-run", "--home", str(tmp_path)]
    command = [sys.executable, "-c", program, *words]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    assert len(told.stdout.splitlines()) > 700


def test_what_does_not_fit_on_the_disk_is_refused(suite, tmp_path, monkeypatch, asked):
    words = f"run --suite {suite('digits')}"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 50_000))
    refused = said(run(words, tmp_path, code=2))
    assert "are needed in" in refused
    assert "--home DIR" in refused
    assert asked == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 1_700_000))
    assert "nearly full" in said(run(words, tmp_path))
    assert len(asked) == 6


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["train"], {"train softmax on digits"}),
        (["FGSM*"], {"train softmax on digits", "FGSM, eps 0.1 on softmax, digits"}),
        (["clean", "PGD, eps 0.1 on"], {"PGD, eps 0.1 on softmax, digits"}),
    ],
)
def test_only_what_matches_is_done_and_what_it_needs(patterns, found, suite, tmp_path, asked):
    words = [f"--only={pattern}" for pattern in patterns]
    command = ["run", "--suite", str(suite("digits")), "--device", "cpu", "--home", str(tmp_path)]
    result = CliRunner().invoke(app, [*command, *words], catch_exceptions=False)
    assert result.exit_code == 0
    assert found <= set(asked)
    assert len(asked) < 6
    assert result.stdout.strip() == ""


def test_nothing_matches(suite, tmp_path, asked):
    result = run(f"run --suite {suite('digits')} --only cifar", tmp_path, code=2)
    assert "No task matches cifar." in result.stderr


def test_nothing_is_begun_that_would_end_too_late(suite, tmp_path):
    words = f"run --suite {suite('digits')} --limit-time 0.5s"
    result = run(words, tmp_path)
    assert "Left by --limit-time 0.5s: 6 of 6 steps. Continue with: " in said(result)
    assert not Paths(tmp_path).checkpoints.exists()
    (folder,) = stored_runs(Paths(tmp_path).jobs)
    assert {task.state for task in read_run(folder).tasks} == {"left"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1 d 12 H", 129_600),
        ("0.5h", 1800),
        *((wrong, None) for wrong in ("", "2", "h", "0s", "-1h", "1m2h", "1e9h", "9" * 400 + "h")),
    ],
)
def test_lengths_of_time(text, seconds, tmp_path):
    if seconds:
        assert read_duration(text) == seconds
    else:
        words = ["train", "digits", "--limit-time", text, "--home", str(tmp_path)]
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 2
        assert "is no length of time" in result.stderr


def test_data_that_are_not_there_leave_out_their_rows(suite, tmp_path, asked, monkeypatch):
    monkeypatch.setattr(loader, "SOURCES", loader.LOCAL_SOURCES)
    monkeypatch.delenv("PCLBENCH_DATA", raising=False)
    result = run(f"run --suite {suite('digits', 'svhn')} --format json", tmp_path)
    assert result.stderr.count("SVHN was not found") == 1
    assert "pclbench data add svhn FILE" in result.stderr
    assert len(asked) == 6
    assert not any("svhn" in title for title in asked)
    assert "SVHN was not found" in run(f"run --suite {suite('svhn')}", tmp_path, code=2).stderr


@pytest.fixture
def one_fails(tiny_workspace, tiny):
    """A damaged file stands where one of the sets ought to be."""
    made = Generate(tiny("ours"), FGSM(eps=0.1), 20, mode="fast").specification(tiny_workspace)
    folder = tiny_workspace.paths.adversarial_sets
    folder.mkdir(parents=True)
    (folder / f"{made.id}.h5").write_text("nothing of the kind")


def test_what_does_not_need_a_task_that_failed_is_done_and_shown(files, one_fails, tmp_path):
    words = "transfer " + " ".join(f"--source {file}" for file in reversed(files))
    words += f" --target {files[0]} --attack fgsm --images 20 --format json"
    stopped = run(words, tmp_path, code=2)
    assert stopped.stdout == ""
    result = run(f"{words} --keep-going", tmp_path, code=2)
    (row,) = read_rows(result.stdout, "measurements")
    assert row["source"] == "softmax"
    assert "failed: softmax under FGSM, eps 0.1 from ours" in said(result)
    assert "pclbench jobs status" in said(result)
    assert "pclbench: 1 step failed." in result.stderr
    record = read_run(stored_runs(Paths(tmp_path).jobs)[-1])
    assert [task.state for task in record.of("failed")] == ["failed"]
    assert "Move it away" in record.of("failed")[0].cause


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("--workers 0", "--workers"),
        ("--workers 2 --executor-option workers=3", "say the same thing"),
        ("--executor-option workers=2", "There is no option of executor local"),
        ("--executor slurm --executor-option workers=x", "workers"),
    ],
)
def test_numbers_of_workers_that_make_no_sense(words, cause, tmp_path):
    assert cause in run(f"ablate digits {words}", tmp_path, code=2).stderr


def test_workers_are_those_of_the_executor(tmp_path, monkeypatch):
    from robustbench_pcl.pipeline.executors import Cluster

    seen = []
    monkeypatch.setattr(Cluster, "perform", lambda self, *_: seen.append((self.name, self.workers)))
    for words in ("--workers 3", "--workers 3 --executor slurm", "--executor slurm"):
        run(f"train digits --scale demo {words} --limit-time 0.001s --keep-going", tmp_path)
    assert seen == [("workers", 3), ("slurm", 3), ("slurm", 0)]
    assert Workspace(tmp_path, device="cpu").paths.checkpoints.exists() is False
