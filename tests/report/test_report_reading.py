"""What readers see: marks, intervals, remarks, numbers."""

from __future__ import annotations

import re

import pytest
from fabricated import make_evidence, make_training
from reading import filled

from robustbench_pcl.report.formatting import (
    MINUS,
    listed,
    show_budget,
    show_difference,
    show_measured,
    show_published,
    span,
    superscript,
)
from robustbench_pcl.report.render import FORMATS, render
from robustbench_pcl.report.table import report_table
from robustbench_pcl.report.text import terminal_text


def test_intervals_are_shown_on_demand():
    table = filled(11)
    low, high = table.sections[0].rows[0].entries[0].interval
    for form, interval in (
        ("md", f"3.1 [{low:.1f} to {high:.1f}] (90.8"),
        ("html", f"<small>{low:.1f} to {high:.1f}</small>"),
        ("latex", rf"\scriptsize \quad from & \scriptsize {low:.1f} &"),
    ):
        assert interval in render(table, form, interval=True)
        assert interval not in render(table, form)
    text = render(table, "text", interval=True)
    assert re.search(rf"  from +{low:.1f} .*\n  to +{high:.1f} ", text)
    assert "n = 10,000 images" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "  from" not in render(table, "text")


def test_figures_of_a_training_have_no_interval():
    table = report_table(12, make_evidence([make_training()]))
    for form in FORMATS:
        assert "2.5" in render(table, form, interval=True)
    assert "  from" not in render(table, "text", interval=True)


def test_the_terminal_shows_the_best_bold_and_the_papers_numbers_dim():
    text = terminal_text(filled(11))
    styles = {text.plain[span.start : span.end].strip(): str(span.style) for span in text.spans}
    assert styles["18.5*"] == "bold"
    assert styles["paper"] == styles["67.71"] == styles["diff."] == "dim"


def test_the_white_box_diagonal_of_a_matrix_is_underlined():
    table = filled(13)
    text = terminal_text(table)
    underlined = [
        text.plain[span.start : span.end] for span in text.spans if "underline" in str(span.style)
    ]
    assert [words.strip("* ") for words in underlined] == ["3.1", "6.6", "10.1", "13.6"]
    assert render(table, "md").count("<u>") == 4
    assert render(table, "latex").count(r"\underline") == 4
    assert len(re.findall(r'<td class="[^"]*white-box', render(table, "html"))) == 4


def test_remarks_are_numbered_where_they_apply():
    table = filled(3)
    number = next(n for n, text in enumerate(table.remarks, 1) if text.startswith("Probably"))
    raised = superscript(number)
    assert f"5.7{raised}" in render(table, "text")
    assert f"(5.7{raised}, " in render(table, "md")
    latex = render(table, "latex")
    (note,) = re.findall(r"superscript\{(\d)\}Probably a misprint", latex)
    assert rf"\itshape 5.7\rlap{{\textsuperscript{{{note}}}}}" in latex
    assert f"<small>5.7<sup>{number}</sup></small>" in render(table, "html")
    assert f"{raised} Probably a misprint" in render(table, "text")


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (show_measured(None), "–"),
        (show_measured(0), "0.0"),
        (show_measured(100), "100"),
        (show_measured(99.96), "100"),
        (show_measured(0.042, "seconds_per_epoch"), "0.042"),
        (show_measured(123.44, "seconds_per_epoch"), "123.4"),
        (show_measured(0, "seconds_per_epoch"), "0.0"),
        (show_measured(1, "seconds_per_epoch"), "1.0"),
        (show_measured(9.96, "seconds_per_epoch"), "10"),
        (show_difference(None), ""),
        (show_difference(0.04), "0.0"),
        (show_difference(-0.04), "0.0"),
        (show_difference(1.26), "+1.3"),
        (show_difference(-40), f"{MINUS}40.0"),
        (show_difference(-150, "epochs"), f"{MINUS}150"),
        (show_measured(300, "epochs"), "300"),
        (show_published(None), "–"),
        (show_published(98.71), "98.71"),
        (show_published(4.9), "4.9"),
        (show_published(164, "epochs"), "164"),
        (show_budget(0.03, 0.1), "eps = 0.03, c = 0.1"),
        (show_budget(8 / 255, None), "eps = 8/255"),
        (show_budget(0.0123456, None), "eps = 0.0123"),
        (show_budget(None, None), ""),
        (listed([]), ""),
        (listed(["a"]), "a"),
        (listed(["a", "b", "c"]), "a, b and c"),
        (span([3, 1, 2]), "1 to 3"),
        (span([0.25]), "0.25"),
    ],
)
def test_formatting(shown, text):
    assert shown == text
