"""Two-sided numbers as text, Markdown, LaTeX, HTML, CSV or JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from robustbench_pcl.errors import unknown_name
from robustbench_pcl.report.certified import Band, TwoSided
from robustbench_pcl.report.diagnosis_formats import Words, model_fields, text_table
from robustbench_pcl.report.formatting import show_budget, show_interval, show_measured
from robustbench_pcl.report.latex import Grid, Line
from robustbench_pcl.report.latex_tables import LABEL, citation, slug
from robustbench_pcl.report.latex_text import Verbatim
from robustbench_pcl.report.notes import DIGEST
from robustbench_pcl.report.render import FORMATS, fill, latex_floats
from robustbench_pcl.report.schema import csv_rows, json_text
from robustbench_pcl.report.text import WIDTH

HEADS = ("eps", "Certified", "95 % interval", "Not known", "Withstood", "95 % interval")


def render_certificates(found: Sequence[TwoSided], form: str) -> str:
    """Two-sided numbers in a format, ending in a newline.

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
            return csv_rows("certificates", _rows(found))
        case "json":
            return json_text("certificates", _rows(found), certificates=list(map(_fields, found)))
        case "latex":
            return "\n".join(map(_latex, found))
        case "md" | "html":
            return "\n".join(fill(form, "certificate", **_parts(each)) for each in found)
    raise unknown_name("format", form, FORMATS)


def heading(found: TwoSided) -> str:
    """What was certified."""
    return f"{found.name}, n = {found.certificate.n:,}"


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


def _rows(found: Sequence[TwoSided]) -> list[dict[str, Any]]:
    """The fields of each budget of each certificate."""
    return [{**_fields(each), **_numbers(band)} for each in found for band in _bands(each)]


def _bands(found: TwoSided) -> list[Band]:
    """The ladder's budgets and those that were asked for, rising."""
    known = {band.eps: band for band in (*map(found.at, found.budgets), *found.ladder)}
    return [known[eps] for eps in sorted(known)]


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


def _fields(found: TwoSided) -> dict[str, Any]:
    """The fields of a certificate, the radii of each image among them."""
    certificate, said = found.certificate, [*found.sentences, *found.why]
    return {
        **dict(certificate),
        **model_fields(certificate.target, certificate.data),
        "certificate": certificate.id,
        "sentences": [words.replace("\N{NO-BREAK SPACE}", " ") for words in said],
        "certified_radii": certificate.certified,
        "fooling_radii": certificate.fooling,
    }
