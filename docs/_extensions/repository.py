"""Documents that lie outside ``docs/``, and links that lead to files of the repository.

README.md and others are read where they lie. Their links, and those of the documents in ``docs/``,
are written for readers of the repository; the site has a page for some of the files, and names the
others.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INCLUDED = {
    "readme": "README.md",
    "results": "RESULTS.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "benchmarks": "benchmarks/README.md",
}
"""Pages of the site whose text lies elsewhere: page -> file."""
LINK = re.compile(r"(?<!!)\[([^\]\[]+)\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\((?!\w+:)([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~)[^\n]*\n.*?^\1", re.MULTILINE | re.DOTALL)


def rewritten(text: str, folder: Path, page: Path) -> str:
    """A document with the site's links in place of the repository's; code stays as it is.

    Args:
        text: Markdown.
        folder: that its links start from.
        page: the folder of the site's page.
    """
    pages = {ROOT / file: DOCS / f"{name}.md" for name, file in INCLUDED.items()}

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        file = Path(os.path.normpath(folder / target))
        file = pages.get(file, file)
        if file.is_relative_to(DOCS) and file.suffix == ".md":
            return f"[{words}]({os.path.relpath(file, page)}{anchor})"
        return words

    def image(found: re.Match[str]) -> str:
        return f"![{found[1]}]({os.path.relpath(folder / found[2], page)})"

    def prose(part: str) -> str:
        return LINK.sub(link, IMAGE.sub(image, part))

    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [prose(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, prose(text[end:])])


def read(app: Sphinx, name: str, content: list[str]) -> None:
    """Take a page's text from where it lies, with links that the site has.

    A page whose file is not there yet keeps its own text.
    """
    page = (DOCS / name).parent
    file = ROOT / INCLUDED.get(name, "")
    if file.is_file():
        app.env.note_dependency(str(file))
        content[0] = rewritten(file.read_text(encoding="utf-8"), file.parent, page)
    elif (DOCS / f"{name}.md").exists():
        content[0] = rewritten(content[0], page, page)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to the reading of each document."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
