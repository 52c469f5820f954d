"""Whole reports as files.

``python tests/report/golden_files.py`` writes them anew: read the diff before you keep it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from fabricated import make_answers
from typer.testing import CliRunner

from robustbench_pcl.cli import app
from robustbench_pcl.paper.table import published, published_numbers
from robustbench_pcl.report.tables.described import TITLES
from robustbench_pcl.store.home import Home
from robustbench_pcl.store.measurements import save_measurement, save_training
from robustbench_pcl.store.records import Measurement

FOLDER = Path(__file__).parent / "golden"
NUMBERS = sorted([*TITLES, *published_numbers()])
EVERY_FORMAT = (1, 3, 5, 13)
"""Tables of each shape: of words, recipes in rows, recipes in columns, a matrix."""
SUFFIXES = {"text": "txt", "md": "md", "latex": "tex", "html": "html", "csv": "csv", "json": "json"}


def datasets_of(number: int) -> tuple[str, ...]:
    """The first two data sets of the paper's table."""
    return published(number).datasets[:2]


def cases() -> Iterator[tuple[str, list[str]]]:
    """File names, each with the command that prints its content."""
    for number in NUMBERS:
        for form, suffix in SUFFIXES.items():
            if form in ("text", "json") or number in EVERY_FORMAT:
                yield (
                    f"table{number:02}.{suffix}",
                    ["report", "--table", str(number), "--format", form],
                )
    for number in (3, 5):
        for form in ("text", "md", "latex", "html"):
            words = ["report", "--table", str(number), "--interval", "--format", form]
            yield f"table{number:02}-interval.{SUFFIXES[form]}", words


def number_of(words: list[str]) -> int:
    """The table a command is about."""
    return int(words[words.index("--table") + 1])


def fill(home: Path, number: int) -> None:
    """Store an answer to every cell of a table."""
    results = Home(home).results
    for record in make_answers(number, datasets_of(number)) if number not in TITLES else ():
        if isinstance(record, Measurement):
            save_measurement(results, record)
        else:
            save_training(results, record)


def printed(words: list[str], home: Path) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, words, env={"PCLBENCH_HOME": str(home)})
    assert result.exit_code == 0, result.output
    return result.stdout


def write_all() -> None:
    """Write every file anew."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        path.unlink()
    with TemporaryDirectory() as folder:
        for number in NUMBERS:
            fill(Path(folder) / str(number), number)
        for name, words in cases():
            content = printed(words, Path(folder) / str(number_of(words)))
            (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write_all()
