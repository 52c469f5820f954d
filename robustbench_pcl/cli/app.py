"""The root of the command line: which commands there are, and how mistakes are shown."""

import codecs
import contextlib
import gc
import io
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from robustbench_pcl import plugins
from robustbench_pcl.cli.certify import Certify
from robustbench_pcl.cli.check import Check
from robustbench_pcl.cli.diagnose import Diagnose, Explain
from robustbench_pcl.cli.exchange import Export
from robustbench_pcl.cli.jobs import Cancel, Logs, Status
from robustbench_pcl.cli.listing import (
    AddData,
    DataPath,
    ListAttacks,
    ListData,
    ListModels,
    ListRecipes,
    ShowAttack,
    ShowModel,
    ShowRecipe,
    VerifyData,
)
from robustbench_pcl.cli.make import Attack, Train, Transfer
from robustbench_pcl.cli.output import typed
from robustbench_pcl.cli.report import Report
from robustbench_pcl.cli.reproduce import Ablate, Demo, Run
from robustbench_pcl.cli.store import ListStore, PruneStore, ShowStored
from robustbench_pcl.cli.travel import ExportStore, ImportStore, MergeStore, PublishStore
from robustbench_pcl.cli.verify import Verify
from robustbench_pcl.cli.work import STARTING, USUAL
from robustbench_pcl.errors import UserError, refused, unknown_name
from robustbench_pcl.interruption import exit_code, raising, said
from robustbench_pcl.version import __version__

UNUSABLE, PIPE_CLOSED = 2, 141
MISTAKE: type[Exception] = typer.BadParameter.__mro__[1]
"""What the parser raises when words make no command; typer does not export it by name."""
HELP = ["-h", "--help"]
READABLE = "pclbench-readable"
"""The error handler of streams that cannot write every character."""
ASCII = {"–": "-", "—": "-", "−": "-", "±": "+/-", "≤": "<=", "≥": ">=", "×": "x", "…": "..."}
ASCII |= {"†": "+", "‡": "++", "∞": "inf", "→": "->", "≈": "~", "·": ".", "─": "-", "│": "|"}
"""What stands for characters that have no plain form of their own; Greek letters are named."""
CHOICE = re.compile(r"'--([\w-]+)'.*?'(.*)' is not one of (.*)\.")


class _OptionsOnce:
    """Of a command or group: an option that takes one value is refused when given twice."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command's name; see click.Command."""
        parser = self.make_parser(ctx)  # type: ignore[attr-defined]
        try:
            given = parser.parse_args(list(args))[2]
        except MISTAKE as error:
            error.ctx = ctx  # type: ignore[attr-defined]  # whose --help is to be named
            raise
        for option, count in Counter(given).items():
            if count > 1 and not (option.multiple or option.is_flag or ctx.resilient_parsing):
                cure = "It takes one value: leave the others out."
                raise UserError(f"{option.opts[0]} is given {count} times.", cure)
        return super().parse_args(ctx, args)  # type: ignore[misc, no-any-return]


class _Command(_OptionsOnce, TyperCommand):
    """One command."""


class _Group(_OptionsOnce, TyperGroup):
    """Commands below one word."""


