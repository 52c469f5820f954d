"""What tests of crafting share."""

import shutil

import pytest

from robustbench_pcl.evaluation.shards import OpenShards


@pytest.fixture
def home(tiny_home, tmp_path):
    """Checkpoints to attack, and nothing else yet."""
    shutil.copytree(tiny_home / "checkpoints", tmp_path / "home" / "checkpoints")
    return tmp_path / "home"


@pytest.fixture
def crafted(monkeypatch):
    """The first index of every shard that is begun."""
    begun, begin = [], OpenShards.open

    def spy(self, indices, *arrays):
        begun.append(int(indices[0]))
        begin(self, indices, *arrays)

    monkeypatch.setattr(OpenShards, "open", spy)
    return begun
