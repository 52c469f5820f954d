"""The part of a paper's figure about one data set, answered as far as the evidence goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.report.figures.scatter import Block
from robustbench_pcl.report.figures.sweep import Sweep
from robustbench_pcl.report.formatting import listed, span
from robustbench_pcl.specs.names import Scale


@dataclass(frozen=True)
class FigureSection:
    """One data set's part of a figure.

    Attributes:
        number: the figure's.
        dataset: name in the catalogue.
        scale: of the recipes; None if nothing is stored.
        seed: that was asked for; None for any.
        part: what is drawn.
        images: how many images each of its elements shows.
        missing: what is not stored yet, in a few words each.
        notes: sentences on what is seen.
    """

    number: int
    dataset: str
    scale: Scale | None
    seed: int | None
    part: Block | Sweep
    images: tuple[int, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self.images)

    @property
    def command(self) -> str:
        """Makes what is missing; "" if nothing is."""
        return self.whole_command if self.missing else ""

    @property
    def whole_command(self) -> str:
        """Makes all of it."""
        options = [f" --scale {self.scale}"] if self.scale else []
        options += [f" --seed {self.seed}"] if self.seed is not None else []
        return f"pclbench run --figure {self.number} --dataset {self.dataset}{''.join(options)}"

    def words(self) -> Iterator[str]:
        """Sentences for the caption: how it was made, what is seen, what is missing."""
        title = dataset_spec(self.dataset).title
        if self.found:
            yield f"{title}, {self.scale} scale, n = {span(self.images)} images."
        yield from self.notes
        if self.missing:
            what = f"{listed(self.missing)} not" if self.found else "nothing"
            yield f"{title}: {what} stored yet. Make it with: {self.command}."
