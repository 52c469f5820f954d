"""Requirements on stored numbers, for CI: read from text, and answered by what is stored.

``TARGET.QUANTITY OP NUMBER``, such as "ours-pgd.strongest.low >= 45"; docs/ci.md has all forms.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.errors import UserError, shortened, unknown_name
from robustbench_pcl.report.worst_case import WORST_CASE
from robustbench_pcl.store.diagnoses import Verdict
from robustbench_pcl.store.reading import LARGEST_TOML, read_bounded

Part = Literal["", "low", "high", "n", "verdict"]
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
CLEAN, CERTIFIED = "clean", "certified"
FORM = re.compile(rf"(.*[^\s<>=])\s*({'|'.join(OPERATORS)})\s*([^<>=]*)")
"""The last operator counts: a recipe's name may have a "=" in it."""
ATTACK = re.compile(r"(?P<name>.+?)(-on-(?P<loss>.+?))?(-from-(?P<source>.+))?")
SUCH_AS = 'Write it such as "ours-pgd.strongest >= 45".'


class Place(NamedTuple):
    """The line of a file of requirements, from 1."""

    file: Path
    line: int


@dataclass(frozen=True)
class Requirement:
    """One requirement, read.

    Attributes:
        text: as it was given, blanks made one.
        target: name of a recipe or of an external model.
        quantity: "clean", "worst-case", "certified", or an attack as :func:`read_attack` reads it;
            "" for the verdict on any attack.
        part: of the quantity: the share itself, an end of its interval, n, or the verdict on it.
        sign: a key of :data:`OPERATORS`.
        wanted: what it is compared with: per cent, images, or a verdict.
        place: where it was read; None for one of the command line.
    """

    text: str
    target: str
    quantity: str
    part: Part
    sign: str
    wanted: float | Verdict
    place: Place | None = None

    def met_by(self, measured: float | Verdict) -> bool:
        """Whether it holds for what was measured."""
        if isinstance(measured, str) or isinstance(self.wanted, str):
            return measured == self.wanted
        return OPERATORS[self.sign](measured, self.wanted)


class RequiredAttack(NamedTuple):
    """An attack as a requirement names it: ``NAME[-on-LOSS][-from-SOURCE]``."""

    name: str
    loss: str | None
    source: str | None


def read_attack(quantity: str) -> RequiredAttack | None:
    """The attack that a quantity names: "pgd", "pgd-on-margin", "fgsm-from-vgg19"; or None."""
    match = ATTACK.fullmatch(quantity)
    found = RequiredAttack(**match.groupdict()) if match else None
    return found if found and found.name in ATTACKS else None


def is_quantity(text: str) -> bool:
    """Whether it can be required of a model."""
    return text in (CLEAN, WORST_CASE, CERTIFIED) or read_attack(text) is not None


def read_requirement(text: str, model: str = "", place: Place | None = None) -> Requirement:
    """Read one requirement.

    Args:
        text: ``TARGET.QUANTITY[.low|.high|.n] OP NUMBER``, or
            ``TARGET[.QUANTITY].verdict == VERDICT``.
        model: the target where the text names none.
        place: where it was read.

    Raises:
        UserError: it is none; the message says which part of it is not understood.
    """
    text = " ".join(text.split())
    match = FORM.fullmatch(text)
    if match is None:
        cure = "Write == for equal." if "=" in text.rpartition(".")[2] else SUCH_AS
        raise UserError(f"{shortened(text, 80)!r} has no operator: {', '.join(OPERATORS)}.", cure)
    left, sign, right = match.groups()
    head, _, last = left.rpartition(".")
    part: Part = cast("Part", last) if last in get_args(Part) else ""
    if part:
        left = head
    target, _, quantity = left.rpartition(".")
    quantity = quantity.casefold().replace(" ", "-")
    wanted: float | Verdict
    if part == "verdict":
        if not is_quantity(quantity):
            target, quantity = left, ""
        wanted = _read_verdict(text, sign, right)
    else:
        if not quantity:
            raise UserError(f"{shortened(text, 80)!r} names no quantity.", SUCH_AS)
        if not is_quantity(quantity):
            raise unknown_name("quantity", quantity, (CLEAN, WORST_CASE, CERTIFIED, *ATTACKS))
        wanted = _read_number(text, right)
    target = target or model
    if not target:
        raise UserError(
            f"{shortened(text, 80)!r} names no model.", f"{SUCH_AS} Or give --model NAME."
        )
    return Requirement(text, target, quantity, part, sign, wanted, place)


def _read_number(text: str, right: str) -> float:
    try:
        number = float(right)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        what = f"{shortened(right)!r} is no number" if right else "there is no number"
        cure = "Write per cent as a plain number: >= 45; a verdict is required of TARGET.verdict."
        raise UserError(f"{shortened(text, 80)!r}: {what} behind the operator.", cure)
    return number


def _read_verdict(text: str, sign: str, right: str) -> Verdict:
    if sign != "==":
        cause = f"{shortened(text, 80)!r}: a verdict is not more or less than another."
        raise UserError(cause, "Write .verdict == holds.")
    if right not in get_args(Verdict):
        raise unknown_name("verdict", right, get_args(Verdict))
    return cast("Verdict", right)


def read_requirements(path: Path, model: str = "") -> Iterator[Requirement]:
    """The requirements of a file, one a line; "#" begins a comment.

    Raises:
        UserError: it cannot be read, has none, or a line is none.
    """
    content = read_bounded(path, LARGEST_TOML, "file of requirements")
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text: {error}.", "Write it in UTF-8.") from error
    found = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
    if not any(text for _, text in found):
        raise UserError(f"{path} has no requirement.", f"One a line. {SUCH_AS}")
    for number, text in found:
        if text:
            try:
                yield read_requirement(text, model, Place(path, number))
            except UserError as error:
                raise UserError(f"{path}, line {number}: {error.cause}", error.cure) from error
