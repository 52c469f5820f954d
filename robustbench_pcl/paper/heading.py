"""A row or a column of a published table."""

from __future__ import annotations

from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.paper.budgets import budget_name, in_proportion, own_budget
from robustbench_pcl.specs.base import Part, Spec
from robustbench_pcl.specs.cell import Quantity


class Heading(Spec):
    """A row or a column: a label, and its half of the question.

    A table may have its recipes in rows and its attacks in columns (Table 3) or the other way
    round (Table 5): a row and a column together give the question, and neither may answer for the
    other.

    Attributes:
        label: as printed; ``{eps}`` or ``{c}`` stands for the budget of a row's own attack.
        short: the label where there is little room; the label itself if "".
        group: the heading over several columns or rows, or "".
        target: the recipe that is measured.
        source: the recipe the adversarial images are crafted on; the target itself if neither row
            nor column says.
        attack: the attack; without a budget of its own it gets its section's. Only a row may give
            a budget.
        quantity: accuracy if neither row nor column says.
    """

    label: str
    short: str = ""
    group: str = ""
    target: str | None = None
    source: str | None = None
    attack: Part | None = None
    quantity: Quantity | None = None

    @property
    def brief(self) -> str:
        """The label where there is little room."""
        return self.short or self.label

    @property
    def name(self) -> str:
        """The label with its group, which no other heading on the same side has."""
        return f"{self.group} {self.label}".lstrip()

    def asked(self, printed: DatasetSpec, asked: DatasetSpec) -> Heading:
        """The row for a data set: its own budget in proportion, and its label filled in.

        Args:
            printed: the data set that the budget is meant for.
            asked: the data set to attack.
        """
        if self.attack is None or own_budget(self.attack) is None:
            return self
        attack = in_proportion(self.attack, printed, asked)
        shown = {budget_name(attack): f"{own_budget(attack):.3g}"}
        filled = {"label": self.label.format(**shown), "short": self.short.format(**shown)}
        return self.model_copy(update={"attack": attack, **filled})
