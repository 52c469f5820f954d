"""What verifying comes to: what was checked, what does not hold, and what could not be checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from robustbench_pcl.errors import visible

LONGEST = 100
"""Characters of a value that are shown."""
LONGEST_PATH = 4096
MOST_NAMED = 3
"""Things that one sentence names."""


class Finding(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        file: where, relative to the folder.
        what: in a few words.
        expected: what follows from the rest of the evidence.
        found: what stands there.
    """

    file: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}: {self.found}; expected: {self.expected}"


@dataclass(eq=False)
class Verification:
    """What is known of a folder so far.

    Attributes:
        folder: that is verified.
        digest: SHA-256 of a bundle's manifest, which covers every other file; "" where there is no
            manifest.
        inside: what the names of all files begin with that is not in the folder: published evidence
            is nothing but a workspace's results.
        checked: how many of what.
        skipped: what could not be checked and why, a sentence each, and what these are about.
        findings: what does not hold, in the order of its finding.
    """

    folder: Path
    digest: str = ""
    inside: str = ""
    checked: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    _files: set[str] = field(default_factory=set, init=False, repr=False)

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def wrong_files(self) -> list[str]:
        """The files in which something was found, each once."""
        return list(dict.fromkeys(finding.file for finding in self.findings))

    def sound(self, file: str) -> bool:
        """Whether nothing was found in a file, so that what follows from it may be looked at."""
        return self._shown(file) not in self._files

    def compare(self, file: str, what: str, expected: object, found: object) -> bool:
        """Note a finding where two things differ; whether they are the same."""
        if expected == found:
            return True
        self.wrong(file, what, expected, found)
        return False

    def require(self, file: str, what: str, holds: bool, expected: object, found: object) -> bool:
        """Note a finding where something does not hold; whether it does."""
        if not holds:
            self.wrong(file, what, expected, found)
        return holds

    def wrong(self, file: str, what: str, expected: object, found: object) -> None:
        """Note a finding, once."""
        shown = (printable(value) for value in (what, expected, found))
        finding = Finding(self._shown(file), *shown)
        if finding not in self.findings:
            self.findings.append(finding)
            self._files.add(finding.file)

    def _shown(self, file: str) -> str:
        return printable(file.removeprefix(self.inside), LONGEST_PATH)

    def skip(self, sentence: str, about: str = "") -> None:
        """Note what cannot be checked and why: one sentence for all that it is about.

        Args:
            sentence: with {} in the place of what it is about, in the plural.
            about: a model, a file or some other thing.
        """
        known = self.skipped.setdefault(printable(sentence, 4 * LONGEST), [])
        if about and printable(about) not in known:
            known.append(printable(about))

    @property
    def unchecked(self) -> list[str]:
        """What could not be checked and why, a sentence each; the first of many are named."""
        return [sentence.replace("{}", _listed(about)) for sentence, about in self.skipped.items()]

    def content(self) -> dict[str, Any]:
        """What was looked at, beside the findings, as plain JSON types."""
        return {
            "folder": str(self.folder),
            "sha256": self.digest or None,
            "holds": self.holds,
            "checked": dict(self.checked),
            "unchecked": self.unchecked,
        }


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a, b and 92 more"."""
    if len(names) > MOST_NAMED:
        names = [*names[:MOST_NAMED], f"{len(names) - MOST_NAMED:,} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def printable(value: object, longest: int = LONGEST) -> str:
    """Text that moves no cursor and reverses no line: others' names come to the terminal by it."""
    shown = visible(str(value).replace("\n", "\\n"))
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."