class _Root(_Group):
    """All commands: what they raise arrives here."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> Any:
        """Parse the words into a command, run it and leave the process.

        The code is 0, what the command returns (1: what it looked at is not as it should be), 2
        (the user can mend it), 130 (Ctrl-C), 143 (SIGTERM) or 141 (nobody reads the output).
        Threads that wait for each other are told to sleep sooner than they would by themselves:
        beside one other busy process, a small training on two cores took 25 s so, 89 s without.
        What is imported stays, so garbage is seldom looked for in it: that took 0.7 s.
        """
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # read when torch is imported
        gc.set_threshold(STARTING)
        words = sys.argv[1:] if args is None else list(args)
        asks_for_help = bool(set(HELP) & set(words))
        extra |= {"prog_name": "pclbench", "standalone_mode": False, "obj": asks_for_help}
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=READABLE)
        try:
            command = super().main(words, **extra)
            with raising():
                command = self._carry_out(command, words)
        except (UserError, MISTAKE, OSError) as error:
            sys.exit(_show(error))
        finally:
            gc.set_threshold(*USUAL)
        sys.exit(command if isinstance(command, int) else 0)

    def _carry_out(self, command: Any, words: Sequence[str]) -> Any:
        """Call a command; one that is interrupted says what is kept, and what to type again."""
        try:
            if callable(command):
                command = command()
            if sys.stdout is not None:
                sys.stdout.flush()
        except KeyboardInterrupt as error:
            print(f"pclbench: {said(error)}\n  Continue with: {typed(words)}", file=sys.stderr)
            sys.exit(exit_code(error))
        return command


def _show(error: BaseException) -> int:
    """Say what went wrong in two lines; the exit code.

    Raises:
        OSError: it is none that the user can mend, and so a defect of pclbench.
    """
    match error:
        case BrokenPipeError():
            _let_go_of_output()
            return PIPE_CLOSED
        case OSError():
            if error.filename is None:  # no file, so what is printed
                _let_go_of_output()
                known = refused(error, "the output", "write")
            else:
                known = refused(error, error.filename, "open")
            if known is None:
                raise error
            cause, cure = known.cause, known.cure
        case UserError():
            cause, cure = error.cause, error.cure
        case _:
            return _show_mistake(error)
    print(f"pclbench: {cause}\n  {cure}", file=sys.stderr)
    return UNUSABLE


def _show_mistake(error: Any) -> int:
    """Say why words make no command."""
    message: str = error.format_message()
    if "\n" in message.strip():  # help, since there were no words
        print(message, file=sys.stderr)
    elif message:
        context = getattr(error, "ctx", None)
        below = context.command_path.split()[1:] if context else []
        cause, cure = " ".join(message.split()), "See what it takes: "
        cure += " ".join(["pclbench", *below, "--help."])
        if choice := CHOICE.search(message):
            option, given, known = choice.groups()
            wrong = unknown_name(option, given, re.findall(r"'(.*?)'", known))
            cause, cure = wrong.cause, wrong.cure
        print(f"pclbench: {cause}\n  {cure}", file=sys.stderr)
    return UNUSABLE


def _let_go_of_output() -> None:
    """Send what standard output still holds nowhere, so that leaving does not fail once more."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _readable(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that a stream's encoding lacks, in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = ""
    for character in error.object[error.start : error.end]:
        plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        name = unicodedata.name(character, "")
        letter = name.rpartition(" ")[2].lower() if name.startswith("GREEK") else "?"
        shown += ASCII.get(character) or plain or letter
    return shown, error.end


codecs.register_error(READABLE, _readable)

app = typer.Typer(
    cls=_Root,
    help="Train a defence, attack it, measure transfer, and report tables from stored evidence.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP},
)
COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": Demo,
    "train": Train,
    "attack": Attack,
    "transfer": Transfer,
    "diagnose": Diagnose,
    "explain": Explain,
    "ablate": Ablate,
    "run": Run,
    "report": Report,
    "certify": Certify,
    "check": Check,
    "export": Export,
    "verify": Verify,
}
GROUPS: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "recipes": (
        "List recipes, and show all fields of one.",
        {"list": ListRecipes, "show": ShowRecipe},
    ),
    "attacks": (
        "List attacks and show their parameters.",
        {"list": ListAttacks, "show": ShowAttack},
    ),
    "models": ("List models and show their layers.", {"list": ListModels, "show": ShowModel}),
    "jobs": (
        "Show what runs or ran and what it printed, and stop it.",
        {"status": Status, "logs": Logs, "cancel": Cancel},
    ),
    "data": (
        "List, add and verify data sets.",
        {"list": ListData, "add": AddData, "verify": VerifyData, "path": DataPath},
    ),
    "store": (
        "List what is stored, prune it, publish it, and move it between machines.",
        {
            "list": ListStore,
            "show": ShowStored,
            "prune": PruneStore,
            "export": ExportStore,
            "import": ImportStore,
            "merge": MergeStore,
            "publish": PublishStore,
        },
    ),
}
for word, command in COMMANDS.items():
    app.command(word, cls=_Command)(command)
for word, (summary, commands) in GROUPS.items():
    group = typer.Typer(cls=_Group, help=summary, no_args_is_help=True, rich_markup_mode=None)
    for below, command in commands.items():
        group.command(below, cls=_Command)(command)
    app.add_typer(group, name=word)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE",
            help="Import a module with attacks, losses, ... of your own (docs/extending.md); may "
            "be repeated. PCLBENCH_PLUGINS=a,b does the same.",
            show_default=False,
        ),
    ] = None,
    recipes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Recipes of your own, in TOML (docs/extending.md).",
            envvar="PCLBENCH_RECIPES",
            show_default=False,
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Train a defence, attack it, measure transfer, and report tables from stored evidence."""
    if version:
        print(f"pclbench {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise UserError("There is no command.", "See what there is: pclbench --help.")
    if context.obj:  # help needs neither
        return
    plugins.load_all(plugin or ())
    if recipes is not None:
        from robustbench_pcl.recipes.presets import load_recipes

        load_recipes(recipes)
