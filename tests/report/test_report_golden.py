"""Whole reports, byte for byte, and that no number can change its place unseen."""

from __future__ import annotations

import difflib
import itertools

import pytest
from fabricated import make_answers, make_evidence
from golden_files import FOLDER, cases, datasets_of, fill, number_of, printed

from robustbench_pcl.paper.table import PaperTable, published, published_numbers
from robustbench_pcl.report.formats.render import render
from robustbench_pcl.report.tables.table import report_table
from robustbench_pcl.store.records import Measurement, TrainingRecord

CASES = dict(cases())
HINT = "python tests/report/golden_files.py writes the files anew"


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """A folder a table, filled when it is first asked for."""
    filled = {}

    def home(number):
        if number not in filled:
            filled[number] = tmp_path_factory.mktemp(f"table{number}")
            fill(filled[number], number)
        return filled[number]

    return home


@pytest.mark.parametrize("name", CASES)
def test_what_is_printed_is_what_is_in_the_file(name, homes):
    words = CASES[name]
    found = printed(words, homes(number_of(words)))
    wanted = (FOLDER / name).read_text(encoding="utf-8")
    if found != wanted:
        lines = difflib.unified_diff(
            wanted.splitlines(), found.splitlines(), name, " ".join(words), lineterm=""
        )
        pytest.fail("\n".join([HINT, *lines]))


def test_there_is_a_file_for_each_command_and_no_other():
    assert {path.name for path in FOLDER.iterdir()} == set(CASES)


def text_of(number, answers):
    return render(report_table(number, make_evidence(answers), datasets_of(number)), "text")


def golden_text(number):
    return (FOLDER / f"table{number:02}.txt").read_text(encoding="utf-8")


def value_fields(record):
    if isinstance(record, TrainingRecord):
        return {"seconds_per_epoch": record.seconds_per_epoch}
    names = ("correct", "interval", "verdicts", "correct_8bit")
    return {name: getattr(record, name) for name in names}


@pytest.mark.parametrize("number", published_numbers())
def test_a_measured_number_that_moves_to_the_next_cell_is_seen(number):
    answers = make_answers(number, datasets_of(number))
    assert text_of(number, answers) == golden_text(number)
    for place, (one, two) in enumerate(itertools.pairwise(answers)):
        moved = list(answers)
        moved[place] = one.model_copy(update=value_fields(two))
        moved[place + 1] = two.model_copy(update=value_fields(one))
        assert text_of(number, moved) != golden_text(number), (one, two)


def with_next_swapped(paper: PaperTable, section: int, place: int) -> PaperTable | None:
    """The table with a printed number and the next one swapped, None if they are equal."""
    printed = paper.sections[section]
    width = len(paper.columns)
    values = [value for row in printed.values for value in row]
    if values[place] == values[place + 1]:
        return None
    values[place : place + 2] = values[place + 1], values[place]
    rows = tuple(tuple(values[at : at + width]) for at in range(0, len(values), width))
    sections = list(paper.sections)
    sections[section] = printed.model_copy(update={"values": rows})
    return paper.model_copy(update={"sections": tuple(sections)})


@pytest.mark.parametrize("number", published_numbers())
def test_a_published_number_that_moves_to_the_next_cell_is_seen(number, monkeypatch):
    answers, paper = make_answers(number, datasets_of(number)), published(number)
    places = range(len(paper.rows) * len(paper.columns) - 1)
    swaps = [
        with_next_swapped(paper, section, place)
        for section in range(len(datasets_of(number)))
        for place in places
    ]
    swaps = [swapped for swapped in swaps if swapped is not None]
    assert len(swaps) > len(paper.rows)
    for swapped in swaps:
        monkeypatch.setattr("robustbench_pcl.report.tables.table.published", {number: swapped}.get)
        assert text_of(number, answers) != golden_text(number)


def test_no_two_cells_of_a_table_are_answered_alike():
    for number in published_numbers():
        answers = make_answers(number, datasets_of(number))
        values = [
            record.accuracy if isinstance(record, Measurement) else record.seconds_per_epoch
            for record in answers
        ]
        assert len(set(values)) == len(values)
