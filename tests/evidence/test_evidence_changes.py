"""Of 500 single changes to a workspace none is read as another number, and each is found."""

import shutil

import pytest
from single_changes import damage, read

QUICK, ALL = 45, 500
NUMBERS = [
    pytest.param(number, marks=[] if number <= QUICK else [pytest.mark.slow])
    for number in range(1, ALL + 1)
]


@pytest.fixture(scope="module")
def before(unfinished_home):
    """All that is read of the workspace as it was made."""
    found = read(unfinished_home)
    assert len(found) == 21
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_no_single_change_is_believed(number, unfinished_home, before, verifier, tmp_path):
    home = shutil.copytree(unfinished_home, tmp_path / "home")
    what, forged = damage(home, number)
    now = read(home)
    if not forged:
        assert {name for name in now if now[name] != before.get(name)} == set(), what
    found = verifier.workspace(home)
    # HDF5 and safetensors have bytes that mean nothing.
    assert not found.holds or (now == before and "byte" in what), what
