"""Files that commands write where the user says: in which format, and what is never replaced."""

import contextlib
import hashlib
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from robustbench_pcl.cli.choices import Format
from robustbench_pcl.errors import UserError

SUFFIXES = {
    ".tex": Format.latex,
    ".md": Format.md,
    ".csv": Format.csv,
    ".json": Format.json,
    ".html": Format.html,
    ".htm": Format.html,
}
"""What the end of a file's name says about its format."""
TEXTS = (".txt", ".text", "")
"""Ends of names of files that are text."""
PICTURES, PAGES = (".svg", ".png", ".pdf"), (".html", ".htm")
"""Pictures and pages that can be written, by the ends of their files' names."""
PRINTED = Path("-")
"""Standard output, where a file may be named."""
SYSTEM_FOLDERS = (Path("/dev"), Path("/proc"))
"""Files there are the system's: they are written to, never replaced."""
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write to this file; its ending is the format: .md, .tex, .csv, .json, .html, .pdf, "
        ".svg or .png.",
        show_default="print",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace files that pclbench did not write.")
]


def read_form(form: Format, output: Path | None) -> Format:
    """The format that is asked for by --format or by the end of a file's name.

    Raises:
        UserError: the two contradict each other, or neither says a format.
    """
    if output is None:
        return form
    said = SUFFIXES.get(output.suffix)
    if said is None and form is Format.text and output.suffix not in TEXTS:
        known = ", ".join((TEXTS[0], *SUFFIXES))
        cause = f"This cannot be written as {output.name}."
        raise UserError(cause, f"Name a file that ends in {known}.")
    if said is None or form in (Format.text, said):
        return said or form
    cause = f"{output.name} would be {said}, and --format says {form}."
    raise UserError(cause, "Leave --format out, or name another file.")


def require_known(files: Iterable[Path]) -> None:
    """Refuse, before any work, files whose names say no format.

    Raises:
        UserError: one does.
    """
    known = (*PICTURES, *SUFFIXES)
    for path in files:
        if path.suffix not in known:
            cure = f"Name a file that ends in {', '.join(known)}."
            raise UserError(f"The name {path.name} has no known ending.", cure)


def write_file(path: Path, content: bytes, *, force: bool = False) -> None:
    """Write a file in one step; see :func:`writing`."""
    from robustbench_pcl.store.atomic import write_bytes

    with writing(path, force=force) as place:
        write_bytes(place, content)


@contextlib.contextmanager
def writing(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Give the file that is to be written, in one step, so that ``path`` has its content.

    A link stays one: the file that it leads to is written. What is no file (a device, a pipe) gets
    what was written to a temporary one. A file that is not empty is replaced only if it is as
    pclbench wrote it, or with ``force``.

    Raises:
        UserError: it is a folder or somebody else's file, or the disk does not take it.
    """
    if _is_special(path):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / f"content{path.suffix}"
            yield place
            with place.open("rb") as content, path.open("wb", buffering=0) as stream:
                shutil.copyfileobj(content, stream)
        return
    target = path.resolve()
    if not force and not _is_own(target):
        raise UserError(
            f"{path} is there, and it is not as pclbench wrote it.",
            "Name another file, or replace it: --force.",
        )
    yield target
    _remember(target)


def _is_special(path: Path) -> bool:
    """Whether a path leads to something that is written to and not replaced.

    Raises:
        UserError: it is a folder.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # it is not there, or whoever writes it says what is wrong
        return False
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a folder.", f"Name a file in it: {path / 'table.md'}.")
    above = path.absolute().parents
    return not stat.S_ISREG(mode) or any(folder in above for folder in SYSTEM_FOLDERS)


def _is_own(path: Path) -> bool:
    """Whether nothing of anybody else's is lost when a file is replaced."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    with contextlib.suppress(OSError):
        return _note(path).read_text() == _digest(path)
    return False


def _remember(path: Path) -> None:
    """Note that a file is pclbench's as it is; where that cannot be, --force will be asked for."""
    from robustbench_pcl.store.atomic import write_bytes

    with contextlib.suppress(OSError, UserError):
        write_bytes(_note(path), _digest(path).encode())


def _note(path: Path) -> Path:
    """Where the digest of what was written to a path is kept."""
    from robustbench_pcl.data.dataset import cache_root

    return cache_root() / "written" / hashlib.sha256(str(path).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
