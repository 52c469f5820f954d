"""What verifying comes to: what was checked, what does not hold, and what could not be checked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from robustbench_pcl.errors import visible

LONGEST = 100
"""Characters of a value that are shown."""
LONGEST_PATH = 4096


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
        checked: how many of what.
        unchecked: what could not be checked and why, a sentence each.
        findings: what does not hold, in the order of its finding.
    """

    folder: Path
    digest: str = ""
    checked: Counter[str] = field(default_factory=Counter)
    unchecked: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

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
        shown = printable(file, LONGEST_PATH)
        return all(finding.file != shown for finding in self.findings)

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
        finding = Finding(printable(file, LONGEST_PATH), *shown)
        if finding not in self.findings:
            self.findings.append(finding)

    def skip(self, sentence: str) -> None:
        """Note what cannot be checked and why, once."""
        sentence = printable(sentence, 4 * LONGEST)
        if sentence not in self.unchecked:
            self.unchecked.append(sentence)

    def content(self) -> dict[str, Any]:
        """What was looked at, beside the findings, as plain JSON types."""
        return {
            "folder": str(self.folder),
            "sha256": self.digest or None,
            "holds": self.holds,
            "checked": dict(self.checked),
            "unchecked": self.unchecked,
        }


def printable(value: object, longest: int = LONGEST) -> str:
    """Text that moves no cursor and reverses no line: others' names come to the terminal by it."""
    shown = visible(str(value).replace("\n", "\\n"))
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."
