"""A table's rows or columns on what the strongest stored attacks leave of each recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from robustbench_pcl.paper.tables import AttackRequest, Cell, Heading, PaperTable
from robustbench_pcl.report.entries import Entry, Row, answered, with_best
from robustbench_pcl.report.formatting import grouped, listed, show_budget
from robustbench_pcl.report.results import Record
from robustbench_pcl.report.worst_case import (
    ENSEMBLES,
    TITLES,
    WORST_CASE,
    WorstCase,
    largest_eps,
)

PGD_ONLY = "PGD only"
"""Stands where neither AutoAttack nor `strongest` was run."""
SMALLER = "†"
"""Marks a worst case within a smaller budget than the section's largest."""
MOST_NAMED = 8
"""Sources, or groups of them, that a footnote names one by one."""
KINDS = ("budget", "version")
"""Parameters of an ensemble that say which of its attacks are run."""
CLAIM = "The lowest number that the table prints for an L-infinity white-box attack."


def summary_headings(table: PaperTable) -> tuple[Heading, ...]:
    """The columns on the strongest attacks that a table may have; none where those are rows."""
    if not table.targets_in_rows:
        return ()
    attacked = [column for column in table.columns if column.attack and not column.source]
    group = attacked[-1].group if attacked else ""
    return tuple(Heading(label=title, group=group) for title in TITLES.values())


def with_summaries(
    table: PaperTable, rows: Sequence[Sequence[Row]], cases: Sequence[Sequence[WorstCase]]
) -> tuple[tuple[Heading, ...], list[tuple[Row, ...]]]:
    """Columns and rows with the worst case, AutoAttack and `strongest` where something is known.

    They stand behind the white-box columns where recipes are in rows, else beneath the rows.
    AutoAttack has a place where it was run; `strongest` always, to say where neither was.

    Args:
        table: whose rows they are.
        rows: of each section.
        cases: the worst cases of each section.
    """
    known = [case for each in cases for case in each]
    names = [name for name in TITLES if name != "auto" or any(name in c.ensembles for c in known)]
    if not known:
        return table.columns, [tuple(each) for each in rows]
    if not table.targets_in_rows:
        return table.columns, [
            _with_rows(lines, names, each) for lines, each in zip(rows, cases, strict=True)
        ]
    place = 1 + max(at for at, entry in enumerate(rows[0][0].entries) if entry.cell.white_box)
    group = table.columns[place - 1].group
    headings = [Heading(label=TITLES[name], group=group) for name in names]
    columns = (*table.columns[:place], *headings, *table.columns[place:])
    wider = []
    for lines, each in zip(rows, cases, strict=True):
        asked = [row.entries for row in lines]
        further = [
            _summary(name, asked, each, column)
            for name, column in zip(names, headings, strict=True)
        ]
        wider.append(
            tuple(
                replace(row, entries=(*row.entries[:place], *found, *row.entries[place:]))
                for row, found in zip(lines, zip(*further, strict=True), strict=True)
            )
        )
    return columns, wider


def _with_rows(
    rows: Sequence[Row], names: Sequence[str], cases: Sequence[WorstCase]
) -> tuple[Row, ...]:
    """A section's rows with those of some attacks beneath, if any is known."""
    if not cases:
        return tuple(rows)
    asked = list(zip(*(row.entries for row in rows), strict=True))
    beneath = (
        Row(Heading(label=TITLES[name]), tuple(_summary(name, asked, cases))) for name in names
    )
    return (*rows, *beneath)


def _summary(
    name: str,
    asked: Sequence[Sequence[Entry]],
    cases: Sequence[WorstCase],
    column: Heading | None = None,
) -> list[Entry]:
    """What an attack leaves of each recipe; the best is marked if all met the same.

    Args:
        name: of :data:`TITLES`.
        asked: for each recipe what the section asks about it.
        cases: of the section.
        column: the heading above; by default that above the recipe's entries.
    """
    largest = largest_eps(entry.cell for entries in asked for entry in entries)
    found = []
    for entries in asked:
        target = entries[0].cell.target
        own = [case for case in cases if case.target == target]
        question = _question(name, entries[0].cell, own, largest)
        entry = Entry(column or entries[0].column, question)
        found.append(_answer(entry, entries, own, largest))
    records = _records(name, cases)
    same = len({_attacks(record) for record in records}) == 1 and len(records) == len(cases)
    return with_best(found) if same else found


