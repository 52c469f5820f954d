"""What commands print: results on standard output, words for people on standard error."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_pcl.cli.choices import Format
from robustbench_pcl.cli.files import PICTURES, PRINTED, read_form, write_file
from robustbench_pcl.errors import visible

if TYPE_CHECKING:
    from robustbench_pcl.errors import UserError
    from robustbench_pcl.pipeline.stored import StoredWorstCase
    from robustbench_pcl.report.described import DescribedTable
    from robustbench_pcl.report.figures import PageFigure, ReportFigure
    from robustbench_pcl.report.table import Table
    from robustbench_pcl.store.records import Measurement, Paths

Rows = Sequence[Mapping[str, Any]]
"""Mappings that share their keys, which are the columns."""
MOST_LEFT_OUT = 10
"""Files that are named of those that are left out."""
STATE_WIDTH = 19
"""Columns of what a plan says about a task: "about 23 h 59 min"."""


def say(message: str) -> None:
    """Print a line for the person, on standard error, so that standard output can be piped."""
    print(visible(message), file=sys.stderr)


def say_left_out(errors: Sequence[UserError]) -> None:
    """Say which stored files are left out, and what to do about each; of many, the first ones."""
    for error in errors[:MOST_LEFT_OUT]:
        say(f"Left out: {error.cause}\n  {error.cure}")
    if len(errors) > MOST_LEFT_OUT:
        from robustbench_pcl.progress import counted

        say(f"Left out, too: {counted(len(errors) - MOST_LEFT_OUT, 'more file')}.")


def write(content: str | bytes, output: Path | None = None, *, force: bool = False) -> None:
    """Print text, or write a file; see :func:`~robustbench_pcl.cli.files.writing`."""
    if output is None or output == PRINTED:
        if isinstance(content, str):
            print(visible(content), end="")
        else:
            sys.stdout.buffer.write(content)
        return
    write_file(output, content.encode() if isinstance(content, str) else content, force=force)
    say(f"Wrote {output}.")


def print_document(
    document: str,
    rows: Rows,
    form: Format,
    title: str = "",
    members: Mapping[str, Any] | None = None,
) -> None:
    """Print a document for programs, or its rows for people.

    Args:
        document: of :data:`robustbench_pcl.report.schema.DOCUMENTS`.
        rows: its rows.
        form: how.
        title: stands above rows that are text.
        members: what JSON has beside the rows.
    """
    from robustbench_pcl.report.schema import csv_rows, json_text

    if form is Format.json:
        write(json_text(document, rows, **(members or {})))
    elif form is Format.csv:
        write(csv_rows(document, rows))
    else:
        print_rows(rows, form, title)


def print_rows(rows: Rows, form: Format = Format.text, title: str = "") -> None:
    """Print rows for people; the title stands above them where they are text.

    A line of text breaks between words only, however narrow the terminal is.
    """
    if form is not Format.text:
        write(_for_documents(rows, form))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        collapse_padding=True,
    )
    names = [column.replace("_", " ") for column in (rows[0] if rows else ())]
    lines = [["" if value is None else str(value) for value in row.values()] for row in rows]
    columns = list(zip(names, *lines, strict=True))
    console = Console(highlight=False, markup=False)
    between = 2 * len(columns)
    for name, width in zip(names, _widths(columns, console.width - between), strict=True):
        table.add_column(name, width=width)
        between += width
    for line in lines:
        table.add_row(*line)
    console.width = max(console.width, between)
    with console.capture() as printed:  # rich would end the process where nobody reads
        console.print(table)
    write(printed.get())


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Of each column: the widest are narrowed until all fit, but no word is cut."""
    from rich.cells import cell_len

    whole = [[line for cell in cells for line in cell.splitlines()] for cells in columns]
    widths = [max(map(cell_len, lines), default=0) for lines in whole]
    words = [[word for line in lines for word in line.split()] for lines in whole]
    least = [max(map(cell_len, each), default=0) for each in words]
    while sum(widths) > room:
        wide = [index for index, width in enumerate(widths) if width > least[index]]
        if not wide:
            break
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _for_documents(rows: Rows, form: Format) -> str:
    """Rows as Markdown, HTML or LaTeX."""
    columns = list(rows[0]) if rows else []
    cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
    if form is Format.md:
        lines = [columns, ["---"] * len(columns), *cells]
        escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        return "".join(f"| {' | '.join(line)} |\n" for line in escaped)
    import pandas as pd

    frame = pd.DataFrame(cells, columns=columns)
    if form is Format.html:
        return frame.to_html(index=False, border=0) + "\n"
    return frame.to_latex(index=False, escape=True)


