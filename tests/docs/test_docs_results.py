"""RESULTS.md prints what the published records say, and each number has its command."""

import re

import pytest

from tests.docs.results_file import BLOCK, RESULTS, filled


@pytest.mark.slow  # CI runs it beside the documents
def test_blocks_are_what_their_commands_print():
    text = RESULTS.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python tests/docs/results_file.py"


def test_a_block_that_says_otherwise_is_noticed():
    text = "a\n<!-- pclbench report --table 3 -->\nold\n<!-- end -->\nb\n"
    done = filled(text, lambda command: f"new: {command}")
    assert done != text
    assert "old" not in done
    assert "$ pclbench report --table 3\nnew: report --table 3\n" in done
    assert done == filled(done, lambda command: f"new: {command}")


@pytest.mark.parametrize("table", [3, 4, 5, 6, 8, 9, 11, 12, 13])
def test_each_table_of_numbers_is_there(table):
    text = RESULTS.read_text(encoding="utf-8")
    assert any(re.search(rf"--table {table}\b", block[1]) for block in BLOCK.finditer(text))
