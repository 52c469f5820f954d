"""What others measured on the paper's own models."""

from __future__ import annotations

import functools
from importlib import resources

from pydantic import TypeAdapter

from robustbench_pcl.configuration import Description


class IndependentResult(Description):
    """Robust accuracy of the authors' model, measured by somebody else.

    Attributes:
        dataset: name of the data set.
        target: the recipe it stands for.
        attack: what it was attacked with.
        eps: L-infinity budget in pixels of [0, 1].
        clean: clean accuracy in per cent.
        claimed: robust accuracy in per cent that the authors claim.
        measured: robust accuracy in per cent under the attack.
        model: which model, in words.
        reference: where it is published.
    """

    dataset: str
    target: str
    attack: str
    eps: float
    clean: float
    claimed: float
    measured: float
    model: str
    reference: str


@functools.cache
def independent_results() -> tuple[IndependentResult, ...]:
    """All independent results stored here."""
    file = resources.files(__package__) / "independent.json"
    return TypeAdapter(tuple[IndependentResult, ...]).validate_json(file.read_bytes())
