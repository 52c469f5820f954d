"""How much of the package a command goes through: ``python -m benchmarks.functions``.

Counted are functions and methods of the package that are entered, properties and nested functions
included; special methods (``__init__``), comprehensions and the bodies of classes and modules are
not. First by ``pclbench attack`` on a stored checkpoint, up to the stored adversarial set; then
from a stored measurement to a printed table. ``--list`` prints their names in the order in which
they were first entered.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import robustbench_pcl
from robustbench_pcl.cli.app import app
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.recipes.load import load_recipe

PACKAGE = f"{Path(robustbench_pcl.__file__).parent}/"
STORED = "finish_set"
"""The function after which an adversarial set is stored."""
OPTIMISED, NEWLOCALS = 1, 2
"""Flags of the code of functions; modules and the bodies of classes lack the first."""
Entered = Counter[tuple[str, str]]
"""(file, qualified name) -> how often, in the order of the first times."""


@contextlib.contextmanager
def entered(until: str = "") -> Iterator[Entered]:
    """Count the package's functions that are entered, up to the end of one of that name."""
    calls: Entered = Counter()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return
        if event == "return" and code.co_name == until:
            sys.setprofile(None)
        if (
            event == "call"
            and code.co_flags & OPTIMISED
            and not code.co_name.startswith(("<", "__"))
        ):
            calls[code.co_filename.removeprefix(PACKAGE), code.co_qualname] += 1

    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def typed(*words: str) -> None:
    """Run a command as it is typed, its output thrown away."""
    silence = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with silence[0], silence[1], contextlib.suppress(SystemExit):
        app(list(words))


def attack(checkpoint: Path, home: Path) -> Entered:
    """PGD on eight images of a stored checkpoint."""
    with entered(until=STORED) as calls:
        typed(
            *("attack", str(checkpoint), "--attack", "pgd"),
            *("--images", "8", "--device", "cpu", "--home", str(home)),
        )
    return calls


def report(home: Path) -> Entered:
    """Table 3 as text, from where stored records are read on; what the command does first is not.

    Footnotes are included: they build the paper's recipes, to say what a scale cut.
    """
    with entered() as calls:
        typed(*("report", "--table", "3", "--dataset", "digits", "--home", str(home)))
    order = list(calls)
    first = next(place for place, (_, name) in enumerate(order) if name == "load_evidence")
    return Counter({where: calls[where] for where in order[first:]})


def show(title: str, calls: Entered, listed: bool) -> None:
    """Print how many functions and files there are."""
    print(f"{title}: {len(calls)} functions in {len({file for file, _ in calls})} files")
    if listed:
        for (file, name), count in calls.items():
            print(f"  {file} {name} ({count})")


def main() -> None:
    """Train a small model, then count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", dest="listed", help="print their names")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        recipe = load_recipe("softmax", "digits", "demo")
        checkpoint = Workspace(home, device="cpu").train(recipe).path
        attacked = attack(checkpoint, home)
        show("attack, up to the stored set", attacked, given.listed)
        for what, names in {
            "configurations completed": ("Configuration.complete",),
            "ids of adversarial sets computed": ("SetSpecification.id",),
            "checkpoints opened": ("open_checkpoint",),
        }.items():
            print(f"  {what}: {sum(n for (_, name), n in attacked.items() if name in names)}")
        typed("attack", str(checkpoint), "--attack", "fgsm", "--images", "8", "--home", folder)
        show("report, from stored records to a printed table", report(home), given.listed)


if __name__ == "__main__":
    main()
