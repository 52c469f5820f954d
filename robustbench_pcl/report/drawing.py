"""What all figures share: one picture as SVG, PNG and PDF, its colours, its legend, its small line.

A drawing is repeatable to the byte: the same numbers give the same file. What is drawn has at least
3:1 contrast to the page in light and in dark; series differ by marker, dash or hatch, too.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's palette, its light colours darker: each has a contrast of 3:1 to white and to the
# page's dark cards.
COLOURS = ("#0072b2", "#b07a00", "#008f68", "#c2629a", "#7a6fd0", "#d55e00")
BLUE, RED = COLOURS[0], COLOURS[5]
LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vP"
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
# The page's text colour, but for the last digit: matplotlib writes colours as numbers, and in SVG
# this one is replaced by the colour of the text around it.
INK = "#1f2329"
STYLE = (
    "<style>svg{color:#1f2328}@media screen and (prefers-color-scheme:dark){svg{color:#e6edf3}}"
    "text{font-family:system-ui,sans-serif}</style>"
)
DPI = 150
WIDTH = 4.8
"""Inches of a figure. A phone shows one point of it as about one pixel of its own."""
SMALL = 8.5
"""Points of the smallest words, which a phone still shows readably."""
NOTE_LINE, LETTERS = 0.16, 74
"""Inches of a line of the small words below a figure, and how many letters fit into it."""
GRID = 2**20
"""Places that a whole is divided into."""
TEXT_SIZE, LETTER_WIDTH, LINE_HEIGHT, MARGIN = 9.0, 0.0765, 0.15, 0.15
"""Of text as a picture: points, then inches."""
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "pclbench",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "path.simplify": False,
    "font.size": 10,
    "hatch.linewidth": 0.8,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}


class Drawing(NamedTuple):
    """A picture that is not written yet.

    Attributes:
        paint: draws on an empty figure.
        size: width and height in inches, without the note.
        title: what is shown, in a few words: the name that a screen reader says.
        description: what is seen, in one sentence or two, with the numbers that matter.
        note: a small line below the picture: data set, scale and n, so that a picture that was cut
            out of its page still says what it shows.
    """

    paint: Callable[[Figure], None]
    size: tuple[float, float]
    title: str = ""
    description: str = ""
    note: str = ""

    def svg(self, prefix: str = "") -> str:
        """One ``<svg>`` element that takes the page's text colour; the same bytes every time.

        Args:
            prefix: of all its ids, which no other drawing on the page has.
        """
        out = io.StringIO()
        with self.painted() as figure:
            FigureCanvasSVG(figure)
            figure.savefig(out, format="svg", facecolor="none", metadata={"Date": None})
        drawing = out.getvalue()
        drawing = drawing[drawing.index("<svg") :].replace(INK, "currentColor")
        drawing = re.sub(r"font-family: 'DejaVu Sans'[^;]*; ?", "", drawing)
        drawing = re.sub(r'(?<= d=")[^"]*', lambda match: _short(match[0]), drawing)
        head, body = drawing.split(">", 1)
        head += ' role="img" aria-labelledby="title description"'
        named = f'<title id="title">{escape(self.title)}</title>'
        named += f'<desc id="description">{escape(self.description)}</desc>'
        return _with_own_ids(f"{head}>{named}{STYLE}{body}", prefix)

    def png(self) -> bytes:
        """A PNG file's bytes, on white."""
        out = io.BytesIO()
        with self.painted() as figure:
            FigureCanvasAgg(figure)
            figure.savefig(out, format="png", dpi=DPI, facecolor="white")
        return out.getvalue()

    def pdf(self) -> bytes:
        """A PDF file's bytes, on white, with its fonts in it; the same every time."""
        out = io.BytesIO()
        with self.painted() as figure:
            FigureCanvasPdf(figure)
            known = {"CreationDate": None, "Title": self.title or None}
            figure.savefig(out, format="pdf", facecolor="white", metadata=known)
        return out.getvalue()

    def file(self, suffix: str) -> bytes:
        """The content of a file that ends in ".svg", ".png" or ".pdf"."""
        match suffix:
            case ".png":
                return self.png()
            case ".pdf":
                return self.pdf()
        return self.svg().encode()

    @contextmanager
    def painted(self) -> Iterator[Figure]:
        """The painted figure, with the settings in force under which it has to be written."""
        lines = textwrap.wrap(
            self.note, int(LETTERS * self.size[0] / WIDTH), break_on_hyphens=False
        )
        room = NOTE_LINE * len(lines) + 0.06 * bool(lines)
        width, height = self.size[0], self.size[1] + room
        with mpl.rc_context(SETTINGS):
            figure = Figure(figsize=(width, height), layout="constrained")
            engine: Any = figure.get_layout_engine()
            engine.set(rect=(0, room / height, 1, 1 - room / height))
            self.paint(figure)
            if lines:
                place = 0.05 / width, 0.05 / height
                words: dict[str, Any] = {"va": "bottom", "size": SMALL, "color": INK}
                figure.text(*place, "\n".join(lines), parse_math=False, **words)
            _settle(figure)
            yield figure


