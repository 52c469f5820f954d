"""Whatever a file says: data that verifies, or two lines; never a traceback, a hang, the memory.

Each reader is given a small real file with seeded changes, and files that were made to do harm. A
worker process reads them, watched for time, memory and what it opens; see ``worker.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from driver import Driver
from readers import READERS
from structural import HOSTILE

CASES = {name: reader.cases for name, reader in READERS.items()}
LONG = 14
"""How many times more cases the slow form has."""
WORKS = {
    *("suite: byte order mark", "suite: a string for a list", "suite: no parts"),
    "suite: attack with steps = 1000000000000",
}
"""Odd, but answered with data."""
NOTICED = {
    "raises": "JSONDecodeError",
    "takes memory": "MemoryError",
    "looks outside": "opened ",
    "tells": "the content of another file",
    "ends": "it ended the process",
}


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    with Driver(tmp_path_factory.mktemp("fuzz")) as made:
        yield made


def chance(name: str, numbers: range) -> list[dict[str, str]]:
    return [{"reader": name, "seed": f"{name} {number}"} for number in numbers]


def test_there_are_enough_cases():
    assert sum(CASES.values()) + len(HOSTILE) >= 3000
    assert sum(CASES.values()) * LONG >= 50_000


@pytest.mark.parametrize("name", READERS)
def test_a_whole_file_is_read_and_a_changed_one_never_does_harm(driver, name):
    assert driver.outcome({"reader": name, "seed": ""}) == "data"
    wrong, counts = driver.failures(chance(name, range(CASES[name])))
    assert wrong == []
    assert name in ("evidence", "values", "part of a set") or counts["refused"] > 0


@pytest.mark.parametrize("name", READERS)
def test_files_that_were_made_to_do_harm(driver, name):
    cases = [
        {"reader": name, "hostile": title}
        for title, (reader, _) in HOSTILE.items()
        if reader == name
    ]
    wrong, _ = driver.failures(cases)
    assert wrong == []


@pytest.mark.parametrize("title", sorted(WORKS))
def test_odd_but_plain_values_work(driver, title):
    assert driver.outcome({"reader": HOSTILE[title][0], "hostile": title}) == "data"


@pytest.mark.parametrize("name", NOTICED)
def test_harm_would_be_noticed(driver, name):
    assert NOTICED[name] in driver.outcome({"reader": name, "seed": ""})


def test_a_hang_would_be_noticed(tmp_path):
    with Driver(tmp_path, longest=2) as driver:
        assert driver.outcome({"reader": "raises", "seed": ""}) != ""
        assert driver.outcome({"reader": "sleeps", "seed": ""}) == "no answer"
        assert driver.outcome({"reader": "measurement", "seed": ""}) == "data"


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_more_changes(driver, name):
    more = range(CASES[name], LONG * CASES[name])
    assert driver.failures(chance(name, more))[0] == []