def print_plan(rows: Rows) -> None:
    """Print what there is to do for people; lines break between words only."""
    from robustbench_pcl.progress import spoken

    width = max(shutil.get_terminal_size().columns - 1, STATE_WIDTH + 20)
    for row in rows:
        seconds = row["seconds"]
        state = "unknown" if seconds is None else f"about {spoken(max(seconds, 0.1))}"
        if row["state"] == "done":
            state = "done"
        lines = textwrap.wrap(
            f"{state:<{STATE_WIDTH}}{row['task']}",
            width,
            subsequent_indent=" " * STATE_WIDTH,
            break_long_words=False,
            break_on_hyphens=False,
        )
        print(visible("\n".join(lines)))


def print_measurements(
    measurements: Sequence[Measurement],
    form: Format,
    paths: Paths,
    cases: Sequence[StoredWorstCase] = (),
) -> None:
    """Print measurements, one per row, and worst cases over what is stored.

    For programs, rows are those of ``results``.

    Args:
        measurements: which.
        form: how.
        paths: where the diagnoses lie that speak of them.
        cases: whose rows have what they share with measurements.
    """
    if form in (Format.json, Format.csv):
        from robustbench_pcl.report.diagnosed import load_diagnosed
        from robustbench_pcl.report.results import measurement_rows, summary_row

        left_out: list[UserError] = []
        diagnosed = load_diagnosed(paths, left_out.append)
        say_left_out(left_out)
        summaries = [summary_row(case, measurements, diagnosed) for case in cases]
        found = [*measurement_rows(measurements, diagnosed), *summaries]
        print_document("measurements", found, form)
        return
    from robustbench_pcl.attacks.base import attack_label

    names = distinct_names(measurements)
    rows = []
    for each in measurements:
        source = "elsewhere" if each.attack else ""
        if each.source:
            source = names[each.source.key]
        rows.append(
            {
                "target": names[each.target.key],
                "source": "white-box" if source == names[each.target.key] else source,
                "attack": attack_label(each.attack) if each.attack else "Clean",
                **_shown(each.accuracy, each.interval),
                "n": each.n,
                "Linf": f"{each.largest_linf:.4g}",
            }
        )
    for case in cases:
        rows.append(
            {
                "target": names[case.target.key],
                "source": "all stored",
                "attack": case.label,
                **_shown(case.accuracy, case.interval),
                "n": case.n,
                "Linf": "",
            }
        )
        if case.shorter:
            say(f"Sets of fewer than {case.n} images, left out of the worst case: {case.shorter}.")
    print_rows(rows, form)


def _shown(accuracy: float, interval: tuple[float, float]) -> dict[str, str]:
    """An accuracy and its interval for people, rounded as in tables."""
    from robustbench_pcl.report.formatting import per_cent, show_interval, show_measured

    low, high = map(per_cent, interval)
    return {
        "accuracy": f"{show_measured(per_cent(accuracy))} %",
        "95 % interval": show_interval((low, high)),
    }


