"""An empty workspace."""

from pathlib import Path

import pytest

from robustbench_pcl.store.records import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)
