"""What tests of sets and accuracies share."""

import pytest

from robustbench_pcl.evaluation.generate import Clean


@pytest.fixture
def begun(monkeypatch):
    """For each stage that is run, the positions of the images that it takes."""
    found, chunks = [], Clean.chunks

    def spy(self, rows, seed):
        found.append(rows.tolist())
        return chunks(self, rows, seed)

    monkeypatch.setattr(Clean, "chunks", spy)
    return found
