"""reStructuredText: what the reference's pages are written in."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence

MARKS = "=-~"
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$", re.MULTILINE)
SPECIAL = re.compile(r"([\\*`|]|_(?=\W|$))")
ENTRY = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def heading(text: str, level: int = 0, label: str = "") -> str:
    """A heading, 0 for a page's title, with a label that other pages link to."""
    anchor = f".. _{label}:\n\n" if label else ""
    return f"{anchor}{text}\n{MARKS[level] * max(len(text), 3)}\n"


def plain(text: object) -> str:
    """Text that is no markup."""
    return SPECIAL.sub(r"\\\1", str(text))


def code(text: object) -> str:
    """Text in the letters of code; nothing for nothing."""
    words = str(text)
    return f"``{words}``" if words.strip() else ""


def link(label: str, words: str) -> str:
    """A link to a label."""
    return f":ref:`{words} <{label}>`"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of markup; nothing where there are no rows."""
    lines = []
    for row in (columns, *rows):
        for number, cell in enumerate(row):
            first = "   * - " if number == 0 else "     - "
            lines.append((first + cell.replace("\n", "\n       ")).rstrip())
    if len(lines) == len(columns):
        return ""
    return "\n".join([".. list-table::", "   :header-rows: 1", "", *lines, ""])


def page(*parts: str) -> str:
    """A page of its parts, which a blank line separates."""
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def contents(names: Iterable[str], *, hidden: bool = True) -> str:
    """The pages below a page."""
    option = "   :hidden:" if hidden else "   :maxdepth: 1"
    return "\n".join([".. toctree::", option, "", *(f"   {name}" for name in names)])


def description(thing: object) -> str:
    """A docstring without its sections of arguments and attributes."""
    text = inspect.getdoc(thing) or ""
    found = SECTION.search(text)
    return text[: found.start()].rstrip() if found else text


def first_line(thing: object) -> str:
    """A docstring's first line."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def attributes(kind: type) -> Mapping[str, str]:
    """What the docstrings of a class and of those that it extends say of each attribute."""
    said: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        text = inspect.cleandoc(each.__doc__ or "")
        _, _, below = text.partition("Attributes:\n")
        said |= {name: " ".join(words.split()) for name, words in ENTRY.findall(below)}
    return said
