"""What tests of sets and accuracies share."""

import pytest

from robustbench_pcl.evaluation.generate import Shards


@pytest.fixture
def begun(monkeypatch):
    """The first index of every shard that is begun."""
    found, chunks = [], Shards.chunks

    def spy(self, runs, *given):
        runs = list(runs)
        found.extend(int(run[0]) for run in runs)
        return chunks(self, runs, *given)

    monkeypatch.setattr(Shards, "chunks", spy)
    return found