def _question(name: str, cell: Cell, cases: Sequence[WorstCase], largest: float | None) -> Cell:
    """What an entry asks: the worst case within no more than was really attacked."""
    attacked = min((case.eps for case in cases), default=largest)
    attack = AttackRequest(name=name, eps=attacked if name == WORST_CASE else largest)
    return Cell(dataset=cell.dataset, target=cell.target, source=cell.target, attack=attack)


def _answer(
    entry: Entry, asked: Iterable[Entry], cases: Sequence[WorstCase], largest: float | None
) -> Entry:
    """The entry with what is left, the least that the paper claims, or words where nothing is."""
    attack = entry.cell.attack
    assert attack is not None
    records = _records(attack.name, cases)
    entry = answered(entry, records)
    claims = [e.published for e in asked if e.published is not None and largest_eps([e.cell])]
    if claims and (records or attack.name == WORST_CASE):
        entry = replace(entry, published=min(claims), remark=CLAIM)
    if attack.eps != largest:
        entry = replace(entry, mark=SMALLER)
    if attack.name == ENSEMBLES[-1] and cases and all(case.pgd_only for case in cases):
        entry = replace(entry, words=PGD_ONLY)
    return entry


def _spent(record: Record) -> str:
    """How much an ensemble could do, and how its images were made.

    "budget standard, eps 0.3, mode early-stop".
    """
    kinds = [f"{name} {record.parameters[name]}" for name in KINDS if name in record.parameters]
    others = [words for words in record.attack.split(", ")[1:] if words not in kinds]
    return ", ".join([*kinds, *others, f"mode {record.mode}"])


def _records(name: str, cases: Iterable[WorstCase]) -> list[Record]:
    """What answers for an attack, one for each recipe and seed."""
    if name == WORST_CASE:
        return list(cases)
    return [case.ensembles[name] for case in cases if name in case.ensembles]


def _attacks(record: Record) -> object:
    """What was met; only the same can be compared."""
    return record.attacks if isinstance(record, WorstCase) else record.attack


def summary_notes(
    cells: Sequence[Cell],
    cases: Sequence[WorstCase],
    names: Mapping[str, str],
    commands: Callable[[str, float], str],
) -> Iterator[str]:
    """What the worst cases withstood, recipes with the same attacks together, and what is weak.

    Args:
        cells: what a section asks.
        cases: of the section.
        names: recipe -> what its heading says.
        commands: what attacks a recipe by `strongest` with a budget.
    """
    largest = largest_eps(cells)
    if largest is None or not cases:
        return
    groups = grouped(((case.attacks, case.n), names[case.target]) for case in cases)
    attacked = "; ".join(
        listed(attacks)
        + (f" on {listed(recipes)}" if len(groups) > 1 else "")
        + f" (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{n:,})"
        for (attacks, n), recipes in groups.items()
    )
    yield (
        "Worst case: an image counts only if it withstands every stored set of images within "
        f"{show_budget(largest, None)}: {attacked}."
    )
    transferred = grouped(
        (f"{listed(attacks)} from {names.get(source, source)}", names[case.target])
        for case in cases
        for source, attacks in case.elsewhere.items()
    )
    if len(transferred) > MOST_NAMED:
        count = len({source for case in cases for source in case.elsewhere})
        yield f"The worst case also includes images made on {count} other models."
    elif transferred:
        sets = "; ".join(f"{sets} on {listed(recipes)}" for sets, recipes in transferred.items())
        yield f"The worst case also includes images made on other models: {sets}."
    smaller = grouped((case.eps, names[case.target]) for case in cases if case.eps < largest)
    for eps, recipes in smaller.items():
        yield f"{SMALLER} Not attacked beyond {show_budget(eps, None)}: {listed(recipes)}."
    ran = [
        ((TITLES[name], _spent(record)), names[case.target])
        for case in cases
        for name, record in case.ensembles.items()
    ]
    for (title, spent), recipes in grouped(ran).items():
        yield f"{title} on {listed(recipes)}: {spent}."
    weak = dict.fromkeys(case.target for case in cases if case.pgd_only)
    if weak:
        others = any(not case.pgd_only for case in cases)
        where = f"on {listed(names[target] for target in weak)} " if others else ""
        cures = dict.fromkeys(commands(target, largest) for target in weak)
        yield (
            f"{PGD_ONLY}: neither AutoAttack nor a stronger attack was run {where}yet: "
            f"{' && '.join(cures)}."
        )
