"""The network: torchvision downloads the published files."""

from __future__ import annotations

from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from robustbench_pcl.data.dataset import RawDataset
from robustbench_pcl.data.sources import torchvision_files
from robustbench_pcl.data.sources.base import NotHereError
from robustbench_pcl.data.spec import DatasetSpec


def find(spec: DatasetSpec, _data_root: Path | None) -> RawDataset | None:
    """Download into a temporary folder, md5 sums checked, and read the files there."""
    if not spec.torchvision:
        return None
    with TemporaryDirectory(prefix="pclbench-") as folder:
        root = Path(folder)
        try:
            torchvision_files.open_splits(spec, root, download=True)
        except (OSError, RuntimeError, HTTPException) as error:
            reason = " ".join(str(error).split())
            raise NotHereError(f"torchvision's download ({reason})") from error
        return torchvision_files.read(spec, root, "torchvision download")
