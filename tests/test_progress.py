"""Progress: on standard error only, silent by default, and durations in words."""

import pytest

from robustbench_pcl import progress
from robustbench_pcl.progress import Progress, TerminalProgress, spoken


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


def work(watcher):
    with watcher.task("outer", 2) as outer:
        with watcher.task("inner [red]", 10) as inner:
            inner(4, "")
            inner(6, "loss 0.1")
        outer(2, "")
    watcher.say("a [bold]line[/bold]")


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
    watcher = TerminalProgress()
    with watcher.task("outer", 4) as advance:
        advance(1, "so far")
        watcher._bars.refresh()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "outer" in captured.err
    assert "25%" in captured.err
    assert "so far" in captured.err


def test_an_exception_ends_the_display(capsys):
    watcher = TerminalProgress()
    for _ in range(2):  # the second one would not start over a display that is still there
        with pytest.raises(KeyboardInterrupt), watcher.task("outer", 1):
            raise KeyboardInterrupt
    assert not watcher._bars.tasks
    assert "outer" not in capsys.readouterr().err
