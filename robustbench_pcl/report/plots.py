"""Plots of numbers: bars, a heat map, training curves, accuracy against the attack's budget.

What all drawings share is here too: colours, and one picture as SVG, PNG and PDF. A drawing is
repeatable to the byte: the same numbers give the same file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from robustbench_pcl.report.figure_sections import Curve, Sweep
from robustbench_pcl.report.formatting import MISSING, show_measured

# Okabe and Ito's palette: told apart with any colour vision, on white and on black.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
LINES = ("-", "--", "-.", ":")
# The page's text colour, but for the last digit: matplotlib writes colours as numbers, and in SVG
# this one is replaced by the colour of the text around it.
INK = "#1f2329"
STYLE = (
    "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}"
    "text{font-family:system-ui,sans-serif}</style>"
)
DPI = 150
TEXT_SIZE, LETTER_WIDTH, LINE_HEIGHT, MARGIN = 9.0, 0.0765, 0.15, 0.15
"""Of text as a picture: points, then inches."""
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

    def pdf(self) -> bytes:
        """A PDF file's bytes, on white; the same every time."""
        out = io.BytesIO()
        with self._painted() as figure:
            FigureCanvasPdf(figure)
            known = {"CreationDate": None}
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
    def _painted(self) -> Iterator[Figure]:
        """The painted figure, with the settings in force under which it has to be written."""
        with mpl.rc_context(SETTINGS):
            figure = Figure(figsize=self.size, layout="constrained")
            self.paint(figure)
            yield figure


def drawn_text(text: str) -> Drawing:
    """Lines of text as a picture, each letter as wide as the next."""
    lines = text.rstrip("\n").split("\n")
    width = max(map(len, lines)) * LETTER_WIDTH + 2 * MARGIN
    height = len(lines) * LINE_HEIGHT + 2 * MARGIN

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")
        place = MARGIN / width, 1 - MARGIN / height
        words: dict[str, Any] = {"family": "monospace", "size": TEXT_SIZE, "linespacing": 1.2}
        figure.text(*place, "\n".join(lines), va="top", parse_math=False, color=INK, **words)

    return Drawing(paint, (width, height))


def ink(axes: Axes) -> None:
    """Draw everything that is not data in the page's text colour."""
    axes.tick_params(colors=INK)
    for words in (axes.title, axes.xaxis.label, axes.yaxis.label):
        words.set_color(INK)
    for spine in axes.spines.values():
        spine.set_color(INK)


def _short(path: str) -> str:
    """The same SVG path to a hundredth of a point; dots to a tenth, as short as they can be."""
    path = re.sub(r"(\.\d\d)\d+", r"\1", path.strip())
    path = re.sub(r"\s*([A-Za-z])\s*", r"\1", path)
    return re.sub(r"M([-\d]+\.\d)(\d*) ([-\d]+\.\d)(\d*)L\1\2 \3\4(?=M|$)", r"M\1 \3h0", path)


MARKERS = "osD^vP"
SWEEP_SIZE = (7.2, 3.6)


class Bar(NamedTuple):
    """One bar, in per cent.

    Attributes:
        measured: its height; None for no bar.
        interval: 95 % interval.
        published: the paper's number.
    """

    measured: float | None
    interval: tuple[float, float] | None = None
    published: float | None = None


class Square(NamedTuple):
    """One square of a heat map: its value in per cent, and whether it has a frame."""

    value: float | None
    framed: bool = False


def bars(groups: Sequence[str], series: Mapping[str, Sequence[Bar]]) -> Drawing:
    """Groups of bars beside one another; the paper's number is a line across its bar.

    Args:
        groups: what stands below each group.
        series: label -> one bar per group, in its own colour.
    """

    def paint(axes: Axes) -> None:
        width = 0.8 / len(series)
        for number, (label, each) in enumerate(series.items()):
            places = [place - 0.4 + (number + 0.5) * width for place in range(len(each))]
            _paint_series(axes, number, label, dict(zip(places, each, strict=True)), width)
        if any(bar.published is not None for each in series.values() for bar in each):
            axes.plot([], [], color=INK, linewidth=1.8, label="the paper's numbers")
        axes.set_xticks(range(len(groups)), groups)
        axes.set_ylim(0, 100)
        axes.set_ylabel("accuracy (%)")
        axes.legend(
            ncols=3,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            frameon=False,
            labelcolor=INK,
        )
        _grid(axes)

    return _one_plot(paint, (7.2, 3.4))


def _paint_series(
    axes: Axes, number: int, label: str, placed: Mapping[float, Bar], width: float
) -> None:
    """The bars of one colour, with what belongs to each."""
    axes.bar(
        list(placed),
        [bar.measured or 0 for bar in placed.values()],
        width * 0.9,
        yerr=_errors(list(placed.values())),
        color=COLOURS[number % len(COLOURS)],
        ecolor=INK,
        error_kw={"elinewidth": 0.8},
        label=label,
    )
    for place, bar in placed.items():
        if bar.measured is None:
            axes.text(place, 1, MISSING, ha="center", color=INK)
        if bar.published is not None:
            reach = [place - width * 0.45, place + width * 0.45]
            axes.plot(reach, [bar.published] * 2, color=INK, linewidth=1.8)


