"""How many images the engine passes at once."""

import pytest

from robustbench_pcl.engine import victim


@pytest.fixture
def batches_of(monkeypatch):
    """Set the number of images a pass."""
    return lambda size: monkeypatch.setitem(victim.BATCH, "cpu", size)
