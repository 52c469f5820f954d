"""``pclbench store``: what a workspace holds, and what of it is needed."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_pcl.cli.choices import Format, Readers
from robustbench_pcl.cli.options import FormatOption, Home
from robustbench_pcl.cli.output import Rows, print_document, print_rows, say, write
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.evidence.inventory import Inventory
    from robustbench_pcl.evidence.needs import Unneeded

WIDTH, LONGEST, MOST_SHOWN = 79, 60, 6
"""Of what people are shown: characters of a line and of a value, and artefacts that are named."""
LISTS = ("made_from", "not_here", "made_of_it", "needed_by")
WHOLE = (*LISTS, "file", "damage", "sha256", "command")
AS_ELSEWHERE = ("path", "others", "format", "id", "created", "n")
"""What is never shortened, and what an artefact says of itself and a row has already."""
Kind = StrEnum(
    "Kind",
    "training checkpoint set measurement embedding diagnosis certificate strip "
    "partial parts job temporary other",
)
"""What lies in a workspace, in the order of its making."""
KindsOption = Annotated[
    list[Kind] | None,
    typer.Option("--kind", help="Only this kind; may be repeated.", show_default="all"),
]


@dataclass(frozen=True, kw_only=True)
class StoreHome(Home):
    """A command about a whole workspace."""

    def inventory(self) -> "Inventory":
        """All that lies in it; what cannot be read is there as damaged."""
        from robustbench_pcl.evidence.inventory import take_stock
        from robustbench_pcl.progress import TerminalProgress
        from robustbench_pcl.store.records import Paths

        return take_stock(Paths(self.home), TerminalProgress())


@dataclass(frozen=True, kw_only=True)
class ListStore(StoreHome):
    """List what is stored: models, images, numbers, and what was left over.

    A file that cannot be read is a row that says so.
    """

    kind: KindsOption = None
    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per artefact; for people, kind by kind with its total."""
        from robustbench_pcl.evidence.inventory import TITLES
        from robustbench_pcl.evidence.needs import row_of
        from robustbench_pcl.report.formatting import show_bytes

        inventory = self.inventory()
        kinds = [each.value for each in self.kind or Kind]
        found = [row_of(item, inventory) for item in inventory.items if item.kind in kinds]
        if self.form is not Format.text:
            print_document("inventory", found, self.form)
            return
        for kind, group in groupby(found, key=itemgetter("kind")):
            rows = list(group)
            makers = sorted({row["pclbench"] for row in rows if row["pclbench"]})
            by = f", made by pclbench {' and '.join(makers)}" if makers else ""
            total = show_bytes(sum(row["bytes"] for row in rows))
            print(f"{TITLES[kind]}: {len(rows):,}, {total}{by}")
            print_rows(_for_people(rows))
        say(f"{len(found):,} in all, {show_bytes(sum(row['bytes'] for row in found))}.")


def _for_people(rows: Rows) -> Rows:
    """Rows of one kind, with the columns that say something of it."""
    from robustbench_pcl.evidence.findings import printable
    from robustbench_pcl.report.formatting import show_bytes

    shown = []
    for row in rows:
        words = filter(None, (row["target"] or row["source"], row["dataset"]))
        own = {
            "model": printable(" on ".join(words)),
            "size": show_bytes(row["bytes"]).replace(" ", ""),  # one word is never broken
            "made": row["created"][:10],
            "damage": row["damage"] and "damaged: see pclbench store show",
        }
        shown.append({**row, **own})
    columns = ("id", "weights", "model", "attack", "n", "size", "made", "damage")
    used = [name for name in columns if any(row[name] not in (None, "") for row in shown)]
    return [{name: row[name] for name in used} for row in shown]


@dataclass(frozen=True, kw_only=True)
class ShowStored(StoreHome):
    """Show one artefact: its content, what it came from, and what came from it.

    Also which tables and figures need it, and the command that makes it again.
    """

    what: Annotated[
        str, typer.Argument(metavar="ID", help="An id or its beginning, weights, or a file.")
    ]
    form: Annotated[Readers, typer.Option("--format", help="Format of the output.")] = Readers.text

    def __call__(self) -> None:
        """Print it."""
        from pydantic import TypeAdapter

        from robustbench_pcl.evidence.manifest import record_of
        from robustbench_pcl.evidence.needs import command_for, row_of, uses_of

        inventory = self.inventory()
        item = inventory.one(self.what)
        uses = uses_of(item, inventory)
        said = {
            **row_of(item, inventory),
            "sha256": None if item.damage or item.path.is_dir() else record_of(item.path).sha256,
            "record": TypeAdapter(type(item.about)).dump_python(item.about, mode="json"),
            "made_from": [each.name for each in inventory.with_all_above([item]) if each != item],
            "not_here": inventory.absent(item),
            "made_of_it": [each.name for each in inventory.below(item)],
            "needed_by": [str(use) for use in uses],
            "command": command_for(item, inventory, uses),
        }
        if self.form is Readers.json:
            print_document("artefact", [said], Format.json)
            return
        said["needed_by"] = said["needed_by"] or ["no table or figure of the paper"]
        write("".join(f"{line}\n" for name, value in said.items() for line in _lines(name, value)))


