"""Publications: where attacks, losses, defences, models, data sets and the paper come from."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable
from importlib import resources
from typing import Literal

from pydantic import TypeAdapter

from robustbench_pcl.configuration import Description

Family = Literal["attacks", "attack_losses", "losses", "defenses", "models", "datasets"]
PAPER = "mustafa2021"
"""The key of the paper whose tables and figures these are."""
PLACES = {
    "article": "journal",
    "inproceedings": "booktitle",
    "techreport": "institution",
    "misc": "howpublished",
}
"""What an entry of each type calls the journal, the book, or who published it."""
CITATION = re.compile(r"\\cite\{([\w,]+)\}")


class Reference(Description):
    """A publication, as BibTeX has it.

    Attributes:
        type: of the entry.
        author: names, in BibTeX's form.
        title: as printed.
        place: journal, book or publisher, or "".
        year: it appeared.
        arxiv: its number there, or "".
        number: in the reference list of the paper, or None.
        attacks: names of the attacks that it introduced.
        attack_losses: what it proposed that attacks maximise.
        losses: losses on features that it introduced.
        defenses: training schemes that it introduced.
        models: architectures that it introduced.
        datasets: data sets that it introduced.
    """

    type: Literal["article", "inproceedings", "techreport", "misc"]
    author: str
    title: str
    place: str = ""
    year: int
    arxiv: str = ""
    number: int | None = None
    attacks: tuple[str, ...] = ()
    attack_losses: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()

    def bibtex(self, key: str) -> str:
        """The entry under a key, ending in a newline."""
        fields = {
            "author": self.author,
            "title": self.title,
            PLACES[self.type]: self.place,
            "year": str(self.year),
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
            "note": f"arXiv:{self.arxiv}" if self.arxiv and not self.place else "",
        }
        lines = "".join(f"  {name} = {{{text}}},\n" for name, text in fields.items() if text)
        return f"@{self.type}{{{key},\n{lines}}}\n"


@functools.cache
def references() -> dict[str, Reference]:
    """All publications by their keys, the paper first."""
    text = (resources.files(__package__) / "references.toml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Reference]).validate_python(tomllib.loads(text))


def keys_of(family: Family, name: str) -> tuple[str, ...]:
    """The publications that something of a family comes from, most important first."""
    return tuple(key for key, each in references().items() if name in getattr(each, family))


def key_of_number(number: int) -> str | None:
    """The publication that the paper cites by a number; None for those not stored here."""
    return next((key for key, each in references().items() if each.number == number), None)


def bibliography(keys: Iterable[str]) -> str:
    """The entries for BibTeX, in the order of their keys, each once."""
    known = references()
    return "\n".join(known[key].bibtex(key) for key in sorted(set(keys)))


def cited(latex: str) -> set[str]:
    """The keys that LaTeX's text cites."""
    return {key for keys in CITATION.findall(latex) for key in keys.split(",")}
