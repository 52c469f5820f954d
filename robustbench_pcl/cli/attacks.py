"""``pclbench attacks``: the family of attacks."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

import typer

from robustbench_pcl.cli.console import Format, FormatOption, first_line, print_rows

app = typer.Typer(help="List attacks and show their parameters.", no_args_is_help=True)


@app.command("list")
def list_attacks(form: FormatOption = Format.table) -> None:
    """List the attacks there are."""
    from robustbench_pcl.attacks import ATTACKS

    rows = [
        {"name": name, "norm": ATTACKS[name].norm, "what": first_line(ATTACKS[name])}
        for name in ATTACKS
    ]
    print_rows(rows, form)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The attack.")], form: FormatOption = Format.table
) -> None:
    """Print an attack's parameters; each can be given as --set NAME=VALUE."""
    from robustbench_pcl.attacks import ATTACKS

    attack = ATTACKS[name]
    rows = [
        {
            "parameter": entry.name,
            "default": entry.default,
            "what": entry.metadata.get("doc", ""),
        }
        for entry in fields(attack)
    ]
    print_rows(rows, form, title=first_line(attack))