@dataclass(frozen=True, kw_only=True)
class PruneStore(StoreHome):
    """Show what is not needed, and its size; --yes removes it.

    No checkpoint and no number is among it, unless it is named by its id.
    """

    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Only these artefacts.", show_default=False),
    ] = None
    sets: Annotated[
        bool,
        typer.Option(
            "--sets", help="Also adversarial sets that were measured; making them again takes time."
        ),
    ] = False
    keep_tables: Annotated[
        bool,
        typer.Option("--keep-tables", help="Keep those behind the paper's tables and figures."),
    ] = False
    partial: Annotated[
        bool, typer.Option("--partial", help="Also unfinished trainings and sets.")
    ] = False
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Such as 30d, 12h, 2w or 90m.", show_default="any age"),
    ] = None
    kind: KindsOption = None
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False
    form: Annotated[Readers, typer.Option("--format", help="Format of the output.")] = Readers.text

    def __call__(self) -> None:
        """Print what goes, and remove it with --yes."""
        from robustbench_pcl.evidence.needs import remove_all
        from robustbench_pcl.progress import counted
        from robustbench_pcl.report.formatting import show_bytes

        if self.keep_tables and not self.sets:
            raise UserError("--keep-tables is about sets.", "Write --sets --keep-tables.")
        if self.what and (self.sets or self.partial):
            raise UserError("Artefacts are named, and others asked for.", "Leave one out.")
        reasons = self._reasons(self.inventory())
        given = {"": True, "--sets": self.sets, "--partial": self.partial}
        going = [item for each in reasons if given[each.option] for item in each.items]
        rows: list[dict[str, object]] = []
        for reason, option, items in reasons:
            about = {"reason": reason, "goes": (goes := given[option])}
            if self.form is Readers.json:
                rows += [{"file": each.name, "bytes": each.size, **about} for each in items]
            elif items:
                total = show_bytes(sum(item.size for item in items))
                then = "yes" if goes else f"with {option}"
                rows.append({"what": reason, "files": len(items), "size": total, "goes": then})
        if self.form is Readers.json:
            print_document("unneeded", rows, Format.json)
        elif rows:
            print_rows(rows)
        count, size = len(going), sum(item.size for item in going)
        what = f"{counted(count, 'file')}, {counted(size, 'byte')}"
        if self.yes:
            remove_all(going)
            say(f"Removed: {what}.")
        else:
            say(f"Would go: {what}.{' Remove them with --yes.' if going else ''}")

    def _reasons(self, inventory: "Inventory") -> "list[Unneeded]":
        """What may go, by reason, as far as age and kind allow."""
        from robustbench_pcl.evidence.needs import Unneeded, read_age, unneeded

        if self.what:
            named = [inventory.one(text) for text in self.what]
            for item in [each for each in named if each.kind == "checkpoint"]:
                named += inventory.known("training", *item.names)
            resting = {each for item in named for each in inventory.below(item)} - {*named}
            if resting:
                say(f"What rests on it stays: {tally(each.kind for each in resting)}.")
            reasons = [Unneeded("named", "", list(dict.fromkeys(named)))]
        else:
            reasons = unneeded(inventory, keep_tables=self.keep_tables)
        before = time.time() - read_age(self.older_than) if self.older_than else time.time()
        kinds = [each.value for each in self.kind or Kind]
        return [
            each._replace(items=[i for i in each.items if i.changed <= before and i.kind in kinds])
            for each in reasons
        ]


def tally(kinds: Iterable[str]) -> str:
    """How many there are of each kind: "2 checkpoints, 3 sets"."""
    from robustbench_pcl.progress import counted

    return ", ".join(counted(count, kind) for kind, count in Counter(kinds).items())


def _lines(name: str, value: Any) -> Iterable[str]:
    """A value for people; what is empty is left out, and of a long list the first are named."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in AS_ELSEWHERE:
                yield from _lines(f"{name}.{key}" if name != "record" else key, inner)
        return
    values = value if name in LISTS else [value]
    shown = [_shown(name, each) for each in values[:MOST_SHOWN] if each not in (None, "", [])]
    if len(values) > MOST_SHOWN:
        shown.append(f"and {len(values) - MOST_SHOWN:,} more; --format json has all")
    for words in shown:
        yield from wrap(
            f"{name.replace('_', ' ')}: {words}",
            WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _shown(name: str, value: object) -> str:
    from robustbench_pcl.evidence.findings import printable
    from robustbench_pcl.report.formatting import show_bytes

    if name == "bytes" and isinstance(value, int):
        return f"{value:,} ({show_bytes(value)})"
    return printable(value, sys.maxsize if name in WHOLE else LONGEST)
