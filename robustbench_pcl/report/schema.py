"""What programs read: the fields of JSON, CSV and data frames, from one list (``schema.toml``).

Every command prints one document for ``--format json``: an object with ``schema``, ``document`` and
``rows``, and for some with lists beside the rows. CSV is the rows. The list says of each field its
type, its unit and what it means, once for all documents.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.report.formatting import csv_text

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = LazyModule("pandas")

Rows = Sequence[Mapping[str, Any]]
"""Records by field; what is no field of the document is not written."""
_LIST = tomllib.loads((resources.files(__package__) / "schema.toml").read_text(encoding="utf-8"))
VERSION: int = _LIST["version"]
NAME = f"pclbench/{VERSION}"
"""What a document says it follows."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
JSON_TYPES: Mapping[str, Mapping[str, Any]] = {
    "string": {"type": "string"},
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "seed": {"type": "integer", "minimum": 0},
    "boolean": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "object": {"type": "object"},
    "strings": {"type": "array", "items": {"type": "string"}},
    "numbers": {"type": "array", "items": {"type": "number"}},
    "integers": {"type": "array", "items": {"type": "integer"}},
    "objects": {"type": "array", "items": {"type": "object"}},
    "any": {},
}
"""The types of fields, as JSON schemas."""
DTYPES = {"number": "float64", "integer": "int64", "seed": "uint64", "boolean": "bool"}
NULLABLE = {**DTYPES, "integer": "Int64", "boolean": "boolean"}
"""Types of columns in pandas, of those that may lack a value too; "object" for all others."""


class Field(NamedTuple):
    """A field: the same in every document.

    Attributes:
        name: in JSON, CSV and data frames.
        kind: of :data:`JSON_TYPES`.
        unit: of its numbers, or "".
        meaning: what it is, in words.
    """

    name: str
    kind: str
    unit: str
    meaning: str


class Column(NamedTuple):
    """A field as part of a document.

    Attributes:
        name: in JSON, CSV and data frames.
        field: what it is; None for a list of objects.
        holds: the name of these objects, or "".
        nullable: whether it may be null.
    """

    name: str
    field: Field | None
    holds: str = ""
    nullable: bool = False

    @property
    def dtype(self) -> str:
        """Its type in pandas."""
        kinds = NULLABLE if self.nullable else DTYPES
        return kinds.get(self.field.kind, "object") if self.field else "object"

    @property
    def meaning(self) -> str:
        """What it is, in words."""
        return self.field.meaning if self.field else f"see `{self.holds}`"


class Document(NamedTuple):
    """What a command prints.

    Attributes:
        name: says which it is.
        printed_by: the commands.
        of_rows: what a row is, in words.
        columns: of the rows; empty where the rows have headings of their own.
        members: what stands beside the rows.
        summary: the fields that a row over several others has; empty if there is none.
    """

    name: str
    printed_by: tuple[str, ...]
    of_rows: str
    columns: tuple[Column, ...]
    members: tuple[Column, ...]
    summary: tuple[str, ...]


FIELDS = {name: Field(name, *said) for name, said in _LIST["fields"].items()}
"""All fields, by name."""


def _columns(text: str) -> tuple[Column, ...]:
    """Columns as the list writes them: "name", "name?" if it may be null, "name=object"."""
    found = []
    for word in text.split():
        name, _, holds = word.rstrip("?").partition("=")
        found.append(Column(name, None if holds else FIELDS[name], holds, word.endswith("?")))
    return tuple(found)


OBJECTS = {name: _columns(text) for name, text in _LIST["objects"].items()}
"""What lists beside the rows hold."""
DOCUMENTS = {
    name: Document(
        name,
        tuple(said["printed_by"]),
        said["rows"],
        _columns(said.get("columns", "")),
        _columns(said.get("members", "")),
        tuple(said.get("summary", "").split()),
    )
    for name, said in _LIST["documents"].items()
}
"""All documents, by name."""


def typed_frame(columns: Sequence[Column], rows: Rows) -> pd.DataFrame:
    """Rows as a frame of typed columns."""
    return pd.DataFrame(
        {
            column.name: pd.Series([row[column.name] for row in rows], dtype=column.dtype)
            for column in columns
        }
    )