def _errors(each: Sequence[Bar]) -> list[list[float]]:
    """Distances from the measured values down and up to their 95 % intervals."""
    pairs = [
        (bar.measured - bar.interval[0], bar.interval[1] - bar.measured)
        if bar.interval and bar.measured is not None
        else (0.0, 0.0)
        for bar in each
    ]
    return [[max(low, 0) for low, _ in pairs], [max(high, 0) for _, high in pairs]]


def heat_map(
    rows: Sequence[str], columns: Sequence[str], squares: Sequence[Sequence[Square]]
) -> Drawing:
    """Accuracy of each target on images made on each source.

    Args:
        rows: the sources, from top to bottom.
        columns: the targets, from left to right.
        squares: one sequence per row.
    """
    shade = colormaps["cividis"]

    def paint(axes: Axes) -> None:
        for y, line in enumerate(squares):
            for x, (value, framed) in enumerate(line):
                colour = INK
                if value is not None:
                    colour = "#000000" if value > 50 else "#ffffff"
                    corner = (x - 0.5, y - 0.5)
                    axes.add_patch(Rectangle(corner, 1, 1, facecolor=shade(value / 100)))
                axes.text(x, y, show_measured(value), ha="center", va="center", color=colour)
                if framed:
                    corner, side = (x - 0.46, y - 0.46), 0.92
                    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour))
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel("target")
        axes.set_ylabel("source")

    return _one_plot(paint, (2.6 + 1.1 * len(columns), 1.4 + 0.62 * len(rows)))


def training_curves(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> Drawing:
    """Cross-entropy and training accuracy over the epochs, one line per run.

    Args:
        runs: label -> one mapping per epoch with ``epoch``, ``cross_entropy`` and
            ``training_accuracy`` (a fraction); what an epoch lacks is left out.
    """

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for number, (label, history) in enumerate(runs.items()):
            colour = COLOURS[number % len(COLOURS)]
            line = LINES[number // len(COLOURS) % len(LINES)]
            epochs, values = _curve(history, "cross_entropy")
            left.plot(epochs, values, color=colour, linestyle=line, label=label)
            epochs, values = _curve(history, "training_accuracy")
            right.plot(epochs, [100 * value for value in values], color=colour, linestyle=line)
        left.set_ylabel("cross-entropy")
        right.set_ylabel("training accuracy (%)")
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            _grid(axes)
            ink(axes)
        figure.legend(
            ncols=min(len(runs), 4), loc="outside upper center", frameon=False, labelcolor=INK
        )

    return Drawing(paint, (7.2, 3.0))


def _curve(history: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    points = [(entry["epoch"], entry[name]) for entry in history if name in entry]
    return [epoch for epoch, _ in points], [value for _, value in points]


def sweep(sweeps: Sequence[Sweep]) -> Drawing:
    """Accuracy against the attack's budget, one plot per data set, one below the other."""

    def paint(figure: Figure) -> None:
        plots = figure.subplots(len(sweeps), 1, squeeze=False)[:, 0]
        for axes, each in zip(plots, sweeps, strict=True):
            _paint_sweep(axes, each)

    return Drawing(paint, (SWEEP_SIZE[0], SWEEP_SIZE[1] * len(sweeps)))


def _paint_sweep(axes: Axes, each: Sweep) -> None:
    for number, curve in enumerate(each.curves):
        _paint_curve(axes, number, curve)
    if each.standard is not None:
        mark(axes, each.standard, "standard")
    axes.set_ylim(0, 102)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"eps, in pixels of [0, 1]\n{each.command}".rstrip())
    axes.set_ylabel("accuracy (%)")
    axes.set_title(each.title, fontweight="bold")
    _grid(axes)
    if any(curve.points for curve in each.curves):
        axes.legend(frameon=False, labelcolor=INK, loc="upper left", bbox_to_anchor=(1, 1))
    else:
        words = "not measured yet"
        axes.text(0.5, 0.55, words, ha="center", color=INK, transform=axes.transAxes)
    ink(axes)


def mark(axes: Axes, eps: float, words: str) -> None:
    """A dotted line at a budget, with words beside it."""
    axes.axvline(eps, color=INK, alpha=0.5, linewidth=0.8, linestyle=(0, (1, 3)))
    axes.annotate(
        words,
        (eps, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, -2),
        textcoords="offset points",
        va="top",
        color=INK,
        fontsize=8.5,
    )


def _paint_curve(axes: Axes, number: int, curve: Curve) -> None:
    colour = COLOURS[number % len(COLOURS)]
    eps = [point.eps for point in curve.points]
    low, high = ([point.interval[end] for point in curve.points] for end in (0, 1))
    axes.fill_between(eps, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        eps,
        [point.accuracy for point in curve.points],
        color=colour,
        linestyle=LINES[number % len(LINES)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4.5,
        label=curve.label,
    )


def _one_plot(paint: Callable[[Axes], None], size: tuple[float, float]) -> Drawing:
    def whole(figure: Figure) -> None:
        axes = figure.subplots()
        paint(axes)
        ink(axes)

    return Drawing(whole, size)


def _grid(axes: Axes) -> None:
    """Faint lines at the heights that are named."""
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
