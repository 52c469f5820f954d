"""A diagnosis as text, Markdown, LaTeX, HTML, CSV or JSON."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from robustbench_pcl.configuration import Dump
from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.diagnosis.codes import explanation
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.recipes.load import load_attack
from robustbench_pcl.report.formatting import (
    MISSING,
    per_cent,
    show_budget,
    show_interval,
    show_measured,
)
from robustbench_pcl.report.latex import Grid, Line
from robustbench_pcl.report.latex_tables import LABEL, citation, slug
from robustbench_pcl.report.latex_text import Verbatim, escape_latex
from robustbench_pcl.report.model_section import NORMS
from robustbench_pcl.report.notes import DIGEST
from robustbench_pcl.report.render import FORMATS, fill, latex_floats
from robustbench_pcl.report.schema import csv_rows, json_text
from robustbench_pcl.report.text import WIDTH
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.records import DataRecord, ModelRecord
from robustbench_pcl.store.rules import wilson

NUMBERS = ("", "Accuracy", "95 % interval", "n")
CHECKS = ("Check", "Question", "Answer", "What was found")
THRESHOLD = "Where the line is, and why"
COMPETENCE = ("Competence of", "Found", "95 % interval", "n")
COMPETENCE_CAPTION = (
    "Competence (the binarisation test of Zimmermann et al., NeurIPS 2022): the share of images "
    "with an adversarial one by construction for which the attack finds one, in per cent."
)
ANSWERS = {True: "yes", False: "no", None: MISSING}
"""Of a check; that of one that could not be told is none."""
LONGEST = 24
"""Characters that an entry of a terminal's table has in a line, the last one's apart."""
Words = tuple[str, ...]


def render_diagnoses(diagnoses: Sequence[Diagnosis], form: str) -> str:
    """Diagnoses in a format, ending in a newline.

    Args:
        diagnoses: at least one.
        form: text, md, latex, html, csv or json.

    Raises:
        UserError: there is no such format.
    """
    match form:
        case "text":
            return "\n".join(map(_text, diagnoses))
        case "csv":
            return csv_rows("diagnoses", check_rows(diagnoses))
        case "json":
            found = list(map(diagnosis_fields, diagnoses))
            return json_text("diagnoses", check_rows(diagnoses), diagnoses=found)
        case "latex":
            return "\n".join(map(_latex, diagnoses))
        case "md" | "html":
            return "\n".join(fill(form, "diagnosis", **_parts(each)) for each in diagnoses)
    raise unknown_name("format", form, FORMATS)


def heading(diagnosis: Diagnosis) -> str:
    """The verdict, and what it was given on."""
    recipe, name = diagnosis.target.recipe, diagnosis.data.dataset
    title = DATASETS[name].title if name in DATASETS else name
    norm = NORMS.get(diagnosis.norm, diagnosis.norm)
    budget = f"{norm}, {show_budget(diagnosis.eps, None)}, n = {diagnosis.n:,}"
    model = f"{recipe.name} on {title}, {recipe.scale} scale"
    return f"{diagnosis.code} {diagnosis.verdict}: {model}, {budget}"


def further(diagnosis: Diagnosis) -> str:
    """Where there is more about the verdict."""
    return f"Meaning and remedies: pclbench explain {diagnosis.code}"


def commands_of(diagnosis: Diagnosis) -> tuple[str, str]:
    """What makes it again, and what explains it."""
    recipe, attack = diagnosis.target.recipe, diagnosis.attack
    words = [
        f"pclbench diagnose {recipe.name} --dataset {recipe.dataset} --scale {recipe.scale}",
        f"--attack {attack['name']} --eps {diagnosis.eps:.12g} --images {diagnosis.n}",
        *(f"--seed {seed}" for seed in (diagnosis.seed,) if seed),
        *(f"--set {key}={value}" for key, value in _unusual(diagnosis).items()),
        *(f"--source {source.recipe.name}" for source in diagnosis.sources),
    ]
    return " ".join(words), f"pclbench explain {diagnosis.code}"


def _unusual(diagnosis: Diagnosis) -> Dump:
    """The judged attack's parameters that are not what its name stands for, eps apart."""
    recipe, attack = diagnosis.target.recipe, diagnosis.attack
    given = {"eps": diagnosis.eps}
    try:
        usual = load_attack(str(attack["name"]), recipe.dataset, recipe.scale, given).dump()
    except UserError:  # of a plugin that is not loaded
        usual = {"name": attack["name"], **given}
    return {key: value for key, value in attack.items() if usual.get(key) != value}


