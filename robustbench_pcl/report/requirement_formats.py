"""Answers to requirements as text, JSON, and SARIF 2.1.0 for code scanning."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from robustbench_pcl.configuration import digest
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.errors import unknown_name
from robustbench_pcl.report.diagnosis_formats import diagnosis_fields
from robustbench_pcl.report.formatting import show_interval, show_measured
from robustbench_pcl.report.required import Answer, Number
from robustbench_pcl.report.schema import json_text
from robustbench_pcl.report.selection import Subject
from robustbench_pcl.report.text import WIDTH
from robustbench_pcl.store.diagnoses import CODES, Diagnosis
from robustbench_pcl.version import __version__

FORMATS = ("text", "json", "sarif")
OWN = NOT_MET, NOT_MEASURED = "PCL301", "PCL302"
SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
RULES = {
    NOT_MET: ("RequirementNotMet", "A stored number does not meet a requirement."),
    NOT_MEASURED: ("RequirementNotMeasured", "Nothing is stored about a requirement."),
    **{
        code: (
            "".join(word.capitalize() for word in verdict.split()),
            f"The diagnosis of a required model says: {verdict}.",
        )
        for verdict, code in CODES.items()
        if verdict != "holds"
    },
}
"""The id of each rule, its name, and what it says."""
NOWHERE = "results/measurements"
"""Where what is missing would be."""
STATUS_WIDTH = 18


def render_answers(answers: Sequence[Answer], doubted: Sequence[Diagnosis], form: str) -> str:
    """The answers in a format, ending in a newline.

    Args:
        answers: in the order in which they were asked for.
        doubted: diagnoses of the models that say other than "holds".
        form: of :data:`FORMATS`.

    Raises:
        UserError: there is no such format.
    """
    match form:
        case "text":
            return _text(answers, doubted)
        case "json":
            return json_text(
                "requirements",
                [_fields(each) for each in answers],
                holds=all(each.status == "holds" for each in answers),
                doubts=[_doubt(each) for each in doubted],
            )
        case "sarif":
            return json.dumps(_sarif(answers, doubted), indent=2, ensure_ascii=False) + "\n"
    raise unknown_name("format", form, FORMATS)


def said(answer: Answer) -> str:
    """What was measured, on what, or what measures it, in a sentence."""
    subject, number = answer.subject, answer.number
    if number is None or subject is None:
        return f"Measure it: {answer.command}"
    return f"{_shown(answer, number)}. {number.label}; {_where(subject)}."


def _shown(answer: Answer, number: Number) -> str:
    """The measured number with its interval and n; the verdict before it where that is asked."""
    share = f"{show_measured(number.share)} % ({show_interval(number.interval)}), n = {number.n:,}"
    return f"{number.verdict}: {share}" if answer.requirement.part == "verdict" else share


def _where(subject: Subject) -> str:
    recipe = subject.model.recipe
    title = dataset_spec(subject.dataset).title
    return f"{title}, {recipe.scale} scale, weights {subject.model.weights[:8]}"


def _text(answers: Sequence[Answer], doubted: Sequence[Diagnosis]) -> str:
    """What holds and what does not, 80 columns wide."""
    lines: list[str] = []
    for each in answers:
        lines += _block(each.status, each.requirement.text, said(each))
    for diagnosis in doubted:
        name = diagnosis.target.recipe.name
        lines += _block(diagnosis.code, f"{name}: {diagnosis.verdict}", diagnosis.sentence)
    held = sum(each.status == "holds" for each in answers)
    lines.append(f"Requirements that hold: {held} of {len(answers)}.")
    return "\n".join(lines) + "\n"


def _block(head: str, *paragraphs: str) -> Iterator[str]:
    """Paragraphs beside a word; commands and names are not broken inside a word."""
    indent = " " * STATUS_WIDTH
    for number, paragraph in enumerate(paragraphs):
        yield textwrap.fill(
            paragraph,
            WIDTH,
            initial_indent=indent if number else f"{head:<{STATUS_WIDTH}}",
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _fields(answer: Answer) -> dict[str, Any]:
    """The fields of an answer."""
    requirement, subject, number = answer.requirement, answer.subject, answer.number
    return {
        "requirement": requirement.text,
        "status": answer.status,
        "value": answer.measured,
        "target": requirement.target,
        "required": requirement.quantity,
        "part": requirement.part,
        "operator": requirement.sign,
        "wanted": requirement.wanted,
        "dataset": subject and subject.dataset,
        "scale": subject and subject.model.recipe.scale,
        "seed": subject and subject.model.recipe.seed,
        "weights": subject and subject.model.weights,
        "eps": answer.eps,
        "attack": number and number.label,
        "accuracy": number and number.share,
        "low": number and number.interval[0],
        "high": number and number.interval[1],
        "n": number and number.n,
        "verdict": CODES[number.verdict] if number and number.verdict else None,
        "files": list(number.files) if number else [],
        "command": answer.command,
    }


def _doubt(diagnosis: Diagnosis) -> dict[str, Any]:
    """The fields of a diagnosis that says other than "holds"."""
    return {**diagnosis_fields(diagnosis), "file": _file(diagnosis)}


def _file(diagnosis: Diagnosis) -> str:
    return f"results/diagnoses/{diagnosis.id}.json"


def _sarif(answers: Sequence[Answer], doubted: Sequence[Diagnosis]) -> dict[str, Any]:
    """What does not hold, as static analysis results (OASIS, SARIF 2.1.0)."""
    driver = {
        "name": "pclbench",
        "version": __version__,
        "rules": [
            {
                "id": code,
                "name": name,
                "shortDescription": {"text": text},
                "help": {"text": "docs/ci.md" if code in OWN else f"pclbench explain {code}"},
                "defaultConfiguration": {"level": _level(code)},
            }
            for code, (name, text) in RULES.items()
        ],
    }
    found = [_result(each) for each in answers if each.status != "holds"]
    for each in doubted:
        name = each.target.recipe.name
        about = [name, each.data.dataset, each.eps]
        found.append(_located(each.code, f"{name}: {each.sentence}", [(_file(each), 1)], about))
    run = {"tool": {"driver": driver}, "results": found}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _level(code: str) -> str:
    return "error" if code in OWN else "warning"


def _result(answer: Answer) -> dict[str, Any]:
    """A requirement that does not hold, at the files that say so, or where it was read."""
    place = answer.requirement.place
    places = [(file, 1) for file in answer.number.files] if answer.number else []
    places += [(quote(place.file.as_posix()), place.line)] if place else []
    about = [answer.requirement.text, answer.subject and answer.subject.dataset]
    code = NOT_MET if answer.number else NOT_MEASURED
    message = f"{answer.requirement.text}: {answer.status}. {said(answer)}"
    return _located(code, message, places or [(NOWHERE, 1)], about)


def _located(
    code: str, message: str, places: Sequence[tuple[str, int]], about: Sequence[object]
) -> dict[str, Any]:
    """A result; the first place is where it is shown, and what it is about tells it from others."""
    locations = [
        {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}}
        for uri, line in places
    ]
    return {
        "ruleId": code,
        "ruleIndex": list(RULES).index(code),
        "level": _level(code),
        "message": {"text": message},
        "locations": locations[:1],
        "relatedLocations": locations[1:],
        "partialFingerprints": {"requirement/v1": digest([code, *about])},
    }
