"""The data sets there are. A new one is a file in ``sets`` and a line in ``DATASETS``."""

from __future__ import annotations

from robustbench_pcl.data.sets import cifar10, cifar100, digits, fmnist, mnist, svhn
from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.errors import unknown_name

__all__ = ["DATASETS", "DatasetSpec", "dataset_spec"]

DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        digits.SPEC,
        mnist.SPEC,
        fmnist.SPEC,
        cifar10.SPEC,
        cifar100.SPEC,
        svhn.SPEC,
    )
}


def dataset_spec(name: str) -> DatasetSpec:
    """Look a data set up by its name.

    Raises:
        UserError: there is none of that name; the message suggests the nearest.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]
