"""The data sets there are. A new one is a file in ``sets`` and a line in ``DATASETS``.

One from outside the package is added with :func:`add_dataset`.
"""

from __future__ import annotations

from robustbench_pcl.data.sets import cifar10, cifar100, digits, fmnist, mnist, svhn
from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.errors import unknown_name
from robustbench_pcl.registry import check_target, new_name

__all__ = ["DATASETS", "OWN_SOURCES", "DatasetSpec", "add_dataset", "dataset_spec"]

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

OWN_SOURCES: dict[str, str] = {}
"""Data sets that brought a source of their own: name -> "module:attribute"."""


def add_dataset(spec: DatasetSpec, find: str | None = None) -> None:
    """Add a data set from outside the package; the same once more changes nothing.

    Args:
        spec: what is known about it.
        find: "module:attribute" of the function that reads its images, a ``Find`` of
            :mod:`robustbench_pcl.data.sources.base`; None if the images are where the other data
            sets' are, or will be given to ``pclbench data add``.

    Raises:
        UserError: its name is taken or cannot be one, or ``find`` is not of that form.
    """
    if find is not None:
        check_target(f"source of data set {spec.name}", find)
    if (DATASETS.get(spec.name), OWN_SOURCES.get(spec.name)) == (spec, find):
        return
    DATASETS[new_name("data set", spec.name, DATASETS)] = spec
    if find is not None:
        OWN_SOURCES[spec.name] = find


def dataset_spec(name: str) -> DatasetSpec:
    """Look a data set up by its name.

    Raises:
        UserError: there is none of that name; the message suggests the nearest.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]
