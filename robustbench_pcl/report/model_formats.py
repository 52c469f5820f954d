"""What is stored about models as text, Markdown, LaTeX, HTML, CSV or JSON."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

from tabulate import tabulate

from robustbench_pcl.errors import unknown_name
from robustbench_pcl.report.diagnosis_formats import Words, diagnosis_fields, render_diagnoses
from robustbench_pcl.report.formatting import listed, short_code, show_interval, show_measured
from robustbench_pcl.report.latex import Grid, Line
from robustbench_pcl.report.latex_tables import LABEL, slug
from robustbench_pcl.report.latex_text import Verbatim
from robustbench_pcl.report.model_comparison import Comparison, comparisons
from robustbench_pcl.report.model_report import stored_bands
from robustbench_pcl.report.model_section import Budget
from robustbench_pcl.report.notes import DIGEST
from robustbench_pcl.report.render import FORMATS, escape_markdown, fill, latex_floats
from robustbench_pcl.report.results import Record
from robustbench_pcl.report.schema import DOCUMENTS, csv_rows, json_text
from robustbench_pcl.report.text import WIDTH
from robustbench_pcl.report.worst_case import TITLES, WORST_CASE, worst_case_id
from robustbench_pcl.store.diagnoses import Diagnosis

HEADS = (
    *("Attack", "Accuracy", "95 % interval", "Only it", "Optimality"),
    *("Seconds", "Forward passes", "Backward passes"),
)
COMPARED = ("Attack", "First", "Second", "Only first", "Only second", "p")
CAPTION = (
    "Accuracy in per cent, with its Wilson interval. Only it: images that no other attack here "
    "fooled. Optimality: of the images that any attack fooled, the share that this one fooled, in "
    "per cent. Passes: images through the model, forward and backward, for each image. "
    "Worst case (envelope): an image counts only if it withstands every attack stored within the "
    "budget, also those with a smaller budget and those on other models. Early stop: each image "
    "left the attack when it was fooled."
)
PAIRED = (
    "The same images under the same attacks: accuracy in per cent, and the images that only the "
    "first and only the second model has right. p: two-sided, by the exact McNemar test, each by "
    "itself; small if equally good models would seldom differ as much."
)
VERDICT = "Verdict"
NARROW = {
    "Accuracy": "Accu- racy",
    "Optimality": "Opti- mality",
    "95 % interval": "95\N{NO-BREAK SPACE}% interval",
    VERDICT: "PCL",
}
"""Headings as a terminal breaks them, a word per line."""
AFTER_INTERVAL = 3
"""Where a verdict's code stands, if any has one."""
CODES = "Verdict: the code of the diagnosis that speaks of the number, beneath."


def render_models(
    budgets: Sequence[Budget],
    form: str,
    diagnoses: Sequence[Diagnosis] = (),
    linked: Mapping[str, int] | None = None,
) -> str:
    """Sections, comparisons and diagnoses in a format, ending in a newline.

    Args:
        budgets: the sections; models of different names among them are compared.
        form: text, md, latex, html, csv or json; csv has sections only.
        diagnoses: of the models.
        linked: in HTML, the ids of numbers whose evidence is on the page -> their places in it.

    Raises:
        UserError: there is no such format.
    """
    compared = list(comparisons(budgets))
    rendered = [render_diagnoses(diagnoses, form)] if diagnoses else []
    match form:
        case "text":
            return "\n".join([*[_text(budgets, compared)] * bool(budgets), *rendered])
        case "csv":
            return csv_rows("models", model_rows(budgets))
        case "json":
            text = json_text(
                "models",
                model_rows(budgets),
                sections=[_section(each) for each in budgets],
                comparisons=[row for each in compared for row in _compared(each)],
                notes=list(notes(budgets)),
                diagnoses=list(map(diagnosis_fields, diagnoses)),
            )
            # One line for each image, not one for each attack that felled it.
            return re.sub(r"\[[\d,\s]+\]", lambda list_: "".join(list_[0].split()), text)
        case "latex":
            return "\n".join([*[_latex(budgets, compared)] * bool(budgets), *rendered])
        case "md" | "html":
            filled = fill(
                form,
                "model",
                title=title(budgets),
                caption=caption(budgets),
                heads=heads,
                notes=list(notes(budgets)),
                budgets=budgets,
                lines=lines,
                paired=PAIRED,
                compared_heads=COMPARED,
                comparisons=compared,
                compared_lines=compared_lines,
                numbers=_markdown_grid,
                number_ids=number_ids,
                linked=linked or {},
            )
            return "\n".join([*[filled] * bool(budgets), *rendered])
    raise unknown_name("format", form, FORMATS)