def json_text(document: str, rows: Rows, **members: Any) -> str:
    """A document, ending in a newline.

    Args:
        document: of :data:`DOCUMENTS`.
        rows: its rows.
        members: what stands beside them; none of the document's may be missing.
    """
    shape = DOCUMENTS[document]
    content = {
        "schema": NAME,
        "document": document,
        "rows": _objects(shape.columns, rows),
        **_object(shape.members, members),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def csv_rows(document: str, rows: Rows) -> str:
    """The rows of a document as CSV; an object or a list is JSON in its cell."""
    found = _objects(DOCUMENTS[document].columns, rows)
    names = [column.name for column in DOCUMENTS[document].columns]
    cells = [
        [json.dumps(cell) if isinstance(cell, dict | list) else cell for cell in row.values()]
        for row in found
    ]
    return csv_text(pd.DataFrame(cells, columns=names or None, dtype=object))


def _objects(columns: Sequence[Column], rows: Rows) -> list[dict[str, Any]]:
    return [_object(columns, row) if columns else dict(row) for row in rows]


def _object(columns: Sequence[Column], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an object in their order, as plain JSON types."""
    return {
        column.name: _objects(OBJECTS[column.holds], values[column.name])
        if column.holds
        else _plain(values[column.name])
        for column in columns
    }


def _plain(value: Any) -> Any:
    """A value as JSON has it: null for what is not known."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):  # a number of NumPy's
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of all documents; a document may have further fields."""
    definitions = {name: _definition(field) for name, field in FIELDS.items()}
    definitions |= {f"object.{name}": _object_schema(each) for name, each in OBJECTS.items()}
    written = [each for each in DOCUMENTS.values() if each.printed_by[0].split()[0] != "export"]
    definitions |= {f"document.{each.name}": _document_schema(each) for each in written}
    return {
        "$schema": DIALECT,
        "$id": f"urn:pclbench:schema:{VERSION}",
        "title": f"What pclbench prints with --format json, version {VERSION}",
        "oneOf": [{"$ref": f"#/$defs/document.{each.name}"} for each in written],
        "$defs": definitions,
    }


def _definition(field: Field) -> dict[str, Any]:
    unit = f" ({field.unit})" if field.unit else ""
    return {"description": f"{field.meaning}{unit}", **JSON_TYPES[field.kind]}


def _document_schema(document: Document) -> dict[str, Any]:
    """The schema of a document; a row over several others may lack what these do not share."""
    columns = [
        column._replace(nullable=column.nullable or column.name not in document.summary)
        if document.summary
        else column
        for column in document.columns
    ]
    row = _object_schema(columns) if columns else {"type": "object"}
    schema = _object_schema(document.members)
    own = {
        "schema": {"const": NAME},
        "document": {"const": document.name},
        "rows": {"type": "array", "items": row},
    }
    return {
        "description": f"{', '.join(document.printed_by)}: {document.of_rows}",
        **schema,
        "required": [*own, *schema["required"]],
        "properties": {**own, **schema["properties"]},
    }


def _object_schema(columns: Sequence[Column]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [column.name for column in columns],
        "properties": {column.name: _column_schema(column) for column in columns},
    }


def _column_schema(column: Column) -> dict[str, Any]:
    if column.holds:
        return {"type": "array", "items": {"$ref": f"#/$defs/object.{column.holds}"}}
    known = {"$ref": f"#/$defs/{column.name}"}
    return {"anyOf": [known, {"type": "null"}]} if column.nullable else known


def reference() -> str:
    """All documents and fields as Markdown."""
    blocks = ["## Documents"]
    for document in DOCUMENTS.values():
        printed = ", ".join(f"`{command}`" for command in document.printed_by)
        said = f"### `{document.name}`\n\nPrinted by {printed}. Rows: {document.of_rows}."
        shown = [_listed("Fields of a row", document.columns)] if document.columns else []
        shown += [_listed("Beside the rows", document.members)] if document.members else []
        blocks += [said, *shown]
    blocks.append("## Objects in the lists beside the rows")
    blocks += [_listed(f"`{name}`", columns) for name, columns in OBJECTS.items()]
    lines = [
        f"| `{each.name}` | {each.kind} | {each.unit} | {each.meaning} |"
        for each in FIELDS.values()
    ]
    head = "| field | type | unit | meaning |\n| --- | --- | --- | --- |"
    blocks += ["## Fields", "\n".join([head, *lines])]
    return "\n\n".join(blocks) + "\n"


def _listed(title: str, columns: Sequence[Column]) -> str:
    return f"{title}: {', '.join(_shown(columns))}."


def _shown(columns: Sequence[Column]) -> Iterator[str]:
    for column in columns:
        of = f" (each a `{column.holds}`)" if column.holds else ""
        yield f"`{column.name}`{'?' * column.nullable}{of}"
