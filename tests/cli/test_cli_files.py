"""Where -o writes, what it never replaces, and what of others' text reaches a terminal."""

import csv
import io
import json
import os
import stat
import subprocess
import sys
import threading

import pandas as pd
import pytest
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.cli.output import say, write
from robustbench_pcl.errors import UserError, visible
from robustbench_pcl.report.formatting import csv_text

TABLE = ["report", "--table", "10"]
BEGINNINGS = {
    "md": b"Table 10.",
    "tex": b"% pclbench report --table 10",
    "csv": b"",
    "json": b"{",
    "html": b"<",
    "svg": b"<svg",
    "png": b"\x89PNG",
    "pdf": b"%PDF-",
}


@pytest.fixture(autouse=True)
def _own_notes(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PCLBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def run(*words, code=0):
    result = CliRunner().invoke(app, [*TABLE, *map(str, words)])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_the_end_of_the_name_says_the_format(suffix, tmp_path):
    path = tmp_path / f"table.{suffix}"
    run("-o", path)
    assert path.read_bytes().lstrip(b"*# ").startswith(BEGINNINGS[suffix])
    first = path.read_bytes()
    run("-o", path)
    assert path.read_bytes() == first


def test_a_name_and_a_format_that_contradict_each_other_are_refused(tmp_path):
    refused = run("--format", "csv", "-o", tmp_path / "table.md", code=2)
    assert "table.md would be md, and --format says csv." in refused.stderr
    assert run("--format", "csv", "-o", tmp_path / "table.csv").stdout == ""


@pytest.mark.parametrize(
    "words", [[*TABLE, "-o", "table.docx"], ["report", "--summary", "-o", "summary.png"]]
)
def test_a_name_that_says_no_format_is_refused(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert f"This cannot be written as {words[-1]}." in result.stderr
    assert "ends in .txt, .tex, .md" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_wrote_is_not_replaced(tmp_path):
    path = tmp_path / "table.md"
    path.write_text("mine")
    refused = run("-o", path, code=2)
    assert len(refused.stderr.splitlines()) == 2
    assert "--force" in refused.stderr
    assert path.read_text() == "mine"
    run("-o", path, "--force")
    assert path.read_text() != "mine"


def test_what_was_changed_since_is_not_replaced(tmp_path):
    path = tmp_path / "table.md"
    run("-o", path)
    path.write_text(f"{path.read_text()}\nMy own remark.\n")
    run("-o", path, code=2)
    assert "My own remark." in path.read_text()


def test_an_empty_file_is_nobodys(tmp_path):
    (tmp_path / "table.md").touch()
    run("-o", tmp_path / "table.md")


def test_a_link_stays_one(tmp_path):
    target, link = tmp_path / "there" / "table.md", tmp_path / "link.md"
    target.parent.mkdir()
    link.symlink_to(target)
    run("-o", link)
    assert link.is_symlink()
    assert target.read_text() == (run("--format", "md").stdout)
    target.write_text("mine")
    run("-o", link, code=2)
    assert target.read_text() == "mine"


def test_a_pipe_gets_what_is_written(tmp_path):
    pipe, found = tmp_path / "pipe.csv", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    run("-o", pipe)
    reader.join(20)
    assert found == [run("--format", "csv").stdout]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_one():
    before = os.lstat("/dev/null").st_mode
    assert run("-o", "/dev/null").stdout == ""
    assert os.lstat("/dev/null").st_mode == before


def test_standard_output_has_a_name(tmp_path):
    before = os.lstat("/dev/stdout").st_mode
    with (tmp_path / "printed").open("wb") as printed:
        words = [sys.executable, "-m", "robustbench_pcl", *TABLE, "-o", "/dev/stdout"]
        subprocess.run(words, stdout=printed, check=True, env={**os.environ, "COLUMNS": "80"})
    assert os.lstat("/dev/stdout").st_mode == before
    assert (tmp_path / "printed").read_text() == run().stdout


def test_a_dash_is_standard_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("-o", "-").stdout == run().stdout
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused(tmp_path):
    assert f"{tmp_path} is a folder." in run("-o", tmp_path, code=2).stderr


def test_the_page_has_a_place_of_its_own(tmp_path):
    words = ["report", "--page", "--home", str(tmp_path)]
    assert CliRunner().invoke(app, words).stdout == ""
    own = tmp_path / "results" / "report.html"
    assert CliRunner().invoke(app, [*words, "-o", "-"]).stdout == own.read_text()
    own.write_text("an older page")
    assert CliRunner().invoke(app, words).exit_code == 0
    refused = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "page.pdf")])
    assert "A page cannot be written as page.pdf." in refused.stderr


HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202eabc\u200b \x7f \r[bold]x[/bold]"
PLAIN = "\\u001b[31mred\\u001b]0;title\\u0007 \\u009b2J \\u202eabc\\u200b \\u007f \\r[bold]x[/bold]"


def test_no_sequence_of_others_reaches_the_terminal(capsys):
    assert visible(HOSTILE) == PLAIN
    assert visible("β ≤ 8/255\t50\N{NO-BREAK SPACE}%\n") == "β ≤ 8/255\t50\N{NO-BREAK SPACE}%\n"
    assert json.loads(f'"{visible(HOSTILE)}"') == HOSTILE
    say(HOSTILE)
    write(HOSTILE)
    printed = capsys.readouterr()
    assert (printed.err, printed.out) == (f"{PLAIN}\n", PLAIN)


def test_an_error_is_two_lines_whatever_it_names():
    error = UserError(f"There is no {HOSTILE}\nat all.", "See\nit.")
    assert (error.cause, error.cure) == (f"There is no {PLAIN} at all.", "See it.")


def test_a_model_of_a_hostile_name_is_named_harmlessly(tmp_path):
    words = ["report", "--home", str(tmp_path), "--model", HOSTILE]
    result = CliRunner().invoke(app, words)
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output


def test_cells_that_a_spreadsheet_would_compute_are_quoted():
    cells = ["=1+1", "+cmd", "-x", "@sum", "\t=1", "-1.5", "+3", "plain", None]
    frame = pd.DataFrame(
        {"text": cells, "number": [-1.0] * 9, "count": pd.array([-1] * 9, "Int64")}
    )
    found = list(csv.DictReader(io.StringIO(csv_text(frame))))
    quoted = ["'=1+1", "'+cmd", "'-x", "'@sum", "'\t=1", "-1.5", "+3", "plain", ""]
    assert [row["text"] for row in found] == quoted
    assert {(row["number"], row["count"]) for row in found} == {("-1.0", "-1")}
    assert frame["text"].tolist()[:-1] == cells[:-1]
