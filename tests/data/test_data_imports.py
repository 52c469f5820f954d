"""Importing the package of data sets is quick."""

import subprocess
import sys

HEAVY = {"torch", "torchvision", "sklearn", "scipy", "pandas"}


def test_only_batches_import_torch():
    code = (
        "import sys, robustbench_pcl.data.loader, robustbench_pcl.data.datasets; "
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_names_and_settings_cost_no_arrays():
    code = (
        "import sys, robustbench_pcl.data.datasets; "
        "print(sorted({'numpy', 'PIL', 'torch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
