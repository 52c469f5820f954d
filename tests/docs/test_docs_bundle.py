"""What docs/bundle.md shows works as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_it_can_be_followed_from_top_to_bottom(tmp_path):
    """Commands and Python in their order, in one folder; only the digest is another."""
    digest = ""
    for kind, block in BLOCKS:
        lines = [["-c", block]] if kind else [line.split()[1:] for line in block.splitlines()]
        for words in lines:
            command = words if kind else ["-m", "robustbench_pcl", *words]
            command = [digest if re.fullmatch("[0-9a-f]{64}", word) else word for word in command]
            result = subprocess.run(
                [sys.executable, "-P", *command],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert result.returncode == 0, result.stdout + result.stderr
            if "--bundle" in words:
                digest = result.stdout.strip()
            if kind:
                assert result.stdout.startswith("True ")
