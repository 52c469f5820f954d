"""Where images come from: one file a source, tried in the order of ``SOURCES``."""

from __future__ import annotations

from robustbench_pcl.data.sources import (
    debian,
    own,
    sklearn_digits,
    torchvision_download,
    torchvision_files,
)
from robustbench_pcl.data.sources.base import Find

LOCAL_SOURCES: tuple[Find, ...] = (
    own.find,
    torchvision_files.find,
    debian.find,
    sklearn_digits.find,
)
SOURCES: tuple[Find, ...] = (*LOCAL_SOURCES, torchvision_download.find)
