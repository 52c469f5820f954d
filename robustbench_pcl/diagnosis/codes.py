"""What codes mean: of verdicts (PCL100 to PCL105) and of checks (PCL201 and on)."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

from robustbench_pcl.configuration import Description
from robustbench_pcl.errors import unknown_name


class Explanation(Description):
    """What stands behind a code.

    Attributes:
        code: "PCL103".
        name: in a few words.
        meaning: what it says about a number, in sentences.
        evidence: what to look for, and where.
        cures: what to do.
        literature: author, title, venue and year of what to read.
    """

    code: str
    name: str
    meaning: str
    evidence: tuple[str, ...]
    cures: tuple[str, ...]
    literature: tuple[str, ...]


@cache
def explanations() -> dict[str, Explanation]:
    """All of them by code, in order."""
    text = resources.files(__package__).joinpath("codes.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    papers = content.pop("literature")
    return {
        code: Explanation(
            code=code, **{**entry, "literature": [papers[key] for key in entry["literature"]]}
        )
        for code, entry in content.items()
    }


def explanation(code: str) -> Explanation:
    """What a code means.

    Args:
        code: in letters of either size.

    Raises:
        UserError: there is no such code.
    """
    known = explanations()
    if code.upper() not in known:
        raise unknown_name("code", code.upper(), known)
    return known[code.upper()]