def number_lines(diagnosis: Diagnosis) -> Iterator[Words]:
    """What is left without attack, of the judged one and of all, under :data:`NUMBERS`."""
    n = diagnosis.n
    for label, count, interval in (
        ("Clean", diagnosis.clean, wilson(diagnosis.clean, n)),
        (diagnosis.label, diagnosis.correct, wilson(diagnosis.correct, n)),
        ("All attacks that were tried", diagnosis.withstood, diagnosis.interval),
    ):
        yield label, *_share(count, n, interval), str(n)


def check_lines(diagnosis: Diagnosis) -> Iterator[Words]:
    """What was asked, in order, under :data:`CHECKS`."""
    for check in diagnosis.checks:
        yield check.code, check.name, ANSWERS[check.passed], check.sentence


def competence_lines(diagnosis: Diagnosis) -> Iterator[Words]:
    """What the attacks are able to, under :data:`COMPETENCE`."""
    for each in diagnosis.competence:
        yield each.label, *_share(each.found, each.n, each.interval), str(each.n)


def check_rows(diagnoses: Sequence[Diagnosis]) -> list[dict[str, Any]]:
    """The fields of each check, with those of the diagnosis that it is of."""
    return [
        {**fields, **check}
        for fields in map(diagnosis_fields, diagnoses)
        for check in fields["checks"]
    ]


def diagnosis_fields(diagnosis: Diagnosis) -> dict[str, Any]:
    """A diagnosis as programs read it: shares in per cent, names as in a measurement's row."""
    n = diagnosis.n
    return {
        **model_fields(diagnosis.target, diagnosis.data),
        "diagnosis": diagnosis.id,
        "attack": diagnosis.label,
        "parameters": diagnosis.attack,
        "eps": diagnosis.eps,
        "norm": diagnosis.norm,
        "n": n,
        "attack_seed": diagnosis.seed,
        "sources": [source.recipe.name for source in diagnosis.sources],
        "verdict": diagnosis.code,
        "verdict_name": diagnosis.verdict,
        "sentence": diagnosis.sentence,
        "clean": per_cent(diagnosis.clean / n),
        **_ends("accuracy", diagnosis.correct, n, ("low", "high")),
        **_ends("withstood", diagnosis.withstood, n),
        "checks": [
            {
                "check": check.code,
                "check_name": check.name,
                "passed": check.passed,
                "points_to": check.points_to,
                "figures": check.measured,
                "check_n": check.n,
                "threshold": check.threshold,
                "sentence": check.sentence,
            }
            for check in diagnosis.checks
        ],
        "competence": [
            {
                "attack": each.label,
                "parameters": each.attack,
                "n": each.n,
                **_ends("competent", each.found, each.n),
            }
            for each in diagnosis.competence
        ],
        "seconds": diagnosis.seconds,
        "created": diagnosis.created,
    }


def model_fields(model: ModelRecord, data: DataRecord) -> dict[str, Any]:
    """A model and its clean images, as in a measurement's row."""
    return {
        "target": model.recipe.name,
        "dataset": data.dataset,
        "scale": model.recipe.scale,
        "seed": model.recipe.seed,
        "checkpoint": model.checkpoint,
        "weights": model.weights,
        "model": model.key,
        "data_digest": data.digest,
    }


def _ends(name: str, count: int, n: int, ends: Sequence[str] = ()) -> dict[str, float]:
    """A share in per cent, with its Wilson interval."""
    low, high = ends or (f"{name}_low", f"{name}_high")
    lowest, highest = map(per_cent, wilson(count, n))
    return {name: per_cent(count / n), low: lowest, high: highest}


def _share(count: int, n: int, interval: tuple[float, float]) -> tuple[str, str]:
    """A share in per cent, and its interval."""
    low, high = map(per_cent, interval)
    return show_measured(per_cent(count / n)), show_interval((low, high))


