"""What commands print for programs, read as a program would: by the published JSON schema."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "pclbench-1.schema.json"


@cache
def validator(document: str) -> Draft202012Validator:
    """Of one document, so that an error names the field and not all documents."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    own = {"$ref": f"#/$defs/document.{document}", "$defs": schema["$defs"]}
    return Draft202012Validator(own)


def read_document(text: str, document: str) -> dict[str, Any]:
    """A document that follows the schema."""
    content: dict[str, Any] = json.loads(text, parse_constant=refuse)
    validator(document).validate(content)
    return content


def read_rows(text: str, document: str) -> list[dict[str, Any]]:
    """Its rows."""
    return list(read_document(text, document)["rows"])


def refuse(constant: str) -> None:
    """NaN and Infinity are no JSON."""
    raise AssertionError(constant)
