"""What docs/export.md shows works as it stands there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from robustbench_pcl.data.foreign import IMAGES, INDICES, LABELS
from robustbench_pcl.report.per_image import COLUMNS
from robustbench_pcl.store.records import Paths

TEXT = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
TYPES = {
    "int64": "integer",
    "Int64": "integer",
    "float64": "number",
    "boolean": "true or false",
    "object": "text",
}


def test_every_column_is_described():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", TEXT, re.MULTILINE)
    assert rows == [(column.name, TYPES[column.dtype], column.meaning) for column in COLUMNS]


def test_every_name_that_is_looked_for_is_there():
    for what, names in (("images", IMAGES), ("labels", LABELS), ("positions", INDICES)):
        (row,) = re.findall(rf"^\| {what} \| (.+?) \|", TEXT, re.MULTILINE)
        assert tuple(re.findall(r"`(\w+)`", row)) == names


@pytest.mark.slow
def test_it_can_be_followed_from_top_to_bottom(tmp_path):
    """Python and commands in the order in which they stand there, in one folder."""
    blocks = re.findall(r"^```(python|)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert [kind for kind, _ in blocks].count("python") == 6
    for kind, block in blocks:
        if kind == "python":
            check([sys.executable, "-P", "-c", block], tmp_path)
            continue
        for line in block.splitlines():
            words = shlex.split(line)[1:]
            if "ID" in words:
                newest = max(Paths(tmp_path).measurements.iterdir(), key=os.path.getmtime)
                words[words.index("ID")] = newest.stem
            check([sys.executable, "-P", "-m", "robustbench_pcl", *words], tmp_path)


def check(words, folder):
    result = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
