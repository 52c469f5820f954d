"""What all drawings share: colours, and one picture as SVG and as PNG.

A drawing is repeatable to the byte: the same numbers give the same file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

# Okabe and Ito's palette: told apart with any colour vision, on white and on black.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
# Petroff's ten colours (2021), which were chosen for the same by a search over all of them.
CLASS_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
LINES = ("-", "--", "-.", ":")
# The page's text colour, but for the last digit: matplotlib writes colours as numbers, and in SVG
# this one is replaced by the colour of the text around it.
INK = "#1f2329"
STYLE = (
    "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}"
    "text{font-family:system-ui,sans-serif}</style>"
)
DPI = 150
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "pclbench",
    "svg.fonttype": "none",
    "path.simplify": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}


class Drawing(NamedTuple):
    """A picture that is not written yet.

    Attributes:
        paint: draws on an empty figure.
        size: width and height in inches.
    """

    paint: Callable[[Figure], None]
    size: tuple[float, float]

    def svg(self) -> str:
        """One ``<svg>`` element that takes the page's text colour; the same bytes every time."""
        out = io.StringIO()
        with self._painted() as figure:
            FigureCanvasSVG(figure)
            figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        drawing = out.getvalue()
        drawing = drawing[drawing.index("<svg") :].replace(INK, "currentColor")
        drawing = re.sub(r'(?<= d=")[^"]*', lambda match: _short(match[0]), drawing)
        head, body = drawing.split(">", 1)
        return f"{head}>{STYLE}{body}"

    def png(self) -> bytes:
        """A PNG file's bytes, on white."""
        out = io.BytesIO()
        with self._painted() as figure:
            FigureCanvasAgg(figure)
            figure.savefig(out, format="png", dpi=DPI, facecolor="white")
        return out.getvalue()

    @contextmanager
    def _painted(self) -> Iterator[Figure]:
        """The painted figure, with the settings in force under which it has to be written."""
        with mpl.rc_context(SETTINGS):
            figure = Figure(figsize=self.size, layout="constrained")
            self.paint(figure)
            yield figure


def ink(axes: Axes) -> None:
    """Draw everything that is not data in the page's text colour."""
    axes.tick_params(colors=INK)
    for words in (axes.title, axes.xaxis.label, axes.yaxis.label):
        words.set_color(INK)
    for spine in axes.spines.values():
        spine.set_color(INK)


def dots(axes: Axes, points: np.ndarray[Any, Any], colour: str, diameter: float) -> None:
    """Draw points as one path: a few bytes per point, where a marker takes a hundred.

    Args:
        axes: with its limits set.
        points: (N, 2).
        colour: of all of them.
        diameter: in points of 1/72 inch.
    """
    if not len(points):
        return
    # A line of no length has two round ends: a dot. Agg draws it only if it has some length.
    low, high = axes.get_xlim()
    ends = np.array(points, dtype=float)
    ends[:, 0] += (high - low) * 1e-6
    vertices = np.stack([points, ends], axis=1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(points))
    path = PathPatch(
        Path(vertices, codes),
        fill=False,
        edgecolor=colour,
        linewidth=diameter,
        capstyle="round",
        snap=False,
    )
    axes.add_artist(path)


def _short(path: str) -> str:
    """The same SVG path to a hundredth of a point; dots to a tenth, as short as they can be."""
    path = re.sub(r"(\.\d\d)\d+", r"\1", path.strip())
    path = re.sub(r"\s*([A-Za-z])\s*", r"\1", path)
    return re.sub(r"M([-\d]+\.\d)(\d*) ([-\d]+\.\d)(\d*)L\1\2 \3\4(?=M|$)", r"M\1 \3h0", path)
