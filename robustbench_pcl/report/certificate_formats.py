"""Two-sided numbers as text, Markdown, LaTeX, HTML, CSV or JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from robustbench_pcl.errors import unknown_name
from robustbench_pcl.report.certified import Band, TwoSided
from robustbench_pcl.report.diagnosis_formats import text_table
from robustbench_pcl.report.formatting import csv_text, show_budget, show_interval, show_measured
from robustbench_pcl.report.latex import Grid, Line
from robustbench_pcl.report.latex_tables import LABEL, citation, slug
from robustbench_pcl.report.latex_text import Verbatim
from robustbench_pcl.report.notes import DIGEST
from robustbench_pcl.report.render import FORMATS, fill, latex_floats
from robustbench_pcl.report.text import WIDTH

HEADS = ("eps", "Certified", "95 % interval", "Not known", "Withstood", "95 % interval")
Words = tuple[str, ...]


def render_certificates(found: Sequence[TwoSided], form: str) -> str:
    """Two-sided numbers in a format, ending in a newline; one in JSON is an object, several a list.

    Args:
        found: at least one.
        form: text, md, latex, html, csv or json.

    Raises:
        UserError: there is no such format.
    """
    match form:
        case "text":
            return "\n".join(map(_text, found))
        case "csv":
            rows = [{**_which(each), **_numbers(band)} for each in found for band in each.ladder]
            return csv_text(pd.DataFrame(rows, dtype=object))
        case "json":
            content = [_content(each) for each in found]
            shown = content if len(content) > 1 else content[0]
            return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"
        case "latex":
            return "\n".join(map(_latex, found))
        case "md" | "html":
            return "\n".join(fill(form, "certificate", **_parts(each)) for each in found)
    raise unknown_name("format", form, FORMATS)


def heading(found: TwoSided) -> str:
    """What was certified."""
    return f"{found.name}, n = {found.certificate.n}"


def command_of(found: TwoSided) -> str:
    """Makes the certificate again."""
    recipe, n = found.certificate.target.recipe, found.certificate.n
    command = f"pclbench certify {recipe.name} --dataset {recipe.dataset} --scale {recipe.scale}"
    return f"{command} --images {n}"


def lines(found: TwoSided) -> Iterator[Words]:
    """What is known, budget by budget, under :data:`HEADS`."""
    for band in found.ladder:
        lower, upper = map(show_interval, band.intervals)
        eps = show_budget(band.eps, None).removeprefix("eps = ")
        yield (
            eps,
            show_measured(band.lower),
            lower,
            show_measured(band.not_known),
            show_measured(band.upper),
            upper,
        )


def notes(found: TwoSided) -> list[str]:
    """How the numbers are to be read."""
    certificate = found.certificate
    said = [
        "Per cent of all images, with Wilson intervals. Certified: bounds show that no "
        f"perturbation within eps fools the model ({certificate.method.upper()}). Withstood: no "
        "attack has fooled it within eps. Not known: between them.",
        f"Fooling images by {certificate.found_by}.",
    ]
    if certificate.reason and found.at(found.budgets[0]).certified:
        said.append(f"Why no more is certified: {certificate.reason}.")
    return said


def _parts(found: TwoSided) -> dict[str, object]:
    """What a template is filled with."""
    return {
        "heading": heading(found),
        "sentences": [*found.sentences, *found.why],
        "heads": HEADS,
        "rows": list(lines(found)),
        "notes": notes(found),
    }


def _latex(found: TwoSided) -> str:
    """All of it as LaTeX."""
    certificate = found.certificate
    cited = citation(["zhang2018", "gowal2018"])
    grid = Grid(
        caption=f"Certified and attacked accuracy: {heading(found)}",
        label=f"{LABEL}-certificate-{slug(certificate.id[:DIGEST])}",
        heads=HEADS,
        rows=tuple((Line(row),) for row in lines(found)),
        notes=(
            *found.sentences,
            *found.why,
            *notes(found),
            Verbatim(f"Bounds of networks: CROWN and intervals{cited}."),
        ),
    )
    return latex_floats([grid], command_of(found))


def _text(found: TwoSided) -> str:
    """All of it for a terminal, 80 columns wide; what one wants to know comes first."""
    said = "\n".join(textwrap.fill(words, WIDTH) for words in (*found.sentences, *found.why))
    listed = [
        textwrap.fill(words, WIDTH, initial_indent="- ", subsequent_indent="  ")
        for words in notes(found)
    ]
    table = f"{heading(found)}\n{text_table(HEADS, list(lines(found)), numbers=True)}"
    return "\n\n".join([said, table, "\n".join(listed)]) + "\n"


def _which(found: TwoSided) -> dict[str, Any]:
    """What a certificate is about, as plain JSON types."""
    target, data = found.certificate.target, found.certificate.data
    return {
        "model": target.recipe.name,
        "weights": target.weights,
        "dataset": data.dataset,
        "scale": target.recipe.scale,
        "seed": target.recipe.seed,
    }


def _numbers(band: Band) -> dict[str, Any]:
    """A budget's numbers, per cent."""
    (low, high), (lowest, highest) = band.intervals
    return {
        "eps": band.eps,
        "n": band.n,
        "certified": band.lower,
        "certified_low": low,
        "certified_high": high,
        "not_known": band.not_known,
        "withstood": band.upper,
        "withstood_low": lowest,
        "withstood_high": highest,
    }


def _content(found: TwoSided) -> dict[str, Any]:
    """All of it as JSON has it, the radii of each image among it."""
    certificate = found.certificate
    own, said = certificate.content(), [*found.sentences, *found.why]
    return {
        **_which(found),
        "sentences": [words.replace("\N{NO-BREAK SPACE}", " ") for words in said],
        "budgets": [_numbers(found.at(eps)) for eps in found.budgets],
        "ladder": [_numbers(band) for band in found.ladder],
        **{name: own[name] for name in ("id", "method", "largest_eps", "n", "found_by", "reason")},
        "seconds": certificate.seconds,
        "certified": own["certified"],
        "fooling": own["fooling"],
    }
