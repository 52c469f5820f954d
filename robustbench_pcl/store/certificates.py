"""Two-sided numbers: for each image, the radius that is certified and the smallest that fools."""

from __future__ import annotations

from typing import ClassVar

from robustbench_pcl.configuration import digest
from robustbench_pcl.store.records import DataRecord, ModelRecord, StoredRecord
from robustbench_pcl.store.rules import MOST_IMAGES, Fault, Faults, model_faults, outside, unequal

METHOD = "crown"
"""How lower ends are found: interval bounds, and one backward pass of CROWN."""
RULE = 1
"""How radii are looked for: by another rule it is another certificate."""


class Certificate(StoredRecord):
    """Certified and fooling L-infinity radii of a model, image by image.

    Attributes:
        id: digest of what was asked: the model, the images, and how radii were found.
        target: the model.
        data: the clean images.
        method: how lower ends were found (:data:`METHOD`).
        largest_eps: no radius beyond it was looked for, in pixels of [0, 1].
        n: images, the first ones.
        certified: for each image the radius within which no image is classified otherwise, rounded
            downwards; 0 where the clean image is wrong, or nothing is certified.
        fooling: for each image the size of the smallest perturbation that was found to fool; 0
            where the clean image is wrong, None where none was found.
        found_by: what found the fooling images, in words.
        reason: why certified radii are small, in words, or "".
        seconds: that it took.
    """

    what: ClassVar[str] = "certificate"

    id: str
    target: ModelRecord
    data: DataRecord
    method: str
    largest_eps: float
    n: int
    certified: tuple[float, ...]
    fooling: tuple[float | None, ...]
    found_by: str
    reason: str
    seconds: float

    @property
    def file_name(self) -> str:
        """Its id."""
        return self.id

    def faults(self) -> Faults:
        """The id is that of what it names; what is certified of an image is not fooled within."""
        yield from model_faults(self.target)
        expected = certificate_id(
            self.target, self.data.digest, n=self.n, largest_eps=self.largest_eps
        )
        yield from unequal("id", expected, self.id)
        yield from unequal("method", METHOD, self.method)
        yield from outside("n", self.n, 1, MOST_IMAGES)
        yield from outside("seconds", self.seconds, 0)
        yield from unequal("certified radii", self.n, len(self.certified))
        yield from unequal("fooling radii", self.n, len(self.fooling))
        for image, (low, high) in enumerate(zip(self.certified, self.fooling, strict=False)):
            most = self.largest_eps if high is None else high
            if not 0 <= low <= most:
                yield Fault(f"certified radius of image {image}", f"0 to {most:g}", low)


def certificate_id(target: ModelRecord, data: str, *, n: int, largest_eps: float) -> str:
    """The id of a certificate: of the model, the images, the largest radius and the rule.

    Args:
        target: the model.
        data: digest of the clean images.
        n: images, the first ones.
        largest_eps: no radius beyond it is looked for.
    """
    return digest(
        {
            "target": target.key,
            "data": data,
            "n": n,
            "largest_eps": largest_eps,
            "method": METHOD,
            "rule": RULE,
        }
    )
