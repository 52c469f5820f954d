"""The reference, written from the code each time that the site is built, into docs/reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reference import commands, facts, formats, members, networks, recipes
from reference import restructured as rst

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "reference"
CONTENTS = (
    "commands/index",
    "attacks/index",
    "recipes/index",
    "losses/index",
    "defenses/index",
    "models",
    "datasets",
    "codes",
    "python",
    "formats/index",
    "exit-codes",
    "environment",
)


def pages() -> dict[str, str]:
    """Every page of the reference: its name below docs/reference, and its text."""
    found: dict[str, str] = {}
    for module in (commands, members, recipes, networks, formats, facts):
        found |= module.pages()
    found["index"] = rst.page(
        rst.heading("Reference", 0, "reference"),
        "These pages are written from the code: what they say is what this version does.",
        rst.contents(CONTENTS, hidden=False),
    )
    return found


def write(app: Sphinx) -> None:
    """Write what changed, and remove what is no longer written."""
    folder = Path(app.srcdir) / FOLDER
    wanted = {folder / f"{name}.rst": text for name, text in pages().items()}
    for path in [*folder.rglob("*.rst")]:
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before Sphinx looks for them."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
