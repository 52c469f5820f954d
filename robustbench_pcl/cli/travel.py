"""``pclbench store``: how artefacts travel, and how numbers are published."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.cli.choices import Scale, dataset_names, offered, read_scale
from robustbench_pcl.cli.options import Home
from robustbench_pcl.cli.output import say, say_left_out
from robustbench_pcl.cli.store import WIDTH, StoreHome, tally
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.evidence.manifest import Selection
    from robustbench_pcl.evidence.travel import Taken
    from robustbench_pcl.store.records import Paths


@dataclass(frozen=True, kw_only=True)
class _Selecting(StoreHome):
    """A command about a part of a workspace."""

    table: Annotated[
        list[int] | None,
        typer.Option(
            help="All of the models of a table in the paper; may be repeated.", show_default=False
        ),
    ] = None
    model: Annotated[
        list[str] | None,
        typer.Option(help="All of a model, by name; may be repeated.", show_default=False),
    ] = None
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this data set; may be repeated.",
            show_default="all",
            autocompletion=offered(dataset_names),
        ),
    ] = None
    scale: Annotated[Scale | None, typer.Option(help="Of recipes.", show_default="any")] = None

    def selection(self) -> "Selection":
        """What of the workspace."""
        from robustbench_pcl.evidence.manifest import Selection

        return Selection(
            tables=tuple(self.table or ()),
            models=tuple(self.model or ()),
            datasets=tuple(self.dataset or ()),
            scale=read_scale(self.scale),
        )


@dataclass(frozen=True, kw_only=True)
class ExportStore(_Selecting):
    """Write artefacts into one archive, with everything that they rest on.

    Models, their starts and training records, adversarial sets, and what was measured: all of it,
    or what is named. The same content is always the same bytes. A model of your own travels without
    its code. For a page with tables, and for citing: pclbench report --bundle.
    """

    archive: Annotated[
        Path, typer.Argument(metavar="ARCHIVE", help="A new file: .tar, .tar.gz or .zip.")
    ]
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", help="This artefact; may be repeated.", show_default=False),
    ] = None
    without_sets: Annotated[
        bool, typer.Option("--without-sets", help="Without the adversarial images.")
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Replace an existing archive.")] = False

    def __call__(self) -> None:
        """Write it, and say what is in it."""
        from robustbench_pcl.evidence.travel import chosen, export_archive
        from robustbench_pcl.progress import TerminalProgress
        from robustbench_pcl.report.formatting import show_bytes

        if self.archive.exists() and not (self.force and self.archive.is_file()):
            what = "is there already" if self.archive.is_file() else "is no file"
            cure = "Name another file, or replace it with --force."
            raise UserError(f"{self.archive} {what}.", cure)
        selection = self.selection()
        items = chosen(self.inventory(), selection, self.ids or (), sets=not self.without_sets)
        export_archive(items, self.archive, selection, TerminalProgress())
        size = show_bytes(self.archive.stat().st_size)
        say(f"Wrote {self.archive}, {size}: {tally(item.kind for item in items)}.")
        say(f"Take it in elsewhere: pclbench store import {self.archive.name} --home DIR")


@dataclass(frozen=True, kw_only=True)
class _Taking(Home):
    """A command that takes artefacts in."""

    keep_mine: Annotated[
        bool,
        typer.Option(
            "--keep-mine",
            help="Where an id has other content here, keep yours; leave out what rests on the "
            "other.",
        ),
    ] = False

    def take(self, source: "Path | Paths", way: "Callable[..., Taken]") -> None:
        """Take it in, and say what is new."""
        from robustbench_pcl.evidence.findings import printable
        from robustbench_pcl.progress import TerminalProgress
        from robustbench_pcl.store.published import require_workspace
        from robustbench_pcl.store.records import Paths

        paths = Paths(self.home)
        require_workspace(paths)
        taken = way(source, paths, TerminalProgress(), keep_mine=self.keep_mine)
        new = tally(taken.added.elements()) if taken.added else "nothing new"
        say(f"Took in {new}; already here: {taken.known:,}.")
        for why in taken.left_out:
            said = f"Left out {printable(why, sys.maxsize)}."
            say(fill(said, WIDTH, subsequent_indent="  ", break_long_words=False))


@dataclass(frozen=True, kw_only=True)
class ImportStore(_Taking):
    """Import an archive that pclbench store export wrote.

    Nothing of it is seen before all of it is verified: names, digests, and each record against
    itself and the others. What is here already is left as it is.
    """

    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="A .tar, .tar.gz or .zip.")]

    def __call__(self) -> None:
        """Take it in, and say what is new."""
        from robustbench_pcl.evidence.travel import import_archive

        self.take(self.archive, import_archive)


@dataclass(frozen=True, kw_only=True)
class MergeStore(_Taking):
    """Import everything of another workspace, or what came with pclbench.

    That is not changed. One recipe that was trained to different weights in the two is two models
    afterwards, each with its own sets and numbers. What is damaged or not finished there is left
    out.
    """

    other: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="The other workspace.", show_default=False),
    ] = None
    published: Annotated[
        bool, typer.Option("--published", help="Import the numbers that came with pclbench.")
    ] = False

    def __call__(self) -> None:
        """Take it in, and say what is new."""
        from robustbench_pcl.evidence.travel import merge
        from robustbench_pcl.store.published import published_paths
        from robustbench_pcl.store.records import Paths

        if self.published == (self.other is not None):
            cause = "One other workspace is merged at a time."
            raise UserError(cause, "Name its folder, or write --published without a folder.")
        other = published_paths() if self.other is None else Paths(self.other)
        self.take(other, merge)


@dataclass(frozen=True, kw_only=True)
class PublishStore(_Selecting):
    """Write what was measured into a folder that a repository can carry.

    Records, strips of images, and published.json with the digest of each file; no weights and no
    adversarial sets. Several workspaces may be published in one folder: each adds what is new.
    Nothing names a folder of this machine. pclbench report --home DIR shows it, pclbench verify DIR
    checks it; in results/published of a checkout, both find it by themselves.
    """

    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or one that was published.")
    ]

    def __call__(self) -> None:
        """Write it, and say what is new."""
        from robustbench_pcl.evidence.published import publish
        from robustbench_pcl.progress import TerminalProgress
        from robustbench_pcl.store.records import Paths

        left_out: list[UserError] = []
        done = publish(
            Paths(self.home), self.folder, self.selection(), TerminalProgress(), left_out.append
        )
        say_left_out(left_out)
        new = tally(done.added.elements()) if done.added else "nothing new"
        say(f"Published in {self.folder}: {new}; already there: {done.known:,}.")
        if done.without_strip:
            say(
                f"Without a strip: {done.without_strip:,}, where no image was fooled or the images "
                "are not stored here."
            )
        say(f"The SHA-256 of published.json: {done.digest}")
