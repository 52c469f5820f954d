"""Progress: on standard error only, silent by default, and durations in words."""

import time

import pytest

from robustbench_pcl import progress
from robustbench_pcl.progress import Progress, TerminalProgress, counted, spoken, tracked


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (4.24, "4.2 s"),
        (59.9, "59.9 s"),
        (59.97, "1 min 00 s"),
        (60, "1 min 00 s"),
        (185.4, "3 min 05 s"),
        (119.6, "2 min 00 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations(seconds, words):
    assert spoken(seconds) == words


@pytest.mark.parametrize(
    ("count", "thing", "words"),
    [
        (0, "task", "0 tasks"),
        (1, "task", "1 task"),
        (2000, "training record", "2,000 training records"),
        (1, "diagnosis", "1 diagnosis"),
        (2, "diagnosis", "2 diagnoses"),
        (3, "process", "3 processes"),
    ],
)
def test_one_thing_is_singular(count, thing, words):
    assert counted(count, thing) == words


def work(reporter):
    with reporter.task("outer", 2) as outer:
        with reporter.task("inner [red]", 10) as inner:
            inner(4, "")
            inner(6, "loss 0.1")
        outer(2, "")
    reporter.say("a [bold]line[/bold]")


def test_nothing_is_shown_by_default(capsys):
    work(Progress())
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", -1)
    work(TerminalProgress())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "\x1b" not in captured.err
    inner, outer, said = captured.err.splitlines()
    assert inner.startswith("inner [red]: ")
    assert inner.endswith(", loss 0.1")
    assert outer.startswith("outer: ")
    assert said == "a [bold]line[/bold]"


def test_what_is_quick_leaves_no_line(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 60)
    work(TerminalProgress())
    assert capsys.readouterr().err == "a [bold]line[/bold]\n"


def test_bars_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich, a terminal
    monkeypatch.setenv("TERM", "xterm-256color")
    with TerminalProgress().task("outer", 4) as advance:
        advance(1, "so far")
        time.sleep(0.3)  # bars are drawn ten times per second
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "outer" in captured.err
    assert "25%" in captured.err
    assert "so far" in captured.err


def test_an_exception_ends_the_display(capsys):
    reporter = TerminalProgress()
    for _ in range(2):  # the second one would not start over a display that is still there
        with pytest.raises(KeyboardInterrupt), reporter.task("outer", 1):
            raise KeyboardInterrupt
    reporter.say("what follows")
    assert capsys.readouterr().err == "what follows\n"


@pytest.mark.parametrize(("patience", "shown"), [(60.0, False), (-1.0, True)])
def test_what_took_long_leaves_a_line(patience, shown, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", patience)
    items = tracked(range(3), "read", 3, TerminalProgress())
    assert list(items) == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("read: ") is shown
