"""Where output goes: terminals of 80 columns, streams that lack characters, are full or closed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.cli.output import print_plan, print_rows

TABLE = "report --table 3 --dataset digits"
LISTING = "recipes list"


def run(words, tmp_path, *, out=subprocess.PIPE, **variables):
    environment = {**os.environ, "PCLBENCH_HOME": str(tmp_path), **variables}
    environment.pop("PYTHONUTF8", None)
    command = [sys.executable, "-m", "robustbench_pcl", *words.split()]
    return subprocess.run(command, env=environment, stdout=out, stderr=subprocess.PIPE, check=False)


@pytest.mark.parametrize(
    ("encoding", "words"), [("ascii", TABLE), ("cp1252", TABLE), ("ascii", "data list")]
)
def test_output_is_readable_in_every_encoding(tmp_path, monkeypatch, words, encoding):
    result = run(words, tmp_path, PYTHONIOENCODING=encoding)
    assert result.returncode == 0, result.stderr
    text = result.stdout.decode(encoding)
    assert "?" not in text
    monkeypatch.setenv("PCLBENCH_HOME", str(tmp_path))
    utf8 = CliRunner().invoke(app, words.split()).stdout
    words_only = re.compile(r"[A-Za-z0-9]+")
    assert len(text.splitlines()) == len(utf8.splitlines())
    assert set(words_only.findall(utf8)) <= set(words_only.findall(text))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_output_is_a_plain_error(tmp_path):
    with Path("/dev/full").open("w") as full:
        result = run(LISTING, tmp_path, out=full)
    cause, cure = result.stderr.decode().splitlines()
    assert cause == "pclbench: Cannot write the output: the disk is full."
    assert cure.startswith("  ")
    assert result.returncode == 2


def test_output_that_nobody_reads_ends_in_silence(tmp_path):
    read, written = os.pipe()
    os.close(read)
    with os.fdopen(written, "w") as closed:
        result = run(LISTING, tmp_path, out=closed)
    assert (result.returncode, result.stderr) == (141, b"")


def test_closed_output_ends_in_silence():
    command = f"{sys.executable} -m robustbench_pcl {LISTING} >&-"
    result = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")


PLAN = [
    {
        "task": "train ours-pgd on fmnist at scale quick, seed 0",
        "state": "missing",
        "seconds": 185.0,
    },
    {
        "task": "vgg19-advtrain under PGD-100 on margin, eps 8/255, from center-nearest, cifar10",
        "state": "done",
        "seconds": 0.0,
    },
    {
        "task": "t-SNE of layer 5 of ours-2d under C&W, c 10, 1000 steps, cifar100",
        "state": "missing",
        "seconds": None,
    },
]


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("show", [print_rows, print_plan])
def test_no_word_is_broken_at_any_width(show, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    show(PLAN)
    words = capsys.readouterr().out.split()
    for row in PLAN:
        for word in row["task"].split():
            assert word in words


SENTENCES = [
    {"name": "a", "from": "archive of-one-very-long-name.zip", "note": "8,068 of 50,000 images"},
    {"name": "b", "from": "a server", "note": "only so many of all the images that there are"},
]


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
def test_columns_of_sentences_share_the_width_and_lose_no_word(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    print_rows(SENTENCES)
    printed = capsys.readouterr().out
    words = [word for row in SENTENCES for cell in row.values() for word in cell.split()]
    assert set(printed.split()) >= {*words, "from", "note"}
    narrowest = len("name") + len("of-one-very-long-name.zip") + len("50,000") + 6
    assert max(map(len, printed.splitlines())) <= max(columns, narrowest)


def test_a_plan_says_how_long_each_task_takes(capsys):
    print_plan(PLAN)
    shown = capsys.readouterr().out
    assert [shown.count(word) for word in ("about 3 min 05 s", "done", "unknown")] == [1, 1, 1]


def test_plan_lines_fit_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    print_plan(PLAN)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
