"""The paper's tables that describe rather than measure, printed from the code's own registries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from robustbench_pcl.registry import Family

TITLES = {
    1: "Networks, and where the Prototype Conformity Loss acts",
    2: "Attacks",
    10: "ResNet-110 with other losses, and where they act",
}
"""The tables there are, by the paper's number. Making one needs torch; its title does not."""


@dataclass(frozen=True)
class DescribedTable:
    """A table of words, ready to be rendered.

    Attributes:
        number: the paper's.
        caption: what the entries are.
        columns: from left to right.
        rows: from top to bottom, an entry a column.
        footnotes: sentences.
    """

    number: int
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footnotes: tuple[str, ...]

    @property
    def title(self) -> str:
        """What it is about."""
        return TITLES[self.number]

    @property
    def heading(self) -> str:
        """Number and title."""
        return f"Table {self.number}. {self.title}"


_MAKERS: Family[Callable[[], DescribedTable]] = Family(
    "table",
    {
        "1": "robustbench_pcl.report.tables.networks:conformity_networks",
        "2": "robustbench_pcl.report.tables.attack_settings:attack_settings",
        "10": "robustbench_pcl.report.tables.networks:other_networks",
    },
)


def described_table(number: int) -> DescribedTable:
    """A table of ``TITLES``.

    Raises:
        UserError: there is no such table.
    """
    return _MAKERS[str(number)]()
