"""Reports to be read by tests: tables with known numbers, what they should show, HTML parsed."""

from __future__ import annotations

from html.parser import HTMLParser

from fabricated import make_answer, make_evidence

from robustbench_pcl.paper.tables import published
from robustbench_pcl.report.formatting import show_difference, show_measured, show_published
from robustbench_pcl.report.table import report_table


def filled(number=3, *datasets, skip=()):
    """A table whose cells hold 3.1, 3.8, 4.5, ... from top left, but for the skipped ones."""
    answers = [
        make_answer(position.cell, 3.1 + 0.7 * index)
        for dataset in datasets or ("cifar10",)
        for index, position in enumerate(published(number).positions(dataset))
        if index not in skip
    ]
    return report_table(number, make_evidence(answers), datasets)


def shown(table):
    """Rows of measured, published and differing numbers as they should be printed."""
    return [
        (
            [entry.words or show_measured(entry.measured) for entry in row.entries],
            ["" if entry.words else show_published(entry.published) for entry in row.entries],
            [show_difference(entry.difference) for entry in row.entries],
        )
        for section in table.sections
        for row in section.rows
    ]


def notes(table) -> str:
    """All footnotes, without the blanks that do not break."""
    text = "\n".join(note for section in table.sections for note in section.footnotes)
    return text.replace("\N{NO-BREAK SPACE}", " ")


class Cells(HTMLParser):
    """The numbers of an HTML table's body, and a check that every element is closed."""

    VOID = frozenset({"meta", "br", "path", "use", "rect", "img", "link"})

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.ids, self.references = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.references += [attributes[n] for n in ("src", "href", "xlink:href") if n in attributes]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        if "td" in self.open and "sup" not in self.open:
            self.rows[-1][-1] += data


def parsed(text: str) -> Cells:
    cells = Cells()
    cells.feed(text)
    cells.close()
    assert cells.open == []
    assert len(cells.ids) == len(set(cells.ids))
    return cells
