"""What a benchmark says: a figure, its goal, and whether it is met, as rows of Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from robustbench_pcl.environment import Environment

COLUMNS = ("work", "against", "measured", "goal", "", "how much")


@dataclass(frozen=True)
class Figure:
    """A number, its unit, and the lowest and highest of the rounds where there were several."""

    value: float
    unit: str = "x"
    spread: tuple[float, float] | None = None

    def __str__(self) -> str:
        words = f"{self.value:,.2f}{self.unit}"
        return words + (f" ({self.spread[0]:.2f} to {self.spread[1]:.2f})" if self.spread else "")


@dataclass(frozen=True)
class Goal:
    """What a figure ought to be."""

    sign: Literal["<=", ">="]
    bound: float
    unit: str = "x"

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}{self.unit}"

    def verdict(self, figure: Figure) -> str:
        """Whether a figure, of the goal's unit, meets it."""
        met = figure.value <= self.bound if self.sign == "<=" else figure.value >= self.bound
        return "met" if met else "missed"


def at_least(bound: float, unit: str = "x") -> Goal:
    """So much or more."""
    return Goal(">=", bound, unit)


def at_most(bound: float, unit: str = "x") -> Goal:
    """So much or less."""
    return Goal("<=", bound, unit)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        work: what is done.
        against: what it is compared with.
        figure: what was measured, or why it was not.
        goal: what the figure ought to be.
        details: the quantities behind a ratio.
    """

    work: str
    against: str
    figure: Figure | str
    goal: Goal | None = None
    details: str = ""

    def cells(self) -> list[str]:
        """Its columns."""
        goal = verdict = ""
        if self.goal is not None:
            goal = str(self.goal)
            verdict = self.goal.verdict(self.figure) if isinstance(self.figure, Figure) else ""
        return [self.work, self.against, str(self.figure), goal, verdict, self.details]


def line(cells: Iterable[str]) -> str:
    """Cells as a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def heading(environment: Environment, rounds: int) -> str:
    """The machine, and the table's first two lines."""
    machine = (
        f"{environment.device}, {environment.threads} threads, torch {environment.torch}, "
        f"Python {environment.python}, pclbench {environment.pclbench}, {rounds} rounds"
    )
    return "\n".join((machine, "", line(COLUMNS), line(["---"] * len(COLUMNS))))
