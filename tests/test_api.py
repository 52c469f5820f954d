"""What a notebook types, from the top of the package."""

import subprocess
import sys

import pytest
import torch

import robustbench_pcl


@pytest.mark.parametrize("name", robustbench_pcl.__all__)
def test_every_public_name_is_there_and_offered(name):
    assert getattr(robustbench_pcl, name) is not None
    assert name in dir(robustbench_pcl)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="'bench'"):
        robustbench_pcl.bench  # noqa: B018
    with pytest.raises(ImportError):
        from robustbench_pcl import bench  # noqa: F401


def test_attacks_are_also_where_attacks_are():
    from robustbench_pcl import PGD
    from robustbench_pcl.attacks import PGD as SAME

    assert PGD is SAME


def test_an_attack_is_called_on_a_model_and_returns_images():
    from robustbench_pcl import PGD

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    images, labels = torch.rand(5, 1, 2, 2), torch.arange(5) % 3
    generator = torch.Generator().manual_seed(1)
    adversarial = PGD(eps=8 / 255)(model, images, labels, generator=generator)
    assert adversarial.shape == images.shape
    assert (adversarial - images).abs().max() <= 8 / 255 + 1e-6


NOTEBOOK = """
import sys
from robustbench_pcl import CW, FGSM, PGD, Workspace, load_attack, load_recipe, results, table
load_recipe("ours-pgd", "mnist")
load_attack("pgd", "mnist").label, PGD(eps=8/255), CW(c=1)
assert len(results(Workspace())) == 0
assert "torch" not in sys.modules
"""


def test_torch_waits_until_something_is_computed(tmp_path):
    subprocess.run([sys.executable, "-c", NOTEBOOK], cwd=tmp_path, check=True)
