"""What every source of images has in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from robustbench_pcl.data.dataset import RawDataset
from robustbench_pcl.data.spec import DatasetSpec


class NotHereError(Exception):
    """The data set could be here, but is not: where it was looked for, and why that failed."""


Find = Callable[[DatasetSpec, Path | None], RawDataset | None]
"""Look for a data set, given the folder of the user's own files if there is one.

Returns None if this source never has that data set, and raises ``NotHereError`` if it might have
had it.
"""