def notes(budgets: Sequence[Budget]) -> Iterator[str]:
    """Where images and numbers come from, once for all sections."""
    for name, images in dict.fromkeys((each.title, each.model.provenance) for each in budgets):
        yield f"Images of {name} from {images}."
    for band in stored_bands(budgets):
        yield from (f"{band.certificate.target.recipe.name}: {words}" for words in band.why)
    devices = {each.record.device for budget in budgets for each in budget.attacks}
    if devices:
        yield f"Seconds on {listed(sorted(devices))}."


def title(budgets: Sequence[Budget]) -> str:
    """Whose numbers they are."""
    return f"What is stored of {listed(dict.fromkeys(each.model.target for each in budgets))}"


def caption(budgets: Sequence[Budget]) -> str:
    """How all sections are to be read."""
    return f"{CAPTION} {CODES}" if any(each.has_verdicts for each in budgets) else CAPTION


def heads(budget: Budget) -> Words:
    """The headings of :func:`lines`."""
    verdict = (VERDICT,) if budget.has_verdicts else ()
    return (*HEADS[:AFTER_INTERVAL], *verdict, *HEADS[AFTER_INTERVAL:])


def lines(budget: Budget, show_code: Callable[[str], str] = str) -> Iterator[Words]:
    """A section as its readers see it: clean, each attack, the worst case; under :func:`heads`.

    Args:
        budget: the section.
        show_code: writes a verdict's code.
    """
    empty = ("",) * 5

    def verdict(code: str | None) -> tuple[str, ...]:
        return (show_code(code or ""),) if budget.has_verdicts else ()

    if budget.clean is not None:
        accuracy = _accuracy(budget.clean.accuracy, _interval(budget.clean))
        yield ("Clean", *accuracy, *verdict(None), *empty)
    for each in budget.attacks:
        yield (
            each.label,
            *_accuracy(each.record.accuracy, _interval(each.record)),
            *verdict(each.record.verdict),
            str(each.felled_alone),
            show_measured(each.optimality),
            show_measured(each.record.seconds, "seconds_per_epoch"),
            _passes(each.forward_passes),
            _passes(each.backward_passes),
        )
    if budget.attacks:
        code = verdict(budget.verdict)
        yield ("Worst case", *_accuracy(*budget.worst_case), *code, *empty)


def number_ids(budget: Budget) -> list[str]:
    """The id of what stands behind the accuracy of each of :func:`lines`."""
    ids = [str(budget.clean.id)] if budget.clean is not None else []
    ids += [str(each.record.id) for each in budget.attacks]
    return [*ids, worst_case_id(ids)] if budget.attacks else ids


def compared_lines(comparison: Comparison) -> Iterator[Words]:
    """A comparison as its readers see it, under :data:`COMPARED`."""
    for pair in comparison.pairs:
        accuracies = map(show_measured, pair.accuracies)
        yield (pair.label, *accuracies, *map(str, pair.only), f"{pair.p:.2g}")


def _passes(number: float) -> str:
    return f"{number:.1f}" if number < 1000 else f"{number:,.0f}"


def _accuracy(accuracy: float, interval: tuple[float, float]) -> tuple[str, str]:
    return show_measured(accuracy), show_interval(interval)


def _interval(record: Any) -> tuple[float, float]:
    return record.low, record.high


def _latex(budgets: Sequence[Budget], compared: Sequence[Comparison]) -> str:
    """All of it as LaTeX: a table for each section and each comparison."""
    grids = [
        Grid(
            caption=each.heading,
            label=f"{LABEL}-{slug(*_place(each))}",
            heads=heads(each),
            rows=tuple((Line(row),) for row in lines(each, short_code)),
            notes=(caption(budgets), *each.notes(), *notes(budgets)),
        )
        for each in budgets
    ]
    grids += [
        Grid(
            caption=f"Two models compared: {each.heading}",
            label=f"{LABEL}-compared-{slug(*_place(each.first), *_place(each.second))}",
            heads=COMPARED,
            rows=tuple((Line(row),) for row in compared_lines(each)),
            notes=(PAIRED,),
        )
        for each in compared
    ]
    names = dict.fromkeys(each.model.target for each in budgets)
    command = "pclbench report" + "".join(f" --model {shlex.quote(name)}" for name in names)
    return latex_floats(grids, command)


def _place(budget: Budget) -> tuple[object, ...]:
    """What tells a section from all others."""
    model = budget.model
    threat = [] if budget.norm is None else [budget.norm, budget.eps]
    words = (model.target, model.dataset, model.scale, model.seed, *threat)
    return (*words, model.n, model.weights[:DIGEST], model.data_digest[:DIGEST])


