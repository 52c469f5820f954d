"""What docs/export.md says of columns and names is so."""

import re
from pathlib import Path

from robustbench_pcl.data.foreign import IMAGES, INDICES, LABELS
from robustbench_pcl.report.per_image import COLUMNS

TEXT = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
TYPES = {
    "int64": "integer",
    "Int64": "integer",
    "float64": "number",
    "boolean": "true or false",
    "object": "text",
}


def test_every_column_is_described():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .{8,} \|$", TEXT, re.MULTILINE)
    assert rows == [(column.name, TYPES[column.dtype]) for column in COLUMNS]


def test_every_name_that_is_looked_for_is_there():
    for what, names in (("images", IMAGES), ("labels", LABELS), ("positions", INDICES)):
        (row,) = re.findall(rf"^\| {what} \| (.+?) \|", TEXT, re.MULTILINE)
        assert tuple(re.findall(r"`(\w+)`", row)) == names
