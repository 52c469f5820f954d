"""Whole reports, byte for byte, and that no number can change its place unseen."""

from __future__ import annotations

import difflib
import itertools

import pytest
from fabricated import make_answers
from golden_files import CASES, FOLDER, NUMBERS, datasets_of, rendered

HINT = "python tests/report/golden_files.py writes the files anew"


@pytest.mark.parametrize("name", CASES)
def test_what_is_rendered_is_what_is_in_the_file(name):
    found = rendered(*CASES[name])
    wanted = (FOLDER / name).read_text(encoding="utf-8")
    if found != wanted:
        lines = difflib.unified_diff(
            wanted.splitlines(), found.splitlines(), name, "now", lineterm=""
        )
        pytest.fail("\n".join([HINT, *lines]))


def test_there_is_a_file_for_each_case_and_no_other():
    assert {path.name for path in FOLDER.iterdir()} == set(CASES)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_measured_number_that_moves_to_the_next_cell_is_seen(number):
    answers = make_answers(number, datasets_of(number)[:1])
    whole = rendered(number, "text", answers)
    values = ("correct", "interval", "verdicts", "correct_8bit")
    pairs = list(enumerate(itertools.pairwise(answers)))
    for place, (one, two) in pairs[:: len(pairs) // 40 or 1]:
        moved = list(answers)
        moved[place] = one.changed(**{name: getattr(two, name) for name in values})
        moved[place + 1] = two.changed(**{name: getattr(one, name) for name in values})
        assert rendered(number, "text", moved) != whole, (one, two)
