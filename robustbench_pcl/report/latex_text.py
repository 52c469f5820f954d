"""Words in LaTeX: characters that mean themselves, symbols, citations, and how wide they are."""

from __future__ import annotations

import re
import unicodedata

from robustbench_pcl.paper.references import key_of_number

BODY = 10.0
"""Points of an article's text."""
_SILENT = re.compile(
    r"\\(?:text(?:bf|tt|superscript)|rlap|underline|mathcal|mathrm|scriptsize|itshape|quad|allowbreak)\b"
)
"""Commands that write nothing themselves."""
LONG_RUN = 90.0
"""Points of type that stand without a place to break before one is made."""
_BREAK = "\N{ZERO WIDTH SPACE}"
_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\`{}",
    '"': "''",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "≈": r"$\approx$",
    "†": r"$\dagger$",
    "°": r"$^\circ$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "−": "$-$",
    "→": r"$\rightarrow$",
    "∞": r"$\infty$",
    "ℓ": r"$\ell$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "δ": r"$\delta$",
    "ε": r"$\epsilon$",
    "κ": r"$\kappa$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "σ": r"$\sigma$",
    "\N{NO-BREAK SPACE}": "~",
    _BREAK: r"\allowbreak{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0308": '"',
    "\u0327": "c ",
}
_MEANT = re.compile(
    r"(?P<command>pclbench [a-z]+(?: (?:[^\s.:;,()]|[.:;,()](?=\S))+)+)"
    r"|\bL_(?P<loss>\w+)"
    r"|[ ~]?\[(?P<number>\d+)\]"
    r"|(?<![\w./-])(?P<symbol>eps|c|n)(?:[ \xa0]=[ \xa0]|(?<=eps) |(?<=\bc) )"
    r"(?P<value>\d+(?:,\d{3})*(?:[./]\d+)*)"
    r"|(?P<eps>(?<![\w./-])eps(?![\w./-]*\w))"
    r"|(?P<dashes>-(?=-))"
    r"|(?P<sign>[^\w\s!'()*+,\-./:;=?@\[\]]|[_\xa0\u200b]|[^\x00-\x7f])"
)
_WIDTHS = {
    **dict.fromkeys("ijl.,:;'|!", 0.28),
    **dict.fromkeys("frst()[]-/ ", 0.39),
    **dict.fromkeys("mwMW+=<>−±&%", 0.83),
    **dict.fromkeys("ABCDEFGHIJKLNOPQRSTUVXYZ", 0.72),
}
"""Of Computer Modern's characters in sizes of the type; all others are about 0.53."""


class Verbatim(str):
    """Text that a template writes as it is."""

    __slots__ = ()


def escape_latex(text: object) -> str:
    """Text whose characters mean themselves in LaTeX.

    The loss ``L_PC``, ``eps = 0.03`` and ``[17]``, a reference of the paper, are written as papers
    do. Long words may be broken. What pdfLaTeX has no character for is written by its number.
    """
    if isinstance(text, Verbatim):
        return text
    line = re.sub(r"[\x00-\x1f\x7f]+", " ", str(text))
    return _MEANT.sub(_meant, re.sub(r"\S{13,}", _breakable, line))


def _meant(match: re.Match[str]) -> str:
    found = match.groupdict()
    if command := found["command"]:
        return rf"\texttt{{{re.sub(r'-(?=-)', '-{}', ''.join(map(_character, command)))}}}"
    if loss := found["loss"]:
        return rf"$\mathcal{{L}}_{{\mathrm{{{escape_latex(loss)}}}}}$"
    if number := found["number"]:
        key = key_of_number(int(number))
        return rf"~\cite{{{key}}}" if key else match[0]
    if value := found["value"]:
        grouped = value.replace(",", "{,}")  # a comma alone is followed by a space
        return rf"${_symbol(found['symbol'])} = {grouped}$"
    if found["eps"]:
        return r"$\epsilon$"
    return "-{}" if found["dashes"] else _character(match[0])


def _symbol(name: str) -> str:
    return r"\epsilon" if name == "eps" else name


def _character(character: str) -> str:
    """One character: as it is, as a command, with an accent, or by its number."""
    if character in _SIGNS:
        return _SIGNS[character]
    if character.isascii():
        return character
    base, *marks = list(unicodedata.normalize("NFKD", character))
    if base.isascii() and base.isprintable() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    plain = "".join(map(_character, [base, *marks])) if [base] != [character] else ""
    return plain if plain and plain.isascii() else f"(U+{ord(character):04X})"


def _breakable(match: re.Match[str]) -> str:
    """A long word with places where a line may end: behind signs, and within long runs."""
    word = re.sub(r"(?<=_|[^\w\s'\-(\[])(?=\w)", _BREAK, match[0])
    return re.sub(
        r"[^\W_]{11,}",
        lambda run: (
            re.sub(r"(.{8})(?=.)", rf"\1{_BREAK}", run[0])
            if width(run[0], BODY) > LONG_RUN
            else run[0]
        ),
        word,
    )


def width(latex: str, size: float) -> float:
    """About how wide LaTeX's text is, in points, rather too much than too little."""
    shown = re.sub(r"~?\\cite\{\w+\}", " [00]", latex)
    shown = re.sub(_SILENT, "", shown)
    shown = re.sub(r"\\[a-zA-Z]+", "x", shown)
    shown = re.sub(r"\\(.)|[{}$^]", r"\1", shown)
    wider = 1.15 if r"\textbf" in latex else 1.0
    smaller = 1.0 + 0.02 * (BODY - size)  # Computer Modern is wider where it is smaller
    return size * smaller * wider * sum(_WIDTHS.get(letter, 0.53) for letter in shown)