def _text(budgets: Sequence[Budget], compared: Sequence[Comparison]) -> str:
    """All of it for a terminal, 80 columns wide."""
    blocks = [f"{title(budgets)}\n{textwrap.fill(caption(budgets), WIDTH)}"]
    for each in budgets:
        grid = _grid(heads(each), lines(each, short_code))
        blocks.append(f"{each.heading}\n{grid}\n{_listed(each.notes())}")
    blocks.append(_listed(notes(budgets)))
    blocks += [textwrap.fill(PAIRED, WIDTH)] * bool(compared)
    for comparison in compared:
        blocks.append(f"{comparison.heading}\n{_grid(COMPARED, compared_lines(comparison))}")
    return "\n\n".join(blocks) + "\n"


def _listed(sentences: Iterable[str]) -> str:
    """Sentences below one another, each with a mark."""
    marked = partial(textwrap.fill, width=WIDTH, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(map(marked, sentences))


def _grid(heads: Words, rows: Iterable[Words]) -> str:
    """Rows for a terminal, numbers on the right; long names of attacks take several lines."""
    broken = tuple(NARROW.get(head, head).replace(" ", "\n") for head in heads)
    table = [broken, *rows]
    widths = [
        max(len(part) for entry in column for part in entry.split("\n"))
        for column in zip(*table, strict=True)
    ]
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * len(widths[1:]))
    printed = []
    for row in (broken, tuple("─" * width for width in widths), *table[1:]):
        cells = [textwrap.wrap(row[0], widths[0]), *(entry.split("\n") for entry in row[1:])]
        for name, *numbers in zip_longest(*cells, fillvalue=""):
            padded = [name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]
            printed.append("  ".join(padded).rstrip())
    return "\n".join(printed)


def _markdown_grid(heads: Words, rows: Iterator[Words]) -> Verbatim:
    """Rows as a Markdown table, numbers on the right."""
    grid = tabulate(
        [list(map(escape_markdown, row)) for row in rows],
        headers=heads,
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["left", *["right"] * (len(heads) - 1)],
    )
    return Verbatim(grid)


def model_rows(budgets: Sequence[Budget]) -> list[dict[str, Any]]:
    """The fields of each line of each section."""
    return [row for each in budgets for row in _rows(each)]


def _rows(budget: Budget) -> Iterator[dict[str, Any]]:
    empty = dict.fromkeys(column.name for column in DOCUMENTS["models"].columns)
    shared = {**empty, **_which(budget)}
    if budget.clean is not None:
        yield {**shared, **_measured(budget.clean)}
    for each in budget.attacks:
        yield {
            **shared,
            **_measured(each.record),
            "felled_alone": each.felled_alone,
            "optimality": each.optimality,
            "felled_by_stage": each.stages or None,
            "seconds": each.record.seconds,
            "forward_passes_per_image": each.forward_passes,
            "backward_passes_per_image": each.backward_passes,
        }
    if budget.attacks:
        accuracy, (low, high) = budget.worst_case
        yield {
            **shared,
            "attack": TITLES[WORST_CASE],
            "eps": budget.eps,
            "norm": budget.norm,
            "accuracy": accuracy,
            "low": low,
            "high": high,
            "verdict": budget.verdict,
        }


def _which(budget: Budget) -> dict[str, Any]:
    """What a section is about."""
    names = ("target", "dataset", "scale", "seed", "checkpoint", "weights", "model", "data_digest")
    shared = {name: getattr(budget.model, name) for name in (*names, "n")}
    return {**shared, "budget": budget.eps, "budget_norm": budget.norm}


def _measured(record: Record) -> dict[str, Any]:
    """What a section says of a measurement as it is stored."""
    names = ("id", "attack", "source", "eps", "norm", "parameters", "mode")
    return {name: getattr(record, name) for name in (*names, "accuracy", "low", "high", "verdict")}


def _section(budget: Budget) -> dict[str, Any]:
    """What is known of a section beside its rows."""
    return {
        **_which(budget),
        "attacks": [each.label for each in budget.attacks],
        "felled_by_attacks": budget.felled_by() if budget.attacks else None,
        "estimated_to_be_fellable": budget.missed,
        "notes": list(budget.notes()),
    }


def _compared(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """The fields of each pair of numbers."""
    shared = _which(comparison.first)
    for pair in comparison.pairs:
        yield {
            **shared,
            "first": comparison.first.model.target,
            "second": comparison.second.model.target,
            "attack": pair.label,
            "first_accuracy": pair.accuracies[0],
            "second_accuracy": pair.accuracies[1],
            "only_first": pair.only[0],
            "only_second": pair.only[1],
            "p": pair.p,
        }
