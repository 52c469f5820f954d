"""The command line: a table from names to functions, and how errors are shown."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from robustbench_pcl import plugins
from robustbench_pcl.cli import attacks, data, models, recipes
from robustbench_pcl.cli.ablate import ablate
from robustbench_pcl.cli.attack import attack
from robustbench_pcl.cli.demo import demo
from robustbench_pcl.cli.report import report
from robustbench_pcl.cli.run import run
from robustbench_pcl.cli.train import train
from robustbench_pcl.cli.transfer import transfer
from robustbench_pcl.errors import UserError

UNUSABLE, INTERRUPTED = 2, 130
MISTAKE: type[Exception] = typer.BadParameter.__mro__[1]
"""What the parser raises when words make no command; typer does not export it by name."""
HELP = ["-h", "--help"]


class _Group(TyperGroup):
    """The root of the commands, where whatever they raise arrives."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Parse and run; the parser's complaints are shown as all others are."""
        if not extra.get("standalone_mode", True):
            return super().main(*args, **extra)
        extra["standalone_mode"] = False  # so that complaints arrive here
        try:
            sys.exit(super().main(*args, **extra))
        except MISTAKE as error:
            context: Any = getattr(error, "ctx", None)
            below = context.command_path.split()[1:] if context else []
            command = " ".join(["pclbench", *below])
            message: str = error.format_message()  # type: ignore[attr-defined]
            if message:  # without any words, help has been printed
                _show(" ".join(message.split()), f"See what it takes: {command} --help.")
            sys.exit(UNUSABLE)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a traceback that still gets through is a defect of pclbench.

        Help needs no plugins.
        """
        try:
            if not set(HELP) & set(ctx.args):
                plugins.load_all(ctx.params["plugin"] or ())
            return super().invoke(ctx)
        except UserError as error:
            _show(error.cause, error.cure)
            raise typer.Exit(UNUSABLE) from error
        except KeyboardInterrupt as error:
            _show("Stopped.", "What was finished is kept: the same command goes on from there.")
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=_Group,
    help="Train a defence, attack it, measure transfer, and report tables from stored evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP},
)

for command in (demo, train, attack, transfer, ablate, run, report):
    app.command()(command)
for name, group in {
    "recipes": recipes.app,
    "attacks": attacks.app,
    "models": models.app,
    "data": data.app,
}.items():
    app.add_typer(group, name=name)


def _print_version(wanted: bool) -> None:
    if wanted:
        from robustbench_pcl import __version__

        print(f"pclbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version."
    ),
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE",
            help="Import a module with attacks, losses, ... of your own (docs/extending.md); may "
            "be repeated. PCLBENCH_PLUGINS=a,b does the same.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train a defence, attack it, measure transfer, and report tables from stored evidence."""


def main() -> None:
    """Run the command line and leave with 0, 2 (the user can mend it) or 130 (Ctrl-C).

    Threads that wait for each other are told to sleep sooner than they would by themselves: beside
    one other busy process, a small training on two cores took 25 s so, and 89 s without; alone it
    took the same.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # read when torch is imported
    app(prog_name="pclbench")


def _show(cause: str, cure: str) -> None:
    print(f"pclbench: {cause}\n  {cure}", file=sys.stderr)
