"""``pclbench verify``: whether what a bundle or a workspace says follows from what lies in it."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.cli.choices import Format, Readers
from robustbench_pcl.cli.options import Place
from robustbench_pcl.cli.output import print_document, write
from robustbench_pcl.cli.report_options import PublishedOption
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.evidence.findings import Verification
    from robustbench_pcl.evidence.repair import Repaired
    from robustbench_pcl.evidence.verify import Verifier

WIDTH = 79
DOES_NOT_HOLD = 1
"""The exit code where something was found."""


@dataclass(frozen=True, kw_only=True)
class Verify(Place):
    """Recompute what a bundle or published numbers claim, without a network.

    Digests, ids, counts, intervals, perturbations, verdicts of stored images by stored weights,
    page and tables: docs/bundle.md says what that proves. Without a folder, what is stored in
    --home is verified (its results/published where nothing is measured, as in a fresh clone), and
    --repair sets aside what does not hold and makes it again. The exit code is 1 where something
    does not hold.
    """

    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="A bundle (pclbench report --bundle DIR), or published numbers (pclbench store "
            "publish DIR).",
            show_default="--home",
        ),
    ] = None
    published: PublishedOption = False
    data: Annotated[
        str,
        typer.Option(
            "--data", "--sample", help="Share of the images that are classified again: 10%."
        ),
    ] = "100%"
    sample_seed: Annotated[int, typer.Option(help="Seed that chooses these images.", min=0)] = 0
    digest: Annotated[
        str,
        typer.Option(help="SHA-256 that the manifest must have.", show_default=False),
    ] = ""
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Move damaged files to results/damaged, and make them again where no training is "
            "needed.",
        ),
    ] = False
    form: Annotated[Readers, typer.Option("--format", help="Format of the output.")] = Readers.text

    def __call__(self) -> int:
        """Print what was checked, what could not be, and what does not hold; the exit code."""
        from robustbench_pcl.evidence.verify import Verifier
        from robustbench_pcl.progress import TerminalProgress
        from robustbench_pcl.store.published import is_published
        from robustbench_pcl.store.records import Paths

        share, digest = read_share(self.data), self.digest.lower()
        if digest and not re.fullmatch("[0-9a-f]{64}", digest):
            cure = "Copy all of it: pclbench report --bundle and pclbench verify print it."
            raise UserError(f"{self.digest!r} are not the 64 digits of a SHA-256.", cure)
        folder = self._folder()
        if digest and folder is None:
            raise UserError("A workspace has no digest.", "Name the folder of a bundle.")
        if folder is not None and self.repair:
            what = "holds published numbers" if is_published(Paths(folder)) else "is a bundle"
            raise UserError(
                f"{folder} {what}: it shows what somebody found, and is not changed.",
                "Fetch it again, or name a workspace: pclbench verify --home DIR --repair",
            )
        verifier = Verifier(
            share=share,
            seed=self.sample_seed,
            device=self.device,
            data_root=self.data_root,
            progress=TerminalProgress(),
        )
        if self.repair:
            return self._repaired(verifier)
        if folder is None:
            found = verifier.workspace(self.home)
        elif is_published(Paths(folder)):
            found = verifier.published(folder, digest)
        else:
            found = verifier.bundle(folder, digest)
        return self._show(found, _lines(found))

    def _folder(self) -> Path | None:
        """The bundle or the published numbers to verify; None where that is the workspace."""
        from robustbench_pcl.store.published import (
            is_published,
            published_instead,
            published_paths,
        )
        from robustbench_pcl.store.records import Paths

        if self.published and self.folder is not None:
            raise UserError(f"--published and {self.folder} are two folders.", "Leave one out.")
        if self.published:
            return published_paths().root
        if self.folder is not None:
            return self.folder
        if is_published(Paths(self.home)):
            return self.home
        instead = None if self.repair else published_instead(Paths(self.home))
        return None if instead is None else instead.root

    def _repaired(self, verifier: "Verifier") -> int:
        """Repair, and print what was done, and what holds then; the exit code."""
        from robustbench_pcl.evidence.repair import repair

        done = repair(verifier, self.home)
        lines = chain(_done(done), _lines(done.found))
        moved = {"set_aside": done.aside, "made_again": done.made, "not_made_again": done.left}
        return self._show(done.found, lines, moved)

    def _show(
        self, found: "Verification", lines: Iterable[str], moved: Mapping[str, object] | None = None
    ) -> int:
        """Print what was found, and what a repair moved; the exit code."""
        if self.form is Readers.json:
            unmoved = dict.fromkeys(("set_aside", "made_again", "not_made_again"))
            members = {**found.content(), **unmoved, **(moved or {})}
            rows = [finding._asdict() for finding in found.findings]
            print_document("verification", rows, Format.json, members=members)
        else:
            write("".join(f"{line}\n" for line in lines))
        return 0 if found.holds else DOES_NOT_HOLD


def read_share(text: str) -> float:
    """A share above 0 and at most 1, from "5%" or "0.05".

    Raises:
        UserError: it is none.
    """
    number, per_cent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if per_cent else 1)
    except ValueError:
        share = -1
    if not 0 < share <= 1:
        raise UserError(f"{text!r} is no share of the images.", "Write --data 10%.")
    return share


def _done(repaired: "Repaired") -> Iterator[str]:
    """What was set aside, what was made again, and what was not, for people."""
    if not repaired.aside:
        yield "Nothing was set aside."
        return
    yield f"Set aside: {len(repaired.aside):,}"
    for place in repaired.aside.values():
        yield from _wrapped(f"- {place}")
    if repaired.made:
        yield f"Made again: {len(repaired.made):,}"
    for path in repaired.made:
        yield from _wrapped(f"- {path}")
    if repaired.left:
        yield f"Not made again: {len(repaired.left):,}"
    for path, why in repaired.left.items():
        yield from _wrapped(f"- {path}: {why}")


def _lines(found: "Verification") -> Iterator[str]:
    """What was checked, what was not, and what does not hold, for people."""
    if found.digest:
        what = (
            "published numbers, whose list of files" if found.inside else "a bundle whose manifest"
        )
        yield f"{found.folder}: {what} has the SHA-256"
        yield found.digest
    counts = [f"{count:,} {what}" for what, count in found.checked.items() if count]
    yield from _wrapped(f"Checked: {', '.join(counts) or 'nothing'}.")
    for sentence in found.unchecked:
        yield from _wrapped(f"Not checked: {sentence}")
    if found.holds:
        yield "All that was checked holds."
        return
    yield f"What does not hold: {len(found.findings):,}"
    for finding in found.findings:
        yield from _wrapped(f"- {finding}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
