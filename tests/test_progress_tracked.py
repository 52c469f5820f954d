from __future__ import annotations

import pytest

from robustbench_pcl import progress


@pytest.mark.parametrize(("patience", "shown"), [(60.0, False), (-1.0, True)])
def test_what_took_long_leaves_a_line(patience, shown, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", patience)
    items = progress.tracked(range(3), "read", 3, progress.TerminalProgress())
    assert list(items) == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("read: ") is shown
