"""Configurations and descriptions: frozen, validated, their id a digest of their content.

Nothing here imports torch, so that planning and reporting never wait for it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from robustbench_pcl.errors import UserError, shortened, unknown_name

Scalar = bool | int | float | str
Dump = dict[str, Scalar]
"""A configuration as it is stored and hashed: its ``name`` and every one of its parameters."""
Scale = Literal["paper", "quick", "demo"]
"""How large: as published; minutes on two cores with real data; seconds on digits."""
SCALES: tuple[Scale, ...] = ("paper", "quick", "demo")
Mode = Literal["exact", "fast", "early-stop"]
"""How adversarial images are made: by the reference model, all steps; by the fast model, all steps;
by the fast model, each image until the first step that fools the reference model."""
MODES: tuple[Mode, ...] = ("exact", "fast", "early-stop")
ID_LENGTH = 12


def later(default: Scalar, description: str) -> Any:
    """A parameter that came later: its default is not dumped, so that older ids stay."""
    return Field(default, description=description, exclude_if=lambda value: bool(value == default))


def digest(content: Any) -> str:
    """The short id of anything JSON can hold: the head of the SHA-256 of its canonical form."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:ID_LENGTH]


class Description(BaseModel):
    """A frozen, serialisable description; unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,  # until it is first used: a command uses few of them
    )

    def content(self, exclude: Iterable[str] = ()) -> dict[str, Any]:
        """The description as plain JSON types, without the fields in ``exclude``."""
        return self.model_dump(mode="json", exclude=set(exclude))

    def changed(self, **changes: Any) -> Self:
        """The same with other values in some fields, validated."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate({**fields, **changes})

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_is_a_truth_value(cls, value: Any, info: Any) -> Any:
        """Refuse ``eps = true``, which would count as 1."""
        if isinstance(value, bool):
            kind = cls.model_fields[info.field_name].annotation
            if kind not in (bool, bool | None):
                raise ValueError("a truth value is not a number")
        return value


class Configuration(Description):
    """One attack, loss or defence with every parameter; calling the class completes it.

    A member of a family is a subclass whose fields have a default and a ``description``, and whose
    ``name`` is the one it is registered under: ``name: Literal["pgd"] = "pgd"``. Numbers are typed,
    so that 10 and 10.0 are one configuration.
    """

    name: str

    def dump(self) -> Dump:
        """The name and every parameter, as they are stored and hashed."""
        return self.model_dump(mode="json")

    @classmethod
    def parameters(cls) -> dict[str, tuple[Any, str]]:
        """Each parameter's default and description, without ``name``."""
        return {
            name: (field.default, field.description or "")
            for name, field in cls.model_fields.items()
            if name != "name"
        }

    @classmethod
    def complete(cls, parameters: Mapping[str, object]) -> Self:
        """The configuration with these parameters and defaults for the others.

        Values may be text, as typed on a command line.

        Raises:
            UserError: there is no such parameter, or a value is wrong for it.
        """
        own, known = cls.model_fields["name"].default, sorted({*cls.model_fields} - {"name"})
        for name in parameters:
            if name not in (*known, "name"):
                raise unknown_name(f"parameter of {own}", name, known)
        try:
            return cls.model_validate(dict(parameters))
        except ValidationError as error:
            cure = f"Its parameters: {', '.join(known) or 'none'}."
            raise explained(error, str(own), cure) from error


Place = tuple[int | str, ...]
"""Where in something nested a value is: keys, and numbers in lists."""
_OF_TABLES = re.compile(r"a valid dictionary( or .*)?")


def dotted(place: Place) -> str:
    """A place in words: "target.weights"."""
    return ".".join(map(str, place))


def explained(
    error: ValidationError, what: str, cure: str, place: Callable[[Place], str] = dotted
) -> UserError:
    """What pydantic found wrong first, in one line: ``what: field: reason``.

    Args:
        error: pydantic's.
        what: was read.
        cure: what to do.
        place: says where in it a field is.
    """
    first = error.errors(include_url=False, include_context=False)[0]
    where = shortened(place(first["loc"]), 80)
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return UserError(f"{what}: {where} means nothing here.", cure)
    reason = reason.replace("a valid tuple", "a list, in square brackets")
    reason = _OF_TABLES.sub("a table", reason)
    given = first.get("input")
    shown = ""
    if isinstance(given, Scalar) and "not" not in reason:
        shown = f", not {shortened(repr(given))}"
    where = f"{where}: " if where else ""
    reason = shortened(f"{reason[:1].lower()}{reason[1:]}", 200)
    return UserError(f"{what}: {where}{reason}{shown}.", cure)


LONGEST_NUMBER = 100
"""Characters of a budget; a float's exact value may have more, but no one writes it."""
_FAR = re.compile(r"e[-+]?[\d_]{5}", re.IGNORECASE)
"""An exponent that would fill the memory: fractions are exact."""


def parse_eps(text: str | float) -> float:
    """An L-infinity budget in units of pixels scaled to [0, 1].

    Args:
        text: as :func:`parse_radius` reads it.

    Returns:
        The budget, between 0 and 1.

    Raises:
        UserError: not a number, negative, NaN or infinite, or above 1 (the usual mistake of
            writing 8 for 8/255).
    """
    eps = parse_radius(text)
    if eps > 1:
        raise UserError(
            f"eps {text} is larger than the whole pixel range [0, 1].",
            f"Did you mean --eps {eps:g}/255?" if eps <= 255 else "Write it as 0.03 or 8/255.",
        )
    return eps


def parse_radius(text: str | float) -> float:
    """A perturbation budget in any norm, in units of pixels scaled to [0, 1].

    Args:
        text: a number ("0.03") or a fraction ("8/255", "0.5/255").

    Raises:
        UserError: not a number, negative, NaN or infinite.
    """
    try:
        eps = _quotient(text) if isinstance(text, str) else float(text)
    except (ValueError, ZeroDivisionError, OverflowError, TypeError):
        eps = math.nan
    if not math.isfinite(eps):
        raise UserError(
            f"eps {shortened(repr(text))} is not a number.", "Write it as 0.03 or 8/255."
        )
    if eps < 0:
        raise UserError(f"eps {text} is negative.", "A budget is at least 0: write --eps 8/255.")
    return eps


def _quotient(text: str) -> float:
    numerator, slash, denominator = text.replace(" ", "").partition("/")
    if "/" in denominator or len(text) > LONGEST_NUMBER or _FAR.search(text):
        raise ValueError(text)
    return float(Fraction(numerator) / Fraction(denominator if slash else 1))


Eps = Annotated[float, BeforeValidator(parse_eps), Field(ge=0, le=1)]
"""A perturbation budget in pixels of [0, 1]; ``"8/255"`` is read too."""
Radius = Annotated[float, BeforeValidator(parse_radius), Field(ge=0)]
"""A perturbation budget in any norm, in pixels of [0, 1]: an L2 budget may be above 1."""
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
"""Of a generator, 64 bits as PyTorch takes them; what is derived is taken modulo 2**63."""