def _parts(diagnosis: Diagnosis) -> dict[str, object]:
    """What a template is filled with."""
    environment = diagnosis.environment
    return {
        "id": diagnosis.id,
        "made": f"{diagnosis.created} on {environment.device}, pclbench {environment.pclbench}",
        "command": commands_of(diagnosis)[0],
        "heading": heading(diagnosis),
        "sentence": diagnosis.sentence,
        "further": further(diagnosis),
        "explanation": explanation(diagnosis.code),
        "number_heads": NUMBERS,
        "numbers": list(number_lines(diagnosis)),
        "competence_heads": COMPETENCE,
        "competence": list(competence_lines(diagnosis)),
        "caption": COMPETENCE_CAPTION,
        "check_heads": (*CHECKS, THRESHOLD),
        "checks": _checks(diagnosis),
    }


def _latex(diagnosis: Diagnosis) -> str:
    """All of it as LaTeX: numbers, checks and competence, a table each."""
    label = f"{LABEL}-diagnosis-{slug(diagnosis.id[:DIGEST])}"
    grids = [
        Grid(
            caption=f"{heading(diagnosis)}. {diagnosis.sentence}".rstrip("."),
            label=label,
            heads=NUMBERS,
            rows=tuple((Line(row),) for row in number_lines(diagnosis)),
            notes=(f"{further(diagnosis)}.",),
        ),
        Grid(
            caption=f"Checks behind {heading(diagnosis)}",
            label=f"{label}-checks",
            heads=(*CHECKS, THRESHOLD),
            rows=tuple((Line(row),) for row in _checks(diagnosis)),
            words=True,
        ),
        Grid(
            caption=f"Competence of attacks: {heading(diagnosis)}",
            label=f"{label}-competence",
            heads=COMPETENCE,
            rows=tuple((Line(row),) for row in competence_lines(diagnosis)),
            notes=(Verbatim(f"{escape_latex(COMPETENCE_CAPTION)}{citation(['zimmermann2022'])}"),),
        ),
    ]
    command, _ = commands_of(diagnosis)
    return latex_floats([grid for grid in grids if grid.rows], command)


def _checks(diagnosis: Diagnosis) -> list[Words]:
    """What was asked, in order, with where the line is."""
    return [
        (*line, check.threshold)
        for line, check in zip(check_lines(diagnosis), diagnosis.checks, strict=True)
    ]


def _text(diagnosis: Diagnosis) -> str:
    """All of it for a terminal, 80 columns wide."""
    blocks = [
        "\n".join([*_wrapped(heading(diagnosis), WIDTH), *_wrapped(diagnosis.sentence, WIDTH)]),
        text_table(NUMBERS, list(number_lines(diagnosis)), numbers=True),
        text_table(CHECKS, list(check_lines(diagnosis))),
    ]
    competence = list(competence_lines(diagnosis))
    if competence:
        caption = textwrap.fill(COMPETENCE_CAPTION, WIDTH)
        blocks.append(f"{caption}\n{text_table(COMPETENCE, competence, numbers=True)}")
    return "\n\n".join([*blocks, further(diagnosis)]) + "\n"


def text_table(heads: Words, rows: Sequence[Words], *, numbers: bool = False) -> str:
    """Rows for a terminal, long entries in several lines; the last column takes what is left.

    Args:
        heads: of the columns.
        rows: from top to bottom.
        numbers: all columns but the first stand on the right.
    """
    columns = list(zip(heads, *rows, strict=True))
    longest = WIDTH if numbers else LONGEST
    widths = [min(max(map(len, column)), longest) for column in columns]
    widths[-1] = min(max(map(len, columns[-1])), WIDTH - sum(widths[:-1]) - 2 * len(widths[:-1]))
    printed = []
    for row in (heads, tuple("─" * width for width in widths), *rows):
        cells = [_wrapped(entry, width) for entry, width in zip(row, widths, strict=True)]
        for first, *others in zip_longest(*cells, fillvalue=""):
            place = str.rjust if numbers else str.ljust
            padded = [first.ljust(widths[0]), *map(place, others, widths[1:])]
            printed.append("  ".join(padded).rstrip())
    return "\n".join(printed)


def _wrapped(entry: str, width: int) -> list[str]:
    """The entry in lines; none begins with "%" or "= 100"."""
    lines = textwrap.wrap(re.sub(r" (?=[%=])|(?<==) ", "\N{NO-BREAK SPACE}", entry), width)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
