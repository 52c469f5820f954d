"""The base of every specification: frozen, checked, its id a digest of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

Scalar = bool | int | float | str
ID_LENGTH = 12


def digest(content: Any) -> str:
    """The short id of anything JSON can hold: the head of the SHA-256 of its canonical form."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:ID_LENGTH]


class Spec(BaseModel):
    """A frozen, serialisable description; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def content(self, exclude: Iterable[str] = ()) -> dict[str, Any]:
        """The specification as plain JSON types, without the fields in ``exclude``."""
        return self.model_dump(mode="json", exclude=set(exclude))


class Part(Spec):
    """A member of a family and the parameters that differ from its defaults.

    ``Part(name="pgd", parameters={"eps": 0.3})`` names an attack; losses and defences are named
    in the same way.
    """

    name: str
    parameters: dict[str, Scalar] = {}

    def merged(self, parameters: Mapping[str, Scalar]) -> Part:
        """The same part with ``parameters`` laid over its own."""
        return Part(name=self.name, parameters={**self.parameters, **parameters})