def print_matrices(measurements: Sequence[Measurement]) -> None:
    """Print accuracies under each attack for people, a source per row and a target per column."""
    from robustbench_pcl.attacks.base import attack_label

    names = distinct_names(measurements)
    for label, group in groupby(measurements, lambda each: attack_label(each.attack or {})):
        rows: dict[str, dict[str, Any]] = {}
        for each in group:
            source = names[each.source.key] if each.source else ""
            row = rows.setdefault(source, {"from / on": source})
            row[names[each.target.key]] = _shown(each.accuracy, each.interval)["accuracy"]
        n = measurements[0].n
        print_rows([{**row, "n": n} for row in rows.values()], title=label)


def distinct_names(measurements: Iterable[Measurement]) -> dict[str, str]:
    """A name for each model, by its key: its recipe's, with what tells it from its namesakes."""
    known = {
        model.key: model for each in measurements for model in (each.target, each.source) if model
    }
    names: dict[str, str] = {}
    for key, model in known.items():
        namesakes = [other for other in known.values() if other.recipe.name == model.recipe.name]
        marks = (
            {each.key: f"seed {each.recipe.seed}" for each in namesakes},
            {each.key: f"{each.recipe.scale} scale" for each in namesakes},
            {each.key: f"weights {each.weights[:8]}" for each in namesakes},
        )
        distinct = (mark for mark in marks if len(set(mark.values())) == len(namesakes))
        mark = next(distinct, marks[-1])[key]
        names[key] = model.recipe.name + f" ({mark})" * (len(namesakes) > 1)
    return names


def print_tables(
    tables: Sequence[Table | DescribedTable],
    form: Format,
    *,
    interval: bool = False,
    output: Path | None = None,
    force: bool = False,
) -> None:
    """Print tables, in colour on a terminal, or write them to a file.

    Args:
        tables: which.
        form: how.
        interval: with each measured number's interval.
        output: the file, whose name may say the format, pictures among them.
        force: replace a file that somebody else wrote.
    """
    from rich.console import Console

    from robustbench_pcl.report.render import render, tables_json
    from robustbench_pcl.report.text import terminal_text

    drawn = output is not None and output.suffix in PICTURES
    form = form if drawn else read_form(form, output)
    terminal = Console(highlight=False, markup=False)
    if form is Format.text and output is None and terminal.is_terminal:
        for table in tables:
            terminal.print(terminal_text(table, interval=interval), soft_wrap=True)
        return
    if form is Format.json:
        write(tables_json(tables), output, force=force)
        return
    written = [render(table, form.value, interval=interval) for table in tables]
    if output is not None and drawn:
        from robustbench_pcl.report.drawing import drawn_text

        write(drawn_text("\n".join(written)).file(output.suffix), output, force=force)
        return
    write("\n".join(written), output, force=force)


def write_figure(
    figure: ReportFigure | PageFigure, output: Path | None, *, force: bool = False
) -> None:
    """Print a figure as SVG, or write it as the file's name says; its caption is for the person."""
    from robustbench_pcl.errors import UserError

    suffix = ".svg" if output is None or output == PRINTED else output.suffix
    if output is not None and suffix not in PICTURES:
        cure = "Name a file that ends in .svg, .png or .pdf."
        raise UserError(f"A figure cannot be written as {output.name}.", cure)
    write(figure.drawing.file(suffix), output, force=force)
    say(f"{figure.title}. {figure.caption}")


def first_line(thing: object) -> str:
    """The first line of a thing's docstring, or "" where it has none."""
    return next(iter((thing.__doc__ or "").strip().splitlines()), "")


def home_option(root: Path) -> str:
    """What a command that is shown needs so that it finds a workspace; "" in the current folder."""
    return "" if root == Path() else f" --home {shlex.quote(str(root))}"


def typed(words: Sequence[str]) -> str:
    """The command that was given, to be typed again."""
    module = Path(sys.argv[0]).name == "__main__.py"
    start = ["python", "-m", "robustbench_pcl"] if module else ["pclbench"]
    return shlex.join([*start, *words])