def _settle(figure: Figure) -> None:
    """Lay everything out, and keep it there.

    The layout's solver does not give the same last digits every time, and matplotlib makes ids of
    them: places are rounded to a grid of binary fractions.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    inner: list[Figure | SubFigure] = [figure]
    while inner:
        part = inner.pop()
        for each in part.subfigs:
            each.bbox_relative.set_points(_rounded(each.bbox_relative.get_points()))
            inner.append(each)
    for axes in figure.axes:
        axes.set_position(_rounded(axes.get_position(original=True).bounds))


def _rounded(places: Any) -> Any:
    """To a millionth or so of the whole."""
    return np.round(np.asarray(places) * GRID) / GRID


def drawn_text(text: str, title: str = "") -> Drawing:
    """Lines of text as a picture, each letter as wide as the next."""
    lines = text.rstrip("\n").split("\n")
    width = max(map(len, lines)) * LETTER_WIDTH + 2 * MARGIN
    height = len(lines) * LINE_HEIGHT + 2 * MARGIN

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")
        place = MARGIN / width, 1 - MARGIN / height
        words: dict[str, Any] = {"family": "monospace", "size": TEXT_SIZE, "linespacing": 1.2}
        figure.text(*place, "\n".join(lines), va="top", parse_math=False, color=INK, **words)

    return Drawing(paint, (width, height), title or lines[0], "A table as text.")


def ink(axes: Axes) -> None:
    """Draw everything that is not data in the page's text colour."""
    axes.tick_params(colors=INK)
    for words in (axes.title, axes.xaxis.label, axes.yaxis.label):
        words.set_color(INK)
    for spine in axes.spines.values():
        spine.set_color(INK)


def grid(axes: Axes, axis: Literal["x", "y"] = "y") -> None:
    """Faint lines at the places that are named."""
    axes.grid(axis=axis, color=INK, alpha=0.15, linewidth=0.8)


def above_legend(
    part: Figure | SubFigure, height: float, labels: Sequence[str]
) -> tuple[SubFigure, SubFigure]:
    """Two strips: for the axes, so many inches high, and below them for a legend of these labels.

    A legend in a strip of its own lies on nothing.
    """
    strips = part.subfigures(
        2, 1, squeeze=False, height_ratios=[height, legend_height(labels)], hspace=0
    )
    return strips[0, 0], strips[1, 0]


def legend(strip: SubFigure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """A legend in the middle of a strip, in as many columns as its longest label allows."""
    strip.legend(
        handles=handles,
        labels=labels,
        ncols=_legend_columns(labels),
        loc="center",
        frameon=False,
        labelcolor=INK,
        fontsize=SMALL,
    )


def legend_height(labels: Sequence[str]) -> float:
    """Inches of a strip for a legend; 0 for no labels."""
    return 0.1 + 0.19 * -(-len(labels) // _legend_columns(labels)) if labels else 0.0


def _legend_columns(labels: Sequence[str]) -> int:
    longest = max(map(len, labels), default=0)
    return max(1, min(4, LETTERS // (longest + 8), len(labels)))


def mark(axes: Axes, eps: float, words: str) -> None:
    """A dotted line at a budget, with words above it."""
    axes.axvline(eps, color=INK, linewidth=0.8, linestyle=(0, (1, 3)))
    axes.annotate(
        words,
        (eps, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=INK,
        fontsize=SMALL,
    )


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21 (WCAG 2)."""
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def readable_on(colour: str) -> str:
    """Black or white, which of them is easier to read on a colour."""
    return max("#000000", "#ffffff", key=lambda words: contrast(words, colour))


def _luminance(colour: str) -> float:
    """Relative luminance, from 0 to 1 (WCAG 2)."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(colour)
    ]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _with_own_ids(svg: str, prefix: str) -> str:
    """The drawing with a prefix before each id, and in all references to them."""
    svg = svg.replace('"title description"', f'"{prefix}title {prefix}description"', 1)
    return re.sub(r'(\bid="|\bhref="#|url\(#)', rf"\g<1>{prefix}", svg)


def _short(path: str) -> str:
    """The same SVG path to a hundredth of a point; dots to a tenth, as short as they can be."""
    path = re.sub(r"(\.\d\d)\d+", r"\1", path.strip())
    path = re.sub(r"\s*([A-Za-z])\s*", r"\1", path)
    return re.sub(r"M([-\d]+\.\d)(\d*) ([-\d]+\.\d)(\d*)L\1\2 \3\4(?=M|$)", r"M\1 \3h0", path)
